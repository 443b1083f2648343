//! The collector and the API in one value that both tasks share.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower::util::BoxCloneService;

use crate::collector;
use crate::custom::Limits;
use crate::custom::api::{CUSTOM, CUSTOM_VERSIONS, EXTERNAL, EXTERNAL_VERSION, View};
use crate::custom::scraper::Shared;
use crate::custom::services::{ServiceSource, Services};
use crate::refusal::reading;
use crate::resources::{GROUP, GroupVersion, Resource, VERSION, resources};
use crate::store::Store;
use crate::{api, custom};

/// Error of [`Service`]; it never occurs, failures are HTTP answers.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the API server's aggregation mounts.
pub type Service = BoxCloneService<Request<Bytes>, Response<Bytes>, BoxError>;

/// How often is sampled, and over how long a rate is taken.
#[derive(Clone, Debug)]
pub struct Config {
    /// Time between two scrapes of one node.
    pub interval: Duration,
    /// Length of the window of CPU rates; the crate's documentation says why five seconds.
    pub window: Duration,
    /// Longest that one scrape may take.
    pub timeout: Duration,
    /// Age from which a measurement is no longer told, because its node does not answer.
    pub stale: Duration,
    /// Longest page that a node may answer with, in bytes; a longer one is dropped.
    pub page_bytes_max: usize,
    /// Bounds of what pods expose themselves.
    pub custom: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            window: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            stale: Duration::from_secs(15),
            page_bytes_max: 16 * 1024 * 1024,
            custom: Limits::default(),
        }
    }
}

/// Collects usage from every node and answers metrics.k8s.io. Clones share everything.
#[derive(Clone)]
pub struct Server {
    pub(crate) client: kube::Client,
    pub(crate) config: Config,
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) services: Arc<Mutex<Services>>,
    pub(crate) scraped: Shared,
    source: Option<Arc<dyn ServiceSource>>,
}

impl Server {
    /// A server that has collected nothing yet.
    pub fn new(client: kube::Client, config: Config) -> Self {
        Self {
            scraped: Shared::new(config.custom.clone()),
            client,
            config,
            store: Arc::default(),
            services: Arc::default(),
            source: None,
        }
    }

    /// Asks `source` for the metrics of Services before their pods are asked.
    pub fn with_service_source(mut self, source: Arc<dyn ServiceSource>) -> Self {
        self.source = Some(source);
        self
    }

    /// Watches nodes, pods and Services; scrapes every node, and every pod that wants it, each interval; until `shutdown` is cancelled. Nodes that hang
    /// or fail hold nobody else back.
    pub async fn collect(&self, shutdown: CancellationToken) {
        collector::collect(self, shutdown).await;
    }

    /// The service that answers `/apis/metrics.k8s.io/v1beta1/...`, from memory.
    pub fn service(&self) -> Service {
        self.serve(Self::answer)
    }

    /// Every group version that is answered, in the order in which discovery should list them.
    pub fn group_versions(&self) -> Vec<GroupVersion> {
        let usage = GroupVersion {
            group: GROUP,
            version: VERSION,
            resources: Arc::new(resources),
            service: self.service(),
        };
        let custom = CUSTOM_VERSIONS.map(|version| GroupVersion {
            group: CUSTOM,
            version,
            resources: self.list(custom::api::custom_resources),
            service: self.serve(move |server, request| {
                reading(request.method(), CUSTOM, || {
                    server.view(|view| custom::api::custom(view, version, request))
                })
            }),
        });
        let external = GroupVersion {
            group: EXTERNAL,
            version: EXTERNAL_VERSION,
            resources: self.list(custom::api::external_resources),
            service: self.serve(|server, request| {
                reading(request.method(), EXTERNAL, || {
                    server.view(|view| custom::api::external(view, request))
                })
            }),
        };
        [usage]
            .into_iter()
            .chain(custom)
            .chain([external])
            .collect()
    }

    fn serve(
        &self,
        answer: impl Fn(&Self, &Request<Bytes>) -> Response<Bytes> + Clone + Send + 'static,
    ) -> Service {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Bytes>| {
            let response = answer(&server, &request);
            async move { Ok::<_, Infallible>(response) }
        });
        BoxCloneService::new(service.map_err(|never: Infallible| match never {}))
    }

    fn list(
        &self,
        list: impl Fn(&View<'_>) -> Vec<Resource> + Send + Sync + 'static,
    ) -> Arc<dyn Fn() -> Vec<Resource> + Send + Sync> {
        let server = self.clone();
        Arc::new(move || server.view(&list))
    }

    fn view<T>(&self, read: impl FnOnce(&View<'_>) -> T) -> T {
        let (store, services) = (self.store.lock(), self.services.lock());
        let series = self.scraped.series.lock();
        read(&View {
            store: &store,
            series: &series,
            services: &services,
            source: self.source.as_deref(),
            now: custom::api::Now {
                monotonic: self.scraped.epoch.elapsed(),
                wall: Timestamp::now(),
            },
        })
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let stale = SignedDuration::try_from(self.config.stale).unwrap_or(SignedDuration::MAX);
        let oldest = Timestamp::now()
            .saturating_sub(stale)
            .unwrap_or(Timestamp::MIN);
        api::answer(&self.store.lock(), oldest, request)
    }
}
