//! The server object: what it holds, and the tower services through which roles in this process use it.

use std::collections::{HashMap, HashSet};
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
use crate::custom::live::CustomKinds;
use crate::events::Keep;
use crate::flow::Flows;
use crate::flow::places::Places;
use crate::handlers::addresses::{Addresses, records};
use crate::handlers::health::StoreHealth;
use crate::kubelet::NodeDialer;
use crate::meter::Meter;
use crate::rbac::Live;
use crate::registry::{self, Kind, KindRef};
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
    /// How pods and other ports of nodes are reached.
    pub backends: RwLock<Arc<dyn NodeDialer>>,
    pub addresses: Addresses,
    /// Kinds that CustomResourceDefinitions describe.
    pub custom: CustomKinds,
    /// Uids of the definitions whose objects are being deleted.
    pub terminating: parking_lot::Mutex<HashSet<String>>,
    pub tokens: Tokens,
    /// The requests in flight.
    pub flows: Flows,
    /// What is counted for `/metrics`.
    pub meter: Meter,
    /// Whose turn it is to charge quotas.
    pub charging: tokio::sync::Mutex<()>,
    /// Whether the store answered when it was last asked.
    pub store_health: StoreHealth,
    /// Places for open watches.
    pub watches: Arc<Places>,
    /// Places for what goes through to a kubelet.
    pub streams: Arc<Places>,
    /// Bytes of long answers that are not yet sent.
    pub unsent: Arc<Places>,
    /// Ends the watch caches and every open watch.
    pub shutdown: CancellationToken,
}

impl State {
    /// The watch cache of a kind; kinds that share a storage prefix share it.
    pub fn cache<'a>(&'a self, kind: &'a Kind) -> Option<&'a Arc<Cache>> {
        match &kind.custom {
            Some(custom) => custom.cache.as_ref(),
            None => self.caches.get(kind.storage),
        }
    }

    /// The kind of a resource: of the table, or one that a CustomResourceDefinition describes.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<KindRef> {
        match registry::find(group, version, plural) {
            Some(kind) => Some(kind.into()),
            None => self.custom.find(group, version, plural),
        }
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
            let cache =
                Cache::start(kind.into(), store.clone(), capacity, shutdown.clone()).await?;
            caches.insert(kind.storage, cache);
        }
        let rbac = Arc::new(Live::default());
        let limits = &config.limits;
        let flows = Flows::new(limits.reads_max, limits.writes_max);
        let watches = Places::new(limits.watches_max, limits.watches_per_user_max);
        let unsent = Places::new(limits.unsent_bytes_max, limits.unsent_bytes_per_user_max);
        let streams = Places::new(
            limits.streams_to_nodes_max,
            limits.streams_to_nodes_per_user_max,
        );
        let server = Self {
            state: Arc::new(State {
                config,
                store,
                caches,
                aggregator: Aggregator::default(),
                authorizer: RwLock::new(rbac.clone()),
                rbac,
                dialer: RwLock::new(None),
                backends: RwLock::new(Arc::new(crate::backend::TcpDialer)),
                addresses,
                custom: CustomKinds::default(),
                terminating: parking_lot::Mutex::default(),
                tokens,
                flows,
                meter: Meter::default(),
                charging: tokio::sync::Mutex::new(()),
                store_health: StoreHealth::default(),
                watches,
                streams,
                unsent,
                shutdown,
            }),
        };
        server.state.addresses.load(&server.state).await?;
        crate::bootstrap::run(&server.state).await?;
        records::repair(&server.state).await?;
        crate::rbac::start(&server.state).await?;
        crate::custom::live::start(&server.state).await?;
        let state = &server.state;
        tokio::spawn(crate::bootstrap::keep(Arc::downgrade(state)));
        tokio::spawn(records::follow(Arc::downgrade(state)));
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

    /// Sets how pods are reached that are proxied to; by TCP, if it is not called. Only addresses that are global unicast
    /// are asked for.
    pub fn set_backend_dialer(&self, dialer: Arc<dyn NodeDialer>) {
        *self.state.backends.write() = dialer;
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
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        request.extensions_mut().insert(crate::handlers::InProcess);
        Box::pin(async move { Ok(crate::handlers::handle(state, Some(identity), request).await) })
    }
}
