//! What can go wrong, for people: what was attempted, on what, why it failed, what to do.

use std::io;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("no such {what}: {id}")]
    NotFound { what: &'static str, id: String },
    #[error("{what} {id} already exists")]
    AlreadyExists { what: &'static str, id: String },
    #[error("invalid {field}: {reason}")]
    Invalid { field: &'static str, reason: String },
    /// The object is not in a state that allows this (for example: exec in a container that does not run).
    #[error("cannot {action} {what} {id}: it is {state}")]
    State {
        action: &'static str,
        what: &'static str,
        id: String,
        state: String,
    },
    /// The program could not be started. `code` is what Docker reports: 127 not found, 126 not executable, 128 everything else.
    #[error("cannot start container {id}: {reason}")]
    Start {
        id: String,
        reason: String,
        code: i32,
    },
    #[error("cannot run a command in container {id}: {reason}")]
    Exec {
        id: String,
        reason: String,
        code: i32,
    },
    #[error("cannot publish port {address}/{protocol}: {reason}")]
    PortTaken {
        address: String,
        protocol: &'static str,
        reason: String,
    },
    #[error("this kernel lacks {feature}: {hint}")]
    Kernel { feature: String, hint: String },
    #[error("the supervising process of sandbox {sandbox} {reason}")]
    Supervisor { sandbox: String, reason: String },
    #[error("cannot {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("the record {path} is damaged: {reason}; remove the object or restore the file")]
    Corrupt { path: String, reason: String },
    /// A newer version of the program wrote the records.
    #[error(
        "{path} has record format {found}, and this version knows formats up to {known}; run the version that wrote it, or a newer one"
    )]
    NewerFormat {
        path: String,
        found: u32,
        known: u32,
    },
    #[error("{0}")]
    Profile(String),
    #[error("purge is incomplete: {0}")]
    Purge(String),
}

impl Error {
    /// An I/O error with what was attempted on which path.
    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<std::path::Path>,
        source: io::Error,
    ) -> Self {
        Error::Io {
            action,
            path: path.as_ref().display().to_string(),
            source,
        }
    }

    /// The exit code that Docker's tools would show for this error, when it is about starting a program.
    pub fn start_code(&self) -> Option<i32> {
        match self {
            Error::Start { code, .. } | Error::Exec { code, .. } => Some(*code),
            _ => None,
        }
    }
}
