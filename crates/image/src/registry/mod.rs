//! Talking to registries: OCI distribution by the `oci-client` crate, its errors in our words.

mod answers;
mod download;
mod failure;
mod login;
pub(crate) mod pull;
pub(crate) mod push;
mod trust;

use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::token_cache::RegistryTokenType;
use parking_lot::Mutex;
use reqwest::RequestBuilder;

use crate::error::Error;
use crate::model::Auth;
use crate::reference::Reference;
use crate::registries::Mirror;
use crate::store::Store;

/// A host that does not even take the connection is not waited for longer.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(15);

/// A registry, one repository in it and our credentials.
pub(crate) struct Remote {
    pub client: oci_client::Client,
    /// For small answers, which the client above would read however long they are.
    http: reqwest::Client,
    auth: Option<Auth>,
    /// From the last login.
    token: Mutex<Option<RegistryTokenType>>,
    pub name: Reference,
    plain: bool,
    /// How long a small answer may take in all.
    deadline: Duration,
}

/// How a registry is spoken to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Security {
    /// By HTTPS, with a certificate that somebody vouches for.
    Verified,
    /// By HTTPS, whatever the certificate.
    Unverified,
    /// By HTTP.
    Plain,
}

impl Remote {
    /// Prepares a client. Nothing is sent yet, but to registries that are said to be insecure: they are asked whether they speak
    /// TLS.
    ///
    /// # Errors
    /// When a certificate that the registry is to be trusted by cannot be read.
    pub async fn open(store: &Store, name: Reference, auth: Option<Auth>) -> Result<Remote, Error> {
        if !store.options.registries.is_insecure(&name.registry) {
            return Remote::new(store, name, auth, Security::Verified);
        }
        let remote = Remote::new(store, name.clone(), auth.clone(), Security::Unverified)?;
        match remote.http.get(remote.url("")).send().await {
            Ok(_) => Ok(remote),
            Err(_) => Remote::new(store, name, auth, Security::Plain),
        }
    }

    /// The same repository at a mirror.
    ///
    /// # Errors
    /// As [`Remote::open`].
    pub async fn at(store: &Store, mirror: &Mirror, name: &Reference) -> Result<Remote, Error> {
        let name = Reference {
            registry: mirror.host.as_str().to_owned(),
            ..name.clone()
        };
        match mirror.plain {
            true => Remote::new(store, name, None, Security::Plain),
            false => Remote::open(store, name, None).await,
        }
    }

    fn new(
        store: &Store,
        name: Reference,
        auth: Option<Auth>,
        security: Security,
    ) -> Result<Remote, Error> {
        // The first provider installed in a process stays; a second attempt is refused, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authorities = trust::authorities(&store.options.certificates, &name.registry)?;
        // A registry on this machine has TLS only if someone said whom to trust there.
        let plain = security == Security::Plain
            || security == Security::Verified && name.is_loopback() && authorities.is_empty();
        let unverified = security == Security::Unverified;
        let config = ClientConfig {
            protocol: if plain {
                ClientProtocol::Http
            } else {
                ClientProtocol::Https
            },
            connect_timeout: Some(store.options.timeout.min(CONNECT_TIMEOUT_MAX)),
            read_timeout: Some(store.options.timeout),
            extra_root_certificates: authorities,
            accept_invalid_certificates: unverified,
            use_monolithic_push: true,
            user_agent: concat!("plimsoll/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let failed = |reason: String| Error::Registry {
            registry: name.registry.clone(),
            action: "the set-up of its client".into(),
            reason,
        };
        let trusted = config
            .extra_root_certificates
            .iter()
            .map(|certificate| reqwest::Certificate::from_pem(&certificate.data))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| failed(e.to_string()))?;
        let http = reqwest::Client::builder()
            .tls_certs_merge(trusted)
            .danger_accept_invalid_certs(unverified)
            .connect_timeout(store.options.timeout.min(CONNECT_TIMEOUT_MAX))
            .read_timeout(store.options.timeout)
            .user_agent(config.user_agent)
            .build()
            .map_err(|e| failed(e.to_string()))?;
        // Not `Client::new`: that would fall back to a client without our settings.
        let client = oci_client::Client::try_from(config).map_err(|e| failed(e.to_string()))?;
        Ok(Remote {
            client,
            http,
            auth,
            token: Mutex::default(),
            name,
            plain,
            deadline: store.options.timeout * 2,
        })
    }

    /// Address of something of the registry's API.
    fn url(&self, path: &str) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        let reference = self.reference(None);
        format!("{scheme}://{}/v2/{path}", reference.resolve_registry())
    }

    /// With what the last login gave.
    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &*self.token.lock() {
            None => request,
            Some(RegistryTokenType::Bearer(token)) => request.bearer_auth(token.token()),
            Some(RegistryTokenType::Basic(username, password)) => {
                request.basic_auth(username, Some(password))
            }
        }
    }

    /// Waits for a small answer: one that comes byte by byte is not silent, and would hold its pull for ever.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when it is not whole in time.
    pub async fn soon<T>(&self, what: &str, answer: impl Future<Output = T>) -> Result<T, Error> {
        let waited = tokio::time::timeout(self.deadline, answer).await;
        waited.map_err(|_| Error::Unreachable {
            registry: self.name.registry.clone(),
            reason: format!("{what} was not whole after {:?}", self.deadline),
        })
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
}
