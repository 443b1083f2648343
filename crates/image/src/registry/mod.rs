//! Talking to registries: OCI distribution by the `oci-client` crate, its errors in our words.

pub(crate) mod pull;
pub(crate) mod push;

use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;

use crate::error::Error;
use crate::model::Auth;
use crate::reference::Reference;
use crate::store::Store;

/// A registry, one repository in it and our credentials.
pub(crate) struct Remote {
    pub client: oci_client::Client,
    pub auth: RegistryAuth,
    pub name: Reference,
}

impl Remote {
    pub fn new(store: &Store, name: Reference, auth: Option<Auth>) -> Remote {
        // The first provider installed in a process stays; a second attempt is refused, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = name.is_loopback() || store.options.plain_http.contains(&name.registry);
        let config = ClientConfig {
            protocol: if plain {
                ClientProtocol::Http
            } else {
                ClientProtocol::Https
            },
            connect_timeout: Some(Duration::from_secs(15)),
            read_timeout: Some(Duration::from_secs(60)),
            use_monolithic_push: true,
            user_agent: concat!("plimsoll/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let auth = match auth {
            None => RegistryAuth::Anonymous,
            Some(Auth::Basic { username, password }) => RegistryAuth::Basic(username, password),
            Some(Auth::Bearer(token)) => RegistryAuth::Bearer(token),
        };
        Remote {
            client: oci_client::Client::new(config),
            auth,
            name,
        }
    }

    /// The repository, at the given digest or at the name's own tag or digest.
    pub fn reference(&self, digest: Option<&str>) -> oci_client::Reference {
        let (registry, repository) = (self.name.registry.clone(), self.name.repository.clone());
        match digest.or(self.name.digest.as_deref()) {
            Some(digest) => {
                oci_client::Reference::with_digest(registry, repository, digest.to_owned())
            }
            None => {
                let tag = self.name.tag.clone().unwrap_or_else(|| "latest".into());
                oci_client::Reference::with_tag(registry, repository, tag)
            }
        }
    }

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
                reason,
            },
            E::ServerError {
                code: 401 | 403,
                message,
                ..
            } => Error::Unauthorized {
                reference: name,
                reason: message,
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
            E::IoError(e)
                if e.get_ref()
                    .is_some_and(|inner| inner.to_string().contains("igest")) =>
            {
                Error::DigestMismatch {
                    what: action.into(),
                    expected: "its name".into(),
                    actual: e.to_string(),
                }
            }
            other => Error::Registry {
                registry,
                action: action.into(),
                reason: other.to_string(),
            },
        }
    }
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
