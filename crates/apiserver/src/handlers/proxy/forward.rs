//! One request handed on over one connection. Upgrades (WebSocket, SPDY) are passed through: both sides switch protocols and
//! the bytes are copied.

use http::StatusCode;
use http::header::{CONNECTION, TRANSFER_ENCODING};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::super::finish::Verbatim;
use super::super::respond::{self, Response};
use crate::BoxError;
use crate::flow::places::Place;
use crate::kubelet::NodeStream;
use crate::server::RequestBody;
use crate::status::ApiError;

/// What came of a request.
pub enum Outcome {
    /// The protocols were switched; this is the answer that says so.
    Upgraded(Response),
    /// An ordinary answer, and the place that is held until it has been read.
    Answered(http::Response<Incoming>, Place),
}

/// Sends `request` over `stream`. `failed` says in words that the other side cannot be reached.
pub async fn send(
    stream: Box<dyn NodeStream>,
    request: http::Request<RequestBody>,
    client_side: Option<OnUpgrade>,
    place: Place,
    failed: impl Fn(&dyn std::fmt::Display) -> ApiError,
) -> Result<Outcome, ApiError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed(&e))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection ended");
        }
    });
    let mut answer = sender.send_request(request).await.map_err(|e| failed(&e))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Outcome::Answered(answer, place));
    }
    let Some(client_side) = client_side else {
        return Err(ApiError::bad_request("this connection cannot be upgraded"));
    };
    let other_side = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        splice(client_side, other_side).await;
        drop(place);
    });
    let mut response = http::Response::new(respond::full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers().clone();
    Ok(Outcome::Upgraded(response))
}

/// The answer as it came, without what is of its connection alone; the place is held as long as the bytes flow.
pub fn passed(answer: http::Response<Incoming>, place: Place) -> Response {
    let mut response = http::Response::new(());
    *response.status_mut() = answer.status();
    for (name, value) in answer.headers() {
        if *name != CONNECTION && *name != TRANSFER_ENCODING {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    response.extensions_mut().insert(Verbatim);
    let body = answer
        .into_body()
        .map_err(Into::into)
        .map_frame(move |frame| {
            let _held = &place;
            frame
        });
    response.map(|()| body.boxed_unsync())
}

async fn splice(client: OnUpgrade, other: OnUpgrade) {
    let copied = async {
        let (client, other) = tokio::try_join!(client, other)?;
        tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(other)).await?;
        Ok::<_, BoxError>(())
    };
    if let Err(error) = copied.await {
        tracing::debug!(%error, "an upgraded connection ended");
    }
}
