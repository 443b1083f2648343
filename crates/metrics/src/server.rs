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

use crate::api;
use crate::collector;
use crate::store::Store;

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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            window: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            stale: Duration::from_secs(15),
            page_bytes_max: 16 * 1024 * 1024,
        }
    }
}

/// Collects usage from every node and answers metrics.k8s.io. Clones share everything.
#[derive(Clone)]
pub struct Server {
    pub(crate) client: kube::Client,
    pub(crate) config: Config,
    pub(crate) store: Arc<Mutex<Store>>,
}

impl Server {
    /// A server that has collected nothing yet.
    pub fn new(client: kube::Client, config: Config) -> Self {
        Self {
            client,
            config,
            store: Arc::default(),
        }
    }

    /// Watches nodes and pods and scrapes every node each interval, until `shutdown` is cancelled. Nodes that hang
    /// or fail hold nobody else back.
    pub async fn collect(&self, shutdown: CancellationToken) {
        collector::collect(self, shutdown).await;
    }

    /// The service that answers `/apis/metrics.k8s.io/v1beta1/...`, from memory.
    pub fn service(&self) -> Service {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Bytes>| {
            let response = server.answer(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        BoxCloneService::new(service.map_err(|never: Infallible| match never {}))
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let stale = SignedDuration::try_from(self.config.stale).unwrap_or(SignedDuration::MAX);
        let oldest = Timestamp::now()
            .saturating_sub(stale)
            .unwrap_or(Timestamp::MIN);
        api::answer(&self.store.lock(), oldest, request)
    }
}
