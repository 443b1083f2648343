//! Errors of the registry client in our words, and which of them a second attempt may cure.

use oci_client::errors::{OciDistributionError, OciErrorCode};

use super::Remote;
use crate::error::Error;

/// Characters of a registry's own words that are passed on; some answer with a whole page.
const REASON_CHARS_MAX: usize = 400;

impl Remote {
    /// Our words for what went wrong.
    pub fn error(&self, action: &str, error: OciDistributionError) -> Error {
        use OciDistributionError as E;
        let name = self.name.to_string();
        let registry = self.name.registry.clone();
        match error {
            E::ImageManifestNotFoundError(_) => Error::RemoteNotFound(name),
            E::ServerError { code: 404, .. } => Error::RemoteNotFound(name),
            E::UnauthorizedError { .. } => Error::Unauthorized {
                reference: name,
                reason: "the registry asks for credentials".into(),
            },
            E::AuthenticationFailure(reason) => Error::Unauthorized {
                reference: name,
                reason: clip(&reason),
            },
            E::ServerError {
                code: 401 | 403,
                message,
                ..
            } => Error::Unauthorized {
                reference: name,
                reason: clip(&message),
            },
            E::RegistryError { envelope, url } => {
                let has = |codes: &[OciErrorCode]| {
                    envelope.errors.iter().any(|e| codes.contains(&e.code))
                };
                if has(&[
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::BlobUnknown,
                    OciErrorCode::NotFound,
                ]) {
                    Error::RemoteNotFound(name)
                } else if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    Error::Unauthorized {
                        reference: name,
                        reason: envelope.to_string(),
                    }
                } else {
                    Error::Registry {
                        registry,
                        action: action.into(),
                        reason: format!("{envelope} ({url})"),
                    }
                }
            }
            E::RequestError(e) if e.is_connect() || e.is_timeout() => Error::Unreachable {
                registry,
                reason: causes(&e),
            },
            E::RequestError(e) => Error::Registry {
                registry,
                action: action.into(),
                reason: causes(&e),
            },
            E::DigestError(oci_client::errors::DigestError::VerificationError {
                expected,
                actual,
            }) => Error::DigestMismatch {
                what: action.into(),
                expected,
                actual,
            },
            E::IoError(e) if is_mismatch(&e) => Error::DigestMismatch {
                what: action.into(),
                expected: "its name".into(),
                actual: e.to_string(),
            },
            E::IoError(e) => Error::Registry {
                registry,
                action: action.into(),
                reason: causes(&e),
            },
            other => Error::Registry {
                registry,
                action: action.into(),
                reason: clip(&other.to_string()),
            },
        }
    }
}

/// Whether the registry refused our credentials: a token may have run out meanwhile.
pub(super) fn is_unauthorized(error: &OciDistributionError) -> bool {
    matches!(
        error,
        OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::ServerError { code: 401, .. }
    )
}

/// Whether the same request may succeed a moment later.
pub(super) fn is_transient(error: &OciDistributionError) -> bool {
    use OciDistributionError as E;
    match error {
        E::RequestError(e) => !e.is_builder() && !e.is_redirect(),
        E::ServerError { code, .. } => *code == 429 || *code >= 500,
        E::IoError(e) => !is_mismatch(e),
        _ => false,
    }
}

/// Whether the stream ended with another digest than it should have.
pub(super) fn is_mismatch(error: &std::io::Error) -> bool {
    // The verifying stream's error has no type of its own that could be asked for.
    error
        .get_ref()
        .is_some_and(|inner| inner.to_string().contains("igest"))
}

fn clip(text: &str) -> String {
    text.trim().chars().take(REASON_CHARS_MAX).collect()
}

/// An error and what caused it, in one line: the top alone says only "error sending request".
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
