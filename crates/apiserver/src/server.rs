//! The server object: what it holds, and the tower services through which roles in this process use it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::RwLock;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::aggregate::{AggregatedResource, AggregatedResources, AggregatedService, Aggregator};
use crate::auth::{Authorizer, Identity};
use crate::cache::{Cache, Capacity};
use crate::events::Keep;
use crate::handlers::addresses::Addresses;
use crate::kubelet::NodeDialer;
use crate::rbac::Live;
use crate::registry::{self, Kind};
use crate::tokens::Tokens;
use crate::{Config, Error};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Body of every response: whole, or a stream (watch, log, proxied).
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// One API server over one store. Cheap to clone; all clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    pub(crate) state: Arc<State>,
}

pub(crate) struct State {
    pub config: Config,
    pub store: Arc<dyn Store>,
    pub caches: HashMap<&'static str, Arc<Cache>>,
    pub aggregator: Aggregator,
    pub authorizer: RwLock<Arc<dyn Authorizer>>,
    /// What roles and bindings say now; the authorizer, unless another was set.
    pub rbac: Arc<Live>,
    pub dialer: RwLock<Option<Arc<dyn NodeDialer>>>,
    pub addresses: Addresses,
    pub tokens: Tokens,
    /// Places for open watches.
    pub watches: Arc<tokio::sync::Semaphore>,
    /// Ends the watch caches and every open watch.
    pub shutdown: CancellationToken,
}

impl State {
    /// The watch cache of a kind; kinds that share a storage prefix share it.
    pub fn cache(&self, kind: &Kind) -> Option<&Arc<Cache>> {
        self.caches.get(kind.storage)
    }
}

/// Ends the background tasks when the last clone of the server goes.
impl Drop for State {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl ApiServer {
    /// Starts the watch caches on `store` and makes the objects every cluster has (four namespaces, the service
    /// `default/kubernetes`, upstream's roles and their bindings). Must be called inside a tokio runtime.
    pub async fn open(config: Config, store: Arc<dyn Store>) -> Result<Self, Error> {
        let addresses = Addresses::new(&config)?;
        let tokens = Tokens::open(&config.data_dir.join("pki"), &config.cluster_domain)?;
        let shutdown = CancellationToken::new();
        let mut caches = HashMap::new();
        let capacity = Capacity {
            changes: config.watch_window,
            bytes: config.watch_window_bytes,
        };
        for kind in registry::all() {
            if kind.storage.is_empty() || caches.contains_key(kind.storage) {
                continue;
            }
            let cache = Cache::start(kind, store.clone(), capacity, shutdown.clone()).await?;
            caches.insert(kind.storage, cache);
        }
        let rbac = Arc::new(Live::default());
        let watches = Arc::new(tokio::sync::Semaphore::new(config.limits.watches_max));
        let server = Self {
            state: Arc::new(State {
                config,
                store,
                caches,
                aggregator: Aggregator::default(),
                authorizer: RwLock::new(rbac.clone()),
                rbac,
                dialer: RwLock::new(None),
                addresses,
                tokens,
                watches,
                shutdown,
            }),
        };
        server.state.addresses.load(&server.state).await?;
        crate::bootstrap::run(&server.state).await?;
        crate::rbac::start(&server.state).await?;
        let state = &server.state;
        tokio::spawn(crate::bootstrap::keep(Arc::downgrade(state)));
        tokio::spawn(crate::events::run(
            state.store.clone(),
            Keep {
                ttl: state.config.event_ttl,
                most: state.config.events_max,
            },
            state.shutdown.clone(),
        ));
        Ok(server)
    }

    /// A tower service that answers as if `identity` had asked over TLS; for `kube::Client::new`.
    pub fn client_service(&self, identity: Identity) -> ClientService {
        ClientService {
            state: self.state.clone(),
            identity: identity.authenticated(),
        }
    }

    /// A client without a socket. Must be called inside a tokio runtime.
    pub fn in_process_client(&self, identity: Identity) -> kube::Client {
        kube::Client::new(self.client_service(identity), "default")
    }

    /// Answers on `listener` until `shutdown`; open watches end cleanly then.
    pub async fn serve(
        &self,
        listener: tokio::net::TcpListener,
        tls: Arc<rustls::ServerConfig>,
        shutdown: CancellationToken,
    ) {
        crate::serve::run(self.state.clone(), listener, tls, shutdown).await;
    }

    /// Sets how kubelets are reached. Before this, log, exec and the node proxy answer 503.
    pub fn set_node_dialer(&self, dialer: Arc<dyn NodeDialer>) {
        *self.state.dialer.write() = Some(dialer);
    }

    /// Replaces the authoriser. It is not asked about members of `system:masters`.
    pub fn set_authorizer(&self, authorizer: Arc<dyn Authorizer>) {
        *self.state.authorizer.write() = authorizer;
    }

    /// Lets `service` answer `/apis/GROUP/VERSION/...`; its resources appear in discovery.
    pub fn aggregate(
        &self,
        group: &str,
        version: &str,
        resources: Vec<AggregatedResource>,
        service: AggregatedService,
    ) {
        self.aggregate_listed(group, version, Arc::new(move || resources.clone()), service);
    }

    /// Like [`ApiServer::aggregate`], for resources that come and go: discovery asks each time.
    pub fn aggregate_listed(
        &self,
        group: &str,
        version: &str,
        resources: AggregatedResources,
        service: AggregatedService,
    ) {
        self.state
            .aggregator
            .register(group, version, resources, service);
    }

    /// Ends the watch caches and every watch. A server that was stopped answers no more.
    pub fn stop(&self) {
        self.state.shutdown.cancel();
    }
}

/// See [`ApiServer::client_service`].
#[derive(Clone)]
pub struct ClientService {
    state: Arc<State>,
    identity: Identity,
}

impl<B> tower::Service<http::Request<B>> for ClientService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<ResponseBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let state = self.state.clone();
        let identity = self.identity.clone();
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        Box::pin(async move { Ok(crate::handlers::handle(state, Some(identity), request).await) })
    }
}
