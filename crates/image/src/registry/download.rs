//! One blob into the store: taken up again where it broke off, given up when nothing more comes, never stored unverified.

use std::io::Write;
use std::time::{Duration, Instant};

use futures::StreamExt;
use oci_client::RegistryOperation;
use oci_client::client::BlobResponse;
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;

use super::Remote;
use super::failure::{is_mismatch, is_transient, is_unauthorized};
use crate::archive::import::blocking;
use crate::archive::manifest::Descriptor;
use crate::error::Error;
use crate::store::Store;
use crate::store::blobs::BlobWriter;

/// Failures of one blob that are put up with.
const FAILURES_MAX: u32 = 4;

/// Bytes that have to come in the time that a registry may be silent: with less a download never ends.
const PACE_BYTES_MIN: u64 = 16 << 10;

/// Pause after the first failure; doubles.
const PAUSE: Duration = Duration::from_millis(100);

/// Downloads a blob, verifies size and digest, and stores it. `count` hears the number of bytes that are here.
///
/// # Errors
/// What the registry or the disk says; then nothing is stored.
pub(super) async fn download(
    store: &Store,
    remote: &Remote,
    d: &Descriptor,
    what: &str,
    mut count: impl FnMut(u64),
) -> Result<(), Error> {
    let mut transfer = Transfer {
        store,
        remote,
        d,
        writer: store.blobs.writer()?,
        current: 0,
    };
    let (mut failures, mut renewed) = (0, false);
    loop {
        let before = transfer.current;
        let error = match transfer.attempt(&mut count).await {
            Ok(()) => break,
            Err(Failure::Here(error)) => return Err(error),
            Err(Failure::There(error)) => error,
        };
        if is_unauthorized(&error) && !renewed {
            // Long downloads outlive short tokens.
            renewed = true;
            remote.login(RegistryOperation::Pull).await?;
            continue;
        }
        let broke_off = transfer.current > before && transfer.current < d.size;
        // A stream that ends early and says so to nobody shows itself by its digest.
        let short = matches!(&error, OciDistributionError::IoError(e) if is_mismatch(e));
        let silent = is_timeout(&error) && !broke_off;
        let again = !silent && (is_transient(&error) || short && broke_off);
        failures += 1;
        if !again || failures > FAILURES_MAX {
            return Err(remote.error(what, error));
        }
        renewed = false;
        tracing::debug!(%error, what, at = transfer.current, "download is taken up again");
        tokio::time::sleep(PAUSE * (1 << failures.min(5))).await;
    }
    let (size, writer) = (transfer.current, transfer.writer);
    if size != d.size {
        return Err(Error::malformed(
            format!("{what} ({})", d.digest),
            format!("{size} bytes instead of the {} of its manifest", d.size),
        ));
    }
    blocking(|| store.blobs.commit(writer, Some(&d.digest)))?;
    Ok(())
}

/// Why an attempt ended: by us, or by the registry.
enum Failure {
    Here(Error),
    There(OciDistributionError),
}

impl From<OciDistributionError> for Failure {
    fn from(error: OciDistributionError) -> Self {
        Failure::There(error)
    }
}

struct Transfer<'a> {
    store: &'a Store,
    remote: &'a Remote,
    d: &'a Descriptor,
    writer: BlobWriter,
    current: u64,
}

impl Transfer<'_> {
    async fn attempt(&mut self, count: &mut impl FnMut(u64)) -> Result<(), Failure> {
        let client = &self.remote.client;
        let reference = self.remote.reference(None);
        let mut stream = if self.current == 0 {
            client
                .pull_blob_stream(&reference, &descriptor(self.d))
                .await?
        } else {
            let response = client
                .pull_blob_stream_partial(&reference, &descriptor(self.d), self.current, None)
                .await?;
            match response {
                BlobResponse::Partial(stream) => stream,
                BlobResponse::Full(stream) => {
                    // The registry begins anew, and so do we.
                    self.writer = self.store.blobs.writer().map_err(Failure::Here)?;
                    self.current = 0;
                    stream
                }
            }
        };
        let window = self.store.options.timeout;
        let (mut since, mut from) = (Instant::now(), self.current);
        while let Some(chunk) = stream.stream.next().await {
            let chunk = chunk.map_err(OciDistributionError::from)?;
            self.current += chunk.len() as u64;
            if since.elapsed() >= window {
                if self.current - from < PACE_BYTES_MIN && self.current < self.d.size {
                    return Err(Failure::Here(Error::Unreachable {
                        registry: self.remote.name.registry.clone(),
                        reason: format!(
                            "blob {}: {} bytes in {window:?}",
                            self.d.digest,
                            self.current - from
                        ),
                    }));
                }
                (since, from) = (Instant::now(), self.current);
            }
            if self.current > self.d.size {
                let reason = format!("more than the {} bytes of its manifest", self.d.size);
                let what = format!("blob {}", self.d.digest);
                return Err(Failure::Here(Error::malformed(what, reason)));
            }
            let written = self.writer.write_all(&chunk);
            written
                .map_err(Error::io("write", &self.store.root))
                .map_err(Failure::Here)?;
            count(self.current);
        }
        Ok(())
    }
}

fn is_timeout(error: &OciDistributionError) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if cause.to_string().contains("timed out") {
            return true;
        }
        source = match cause.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as _),
            None => cause.source(),
        };
    }
    false
}

fn descriptor(d: &Descriptor) -> OciDescriptor {
    OciDescriptor {
        media_type: d.media_type.clone(),
        digest: d.digest.clone(),
        size: i64::try_from(d.size).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    }
}
