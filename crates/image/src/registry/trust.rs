//! Certificate authorities that a registry is trusted by, in the directories that Docker reads.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use oci_client::client::{Certificate, CertificateEncoding};

use crate::error::Error;

/// Reads the `*.crt` files of `directory`/`registry`; no such directory is none.
///
/// # Errors
/// A file that is there but cannot be read: to leave it out would look like an untrusted registry.
pub(super) fn authorities(directory: &Path, registry: &str) -> Result<Vec<Certificate>, Error> {
    // It becomes a path; names of registries have neither, but nothing here depends on that.
    if registry.contains('/') || registry.starts_with('.') {
        return Ok(Vec::new());
    }
    let directory = directory.join(registry);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", directory)(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("read", &directory))?.path();
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => {
                let data = fs::read(&path).map_err(Error::io("read", &path))?;
                if !data.windows(11).any(|w| w == b"-----BEGIN ") {
                    return Err(Error::malformed(
                        path.display().to_string(),
                        "a certificate in PEM form is needed",
                    ));
                }
                found.extend(split(&data));
            }
            Some("cert" | "key") => {
                tracing::warn!(path = %path.display(), "client certificates for registries are not supported");
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The client takes one certificate at a time; files often hold a chain.
fn split(pem: &[u8]) -> Vec<Certificate> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(pem);
    text.split_inclusive(END)
        .filter(|part| part.contains("-----BEGIN CERTIFICATE-----"))
        .map(|part| Certificate {
            encoding: CertificateEncoding::Pem,
            data: part.as_bytes().to_vec(),
        })
        .collect()
}
