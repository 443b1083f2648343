//! What the aggregated group serves, as data for discovery.

/// The API group that [`crate::Server::service`] answers.
pub const GROUP: &str = "metrics.k8s.io";
/// The version of [`GROUP`] that is served.
pub const VERSION: &str = "v1beta1";

/// One resource of `metrics.k8s.io/v1beta1`, as discovery lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Plural name in paths, `pods` or `nodes`.
    pub name: &'static str,
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
pub fn resources() -> &'static [Resource] {
    &[
        Resource {
            name: "nodes",
            singular: "",
            kind: "NodeMetrics",
            list_kind: "NodeMetricsList",
            namespaced: false,
            verbs: &["get", "list"],
        },
        Resource {
            name: "pods",
            singular: "",
            kind: "PodMetrics",
            list_kind: "PodMetricsList",
            namespaced: true,
            verbs: &["get", "list"],
        },
    ]
}
