//! What can go wrong when a server is opened or its keys are made (request errors are [`crate::ApiError`]).

use std::path::PathBuf;

/// Failure of the server itself, as opposed to an answer to a request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused an operation the server cannot start without.
    #[error("the API server could not {attempt}: {source}")]
    Store {
        attempt: String,
        source: store::Error,
    },
    /// The service range is not an IPv4 network with room for services.
    #[error(
        "service range {value:?} is not usable: {reason}; give an IPv4 network such as 10.96.0.0/16"
    )]
    ServiceCidr { value: String, reason: String },
    /// A file of the PKI could not be read or written.
    #[error("could not {attempt} {path}: {source}")]
    File {
        attempt: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// A key or certificate could not be made or understood.
    #[error("could not {attempt}: {reason}")]
    Certificate { attempt: String, reason: String },
    /// An object the server makes at start was refused.
    #[error("could not create {what} at start: {reason}")]
    Bootstrap { what: String, reason: String },
}
