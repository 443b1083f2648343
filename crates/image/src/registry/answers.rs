//! Requests for small answers, of which no more is taken in than they may have: a registry may send without end.

use oci_client::errors::{OciDistributionError, OciEnvelope};
use reqwest::{Response, StatusCode};

/// A manifest or an index; what containerd takes.
pub(super) const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// A token server's answer.
pub(super) const TOKEN_BYTES_MAX: usize = 1 << 20;

/// What is read of an answer that tells of an error.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// The body of an answer; `None` when it is longer than it may be.
pub(super) async fn body(
    response: Response,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, OciDistributionError> {
    let (bytes, whole) = read(response, bytes_max).await?;
    Ok(whole.then_some(bytes))
}

/// The beginning of an error's text.
pub(super) async fn reason(response: Response) -> Vec<u8> {
    // What does not come is not needed.
    read(response, ERROR_BYTES_MAX).await.unwrap_or_default().0
}

async fn read(mut response: Response, bytes_max: usize) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = bytes_max - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((bytes, false));
        }
    }
    Ok((bytes, true))
}

/// The error that an answer other than 200 tells.
pub(super) async fn refusal(response: Response) -> OciDistributionError {
    let (status, url) = (response.status(), response.url().to_string());
    let body = reason(response).await;
    if status == StatusCode::UNAUTHORIZED {
        return OciDistributionError::UnauthorizedError { url };
    }
    match serde_json::from_slice::<OciEnvelope>(&body) {
        Ok(envelope) if status.is_client_error() => {
            OciDistributionError::RegistryError { envelope, url }
        }
        _ => OciDistributionError::ServerError {
            code: status.as_u16(),
            url,
            message: String::from_utf8_lossy(&body).into_owned(),
        },
    }
}
