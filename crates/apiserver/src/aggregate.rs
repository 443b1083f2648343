//! Group versions that another service answers: they appear in discovery, and their requests are handed on.

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use tower::util::BoxCloneService;

use crate::BoxError;

/// One resource of an aggregated group version, as discovery shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregatedResource {
    pub name: String,
    pub singular: String,
    pub kind: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub short_names: Vec<String>,
}

/// The service that answers an aggregated group version. It receives the path unchanged.
pub type AggregatedService = BoxCloneService<http::Request<Bytes>, http::Response<Bytes>, BoxError>;

/// Tells the resources of an aggregated group version as they are now. A name may have a slash (`pods/METRIC`).
pub type AggregatedResources = Arc<dyn Fn() -> Vec<AggregatedResource> + Send + Sync>;

pub(crate) struct Aggregated {
    pub group: String,
    pub version: String,
    pub resources: AggregatedResources,
    service: Mutex<AggregatedService>,
}

impl Aggregated {
    pub fn service(&self) -> AggregatedService {
        self.service.lock().clone()
    }
}

/// Every aggregated group version, in the order of registration.
#[derive(Default)]
pub(crate) struct Aggregator(RwLock<Vec<Arc<Aggregated>>>);

impl Aggregator {
    /// Registers a group version, in place of an earlier registration of the same one.
    pub fn register(
        &self,
        group: &str,
        version: &str,
        resources: AggregatedResources,
        service: AggregatedService,
    ) {
        let mut all = self.0.write();
        all.retain(|a| (a.group.as_str(), a.version.as_str()) != (group, version));
        all.push(Arc::new(Aggregated {
            group: group.to_owned(),
            version: version.to_owned(),
            resources,
            service: Mutex::new(service),
        }));
    }

    pub fn find(&self, group: &str, version: &str) -> Option<Arc<Aggregated>> {
        self.0
            .read()
            .iter()
            .find(|a| a.group == group && a.version == version)
            .cloned()
    }

    pub fn all(&self) -> Vec<Arc<Aggregated>> {
        self.0.read().clone()
    }
}
