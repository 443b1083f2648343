//! What the aggregated groups serve, as data for discovery.

use std::borrow::Cow;
use std::sync::Arc;

use crate::server::Service;

/// The API group that [`crate::Server::service`] answers.
pub const GROUP: &str = "metrics.k8s.io";
/// The version of [`GROUP`] that is served.
pub const VERSION: &str = "v1beta1";

/// One resource, as discovery lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Plural name in paths, `pods` or `nodes`; of a metric, `pods/METRIC`.
    pub name: Cow<'static, str>,
    /// Singular name; metrics-server leaves it empty, and so do we.
    pub singular: &'static str,
    /// Kind of one object.
    pub kind: &'static str,
    /// Kind of a list of them.
    pub list_kind: &'static str,
    /// Whether the resource lives in namespaces.
    pub namespaced: bool,
    /// Verbs that are answered.
    pub verbs: &'static [&'static str],
}

/// The resources served, in discovery order (as metrics-server's).
pub fn resources() -> Vec<Resource> {
    vec![
        Resource {
            name: "nodes".into(),
            singular: "",
            kind: "NodeMetrics",
            list_kind: "NodeMetricsList",
            namespaced: false,
            verbs: &["get", "list"],
        },
        Resource {
            name: "pods".into(),
            singular: "",
            kind: "PodMetrics",
            list_kind: "PodMetricsList",
            namespaced: true,
            verbs: &["get", "list"],
        },
    ]
}

/// One version of a group, to be mounted by the API server's aggregation layer.
#[derive(Clone)]
pub struct GroupVersion {
    /// The group.
    pub group: &'static str,
    /// The version.
    pub version: &'static str,
    /// What discovery lists now.
    pub resources: Arc<dyn Fn() -> Vec<Resource> + Send + Sync>,
    /// What answers.
    pub service: Service,
}
