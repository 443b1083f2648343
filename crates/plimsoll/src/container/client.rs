//! HTTP over the instance's Docker socket.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::instance::Instance;

/// The API version that this client speaks.
const VERSION: &str = "/v1.43";
/// No JSON document of the API is larger.
const JSON_BYTES_MAX: usize = 64 << 20;

pub type Body = BoxBody<Bytes, std::io::Error>;

/// One connection a request: the socket is local.
pub struct Client {
    socket: PathBuf,
}

/// A body that is all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// A name as one segment of a path or one value of a query.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

impl Client {
    pub fn new(instance: &Instance) -> Self {
        Self {
            socket: instance.docker_socket(),
        }
    }

    /// Sends a request; the answer's status has not been looked at.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            format!(
                "cannot connect to {}; is the daemon up? `plimsoll status` tells",
                self.socket.display()
            )
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender.send_request(request).await?)
    }

    /// A request to a path of the API; a refusal becomes an error with the server's message.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Body,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{VERSION}{path}"))
            .header("host", "plimsoll");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.send(request.body(body)?).await?;
        let status = response.status();
        if status.is_success() || status.is_informational() || status.is_redirection() {
            return Ok(response);
        }
        let text = response
            .into_body()
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        let message = serde_json::from_slice::<Value>(&text)
            .ok()
            .and_then(|value| value["message"].as_str().map(str::to_owned));
        bail!(
            "{}",
            message.unwrap_or_else(|| format!("the Docker API answered {status}"))
        )
    }

    pub async fn get_json(&self, path: &str) -> Result<Value> {
        json(self.request(Method::GET, path, full(""), &[]).await?).await
    }

    pub async fn post_json(&self, path: &str, value: &Value) -> Result<Value> {
        let response = self
            .request(
                Method::POST,
                path,
                full(value.to_string()),
                &[("content-type", "application/json")],
            )
            .await?;
        json(response).await
    }

    pub async fn post(&self, path: &str) -> Result<()> {
        self.request(Method::POST, path, full(""), &[])
            .await
            .map(drop)
    }

    pub async fn delete(&self, path: &str) -> Result<()> {
        self.request(Method::DELETE, path, full(""), &[])
            .await
            .map(drop)
    }

    /// A raw byte stream in both directions (attach, exec).
    pub async fn hijack(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<TokioIo<hyper::upgrade::Upgraded>> {
        let headers = [
            ("connection", "Upgrade"),
            ("upgrade", "tcp"),
            ("content-type", "application/json"),
        ];
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let response = self
            .request(Method::POST, path, full(text), &headers)
            .await?;
        Ok(TokioIo::new(
            hyper::upgrade::on(response)
                .await
                .context("the connection could not be taken over")?,
        ))
    }
}

async fn json(response: Response<Incoming>) -> Result<Value> {
    let body = http_body_util::Limited::new(response.into_body(), JSON_BYTES_MAX)
        .collect()
        .await;
    let bytes = body
        .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?
        .to_bytes();
    if bytes.is_empty() {
        Ok(Value::Null)
    } else {
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// Calls `each` with every JSON message of a progress stream; an `error` message ends it with that error.
pub async fn messages(response: Response<Incoming>, mut each: impl FnMut(&Value)) -> Result<()> {
    let mut body = response.into_body().into_data_stream();
    let mut rest: Vec<u8> = Vec::new();
    while let Some(chunk) = body.next().await {
        rest.extend_from_slice(&chunk?);
        if rest.len() > JSON_BYTES_MAX {
            bail!("the server sent a message without end");
        }
        let mut used = 0;
        let mut stream = serde_json::Deserializer::from_slice(&rest).into_iter::<Value>();
        while let Some(Ok(message)) = stream.next() {
            used = stream.byte_offset();
            if let Some(error) = message["errorDetail"]["message"]
                .as_str()
                .or_else(|| message["error"].as_str())
            {
                bail!("{error}");
            }
            each(&message);
        }
        rest.drain(..used);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded() {
        assert_eq!(encode("localhost:5000/a b"), "localhost%3A5000%2Fa%20b");
    }
}
