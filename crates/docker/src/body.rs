//! Reading request bodies, with a limit on each.

use std::io::Write;

use futures::StreamExt;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::reply::Refusal;

const JSON_BYTES_MAX: usize = 4 << 20;
/// A build context or an image; on disk, never in memory.
const FILE_BYTES_MAX: u64 = 64 << 30;

/// A JSON document; an empty body is its default.
pub async fn json<T: DeserializeOwned + Default>(body: Incoming) -> Result<T, Refusal> {
    let bytes = Limited::new(body, JSON_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| Refusal::bad(format!("the request's body could not be read (at most {JSON_BYTES_MAX} bytes): {error}")))?
        .to_bytes();
    if bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|error| Refusal::bad(format!("invalid JSON: {error}")))
}

/// The body in a temporary file, at its beginning.
pub async fn file(body: Incoming) -> Result<std::fs::File, Refusal> {
    let mut file = tempfile::Builder::new().prefix("plimsoll-upload-").tempfile()?.into_file();
    let mut stream = body.into_data_stream();
    let mut total = 0u64;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| Refusal::bad(format!("the upload broke off: {error}")))?;
        total += chunk.len() as u64;
        if total > FILE_BYTES_MAX {
            return Err(Refusal::bad(format!("the upload is larger than {FILE_BYTES_MAX} bytes")));
        }
        // the page cache takes it; a block of the disk's time is rare enough not to need another thread
        file.write_all(&chunk)?;
    }
    std::io::Seek::rewind(&mut file)?;
    Ok(file)
}
