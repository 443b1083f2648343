//! Answers: JSON, streams, and refusals with Docker's status codes and `{"message": …}`.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

/// Body of every answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// What a handler gives.
pub type Answer = Result<Response<Body>, Refusal>;

/// Why a request was not done.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    pub message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub fn response(self) -> Response<Body> {
        let mut response = Response::new(full(json!({ "message": self.message }).to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json"),
        );
        response
    }
}

impl From<engine::Error> for Refusal {
    fn from(error: engine::Error) -> Self {
        let message = error.to_string();
        match error {
            engine::Error::NotFound { .. } => Self::not_found(message),
            engine::Error::AlreadyExists { .. } | engine::Error::State { .. } => {
                Self::conflict(message)
            }
            engine::Error::Invalid { .. } => Self::bad(message),
            // the docker command turns these words into the exit codes 126 and 127
            engine::Error::Start { reason, .. } => {
                Self::bad(format!("failed to create task for container: {reason}"))
            }
            _ => Self::internal(message),
        }
    }
}

impl From<image::Error> for Refusal {
    fn from(error: image::Error) -> Self {
        let message = error.to_string();
        match error {
            image::Error::NotFound(_)
            | image::Error::RemoteNotFound(_)
            | image::Error::Unauthorized { .. } => Self::not_found(message),
            image::Error::InvalidReference { .. } | image::Error::Ambiguous(_) => {
                Self::bad(message)
            }
            image::Error::InUse { .. } => Self::conflict(message),
            _ => Self::internal(message),
        }
    }
}

impl From<network::Error> for Refusal {
    fn from(error: network::Error) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<tokio::task::JoinError> for Refusal {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(format!("the work was broken off: {error}"))
    }
}

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A JSON document with status 200.
pub fn json_of(value: &impl Serialize) -> Answer {
    json_with(StatusCode::OK, value)
}

/// A JSON document.
pub fn json_with(status: StatusCode, value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).map_err(|error| Refusal::internal(error.to_string()))?;
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

/// A status without content.
pub fn empty(status: StatusCode) -> Answer {
    let mut response = Response::new(full(""));
    *response.status_mut() = status;
    Ok(response)
}

/// Bytes as they come.
pub fn stream(
    content_type: &'static str,
    chunks: impl Stream<Item = Bytes> + Send + 'static,
) -> Answer {
    let frames = chunks.map(|chunk| Ok(hyper::body::Frame::data(chunk)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    Ok(response)
}

/// What a long work tells while it goes on, then its last word: never the other way round. The work runs in a task of its own and is
/// given up when the stream is dropped, that is when the client goes away.
pub fn narrated<E: Send + 'static>(
    events: mpsc::Receiver<E>,
    work: impl Future<Output = Option<Bytes>> + Send + 'static,
    tell: impl Fn(E) -> Option<Bytes> + Send + 'static,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let work = AbortOnDropHandle::new(tokio::spawn(work));
    let end = async move {
        work.await.unwrap_or_else(|error| {
            let text = format!("the work was broken off: {error}");
            Some(line(
                &json!({ "errorDetail": { "message": text }, "error": text }),
            ))
        })
    };
    ReceiverStream::new(events)
        .filter_map(move |event| futures::future::ready(tell(event)))
        .chain(futures::stream::once(end).filter_map(futures::future::ready))
}

/// One line of a progress stream.
pub fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_word_comes_last() {
        for _ in 0..50 {
            let (events_in, events) = mpsc::channel(8);
            let work = async move {
                for number in 0..3 {
                    let _ = events_in.send(number).await;
                }
                Some(Bytes::from("end"))
            };
            let told = narrated(events, work, |number: i32| {
                Some(Bytes::from(number.to_string()))
            });
            let told: Vec<Bytes> = told.collect().await;
            assert_eq!(told, ["0", "1", "2", "end"]);
        }
    }

    #[tokio::test]
    async fn a_panic_is_told() {
        let (_events_in, events) = mpsc::channel::<()>(1);
        drop(_events_in);
        let work = async { panic!("on purpose") };
        let told: Vec<Bytes> = narrated(events, work, |()| None).collect().await;
        assert!(String::from_utf8_lossy(&told[0]).contains("broken off"));
    }
}
