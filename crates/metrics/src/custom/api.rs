//! Answers requests for custom and external metrics.
//!
//! Source followed: `custom-metrics-apiserver` (`pkg/registry/custom_metrics/reststorage.go`: the grammar of paths,
//! `pkg/provider/errors.go`: messages) and prometheus-adapter (what an object's metric is).
//!
//! | object | its metric is of |
//! |---|---|
//! | Pod | its own series |
//! | Service | what a [`super::services::ServiceSource`] tells, else all pods that its selector picks |
//! | Namespace | all its pods |
//! | any other | the series with a label of the resource's singular name: `ingress="main"` |

use autoscale::selector::Selector;
use bytes::Bytes;
use http::Request;
use serde_json::Value;

pub use super::answers::Now;
use super::answers::{About, custom_list, custom_value, external_list, external_value};
use super::kinds::{Described, described};
use super::names::{Plan, offered};
use super::points::Told;
use super::query::{Filter, apart, plan, together, values_of};
use super::series::{Scraped, SeriesStore};
use super::services::{ServiceSource, Services};
use crate::labels::unescape;
use crate::refusal::Refusal;
use crate::resources::Resource;
use crate::store::Store;

/// The group of metrics of objects.
pub const CUSTOM: &str = "custom.metrics.k8s.io";
/// Its versions, preferred first.
pub const CUSTOM_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];
/// The group of metrics of nothing in particular.
pub const EXTERNAL: &str = "external.metrics.k8s.io";
/// Its version.
pub const EXTERNAL_VERSION: &str = "v1beta1";

/// Quantiles that discovery lists of a histogram.
const LISTED_QUANTILES: [&str; 4] = ["p50", "p90", "p95", "p99"];

/// Everything that an answer is made from.
pub struct View<'a> {
    pub store: &'a Store,
    pub series: &'a SeriesStore,
    pub services: &'a Services,
    pub source: Option<&'a dyn ServiceSource>,
    pub now: Now,
}

/// What the query string asks for.
#[derive(Debug, Default)]
struct Query {
    /// Objects.
    labels: Option<Selector>,
    /// Series.
    metric: Option<Selector>,
}

impl Query {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let read =
                |text: &str| unescape(text).map_err(|message| Refusal::bad_request(&message));
            let key = read(key)?;
            let place = match key.as_str() {
                "labelSelector" => &mut query.labels,
                "metricLabelSelector" => &mut query.metric,
                _ => continue,
            };
            let value = read(value)?;
            let selector = Selector::parse(&value).map_err(|error| {
                Refusal::bad_request(&format!("unable to parse {key} {value:?}: {error}"))
            })?;
            *place = (!value.trim().is_empty()).then_some(selector);
        }
        Ok(query)
    }
}

/// Answers `/apis/custom.metrics.k8s.io/VERSION/...`.
pub fn custom(view: &View<'_>, version: &str, request: &Request<Bytes>) -> Result<Value, Refusal> {
    let parts = parts(request, CUSTOM, version)?;
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (namespace, resource, name, metric) = match parts[..] {
        ["namespaces", namespace, "metrics", metric] => (None, "namespaces", namespace, metric),
        ["namespaces", namespace, resource, name, metric] => {
            (Some(namespace), resource, name, metric)
        }
        [resource, name, metric] => (None, resource, name, metric),
        _ => return Err(Refusal::unknown_path()),
    };
    let selector = query
        .metric
        .as_ref()
        .map_or(Value::Null, Selector::to_object);
    let described = described(resource);
    let asked = Asked {
        view,
        about: About {
            version,
            described: &described,
            namespace,
            metric,
            selector: &selector,
        },
        resource,
        query: &query,
    };
    let items = match (resource, namespace) {
        ("pods", Some(namespace)) => asked.of_pods(namespace, name)?,
        ("services", Some(namespace)) => asked.of_services(namespace, name)?,
        ("namespaces", None) => asked.of_namespaces(name)?,
        _ => asked.of_others(name)?,
    };
    Ok(custom_list(version, items))
}

/// One request for a custom metric.
struct Asked<'a> {
    view: &'a View<'a>,
    about: About<'a>,
    resource: &'a str,
    query: &'a Query,
}

impl<'a> Asked<'a> {
    fn of_pods(&self, namespace: &'a str, name: &str) -> Result<Vec<Value>, Refusal> {
        let all = self.pods(Some(namespace), |_, _| true);
        let plan = self.plan(&all)?;
        let filter = self.filter(None);
        let values = all.iter().filter(|pod| name == "*" || pod.name == name);
        let selected = values.filter(|pod| {
            let labels = self.view.store.pod_labels(pod.namespace, pod.name);
            labels.is_some_and(|labels| name != "*" || self.selects(labels))
        });
        let items = selected
            .filter_map(|pod| {
                let told = together(&plan, std::slice::from_ref(pod), &filter)?;
                Some(custom_value(&self.about, pod.name, told, self.view.now))
            })
            .collect();
        self.one_or_all(name, items)
    }

    fn of_services(&self, namespace: &'a str, name: &str) -> Result<Vec<Value>, Refusal> {
        let all = self.pods(Some(namespace), |_, _| true);
        let plan = plan(self.about.metric, &all);
        let mut items = Vec::new();
        let mut known = plan.is_some();
        for (service, of) in self.view.services.of_namespace(namespace) {
            if name != service && (name != "*" || !self.selects(&of.labels)) {
                continue;
            }
            let (metric, selector) = (self.about.metric, self.query.metric.as_ref());
            let seen = self
                .view
                .source
                .and_then(|source| source.value(namespace, service, metric, selector));
            known |= seen.is_some();
            let told = match (seen, &plan) {
                (Some(seen), _) => Some(Told {
                    value: seen.value,
                    at: self.view.now.monotonic.saturating_sub(seen.age),
                    window: seen.window,
                })
                .filter(|told| told.value.is_finite()),
                (None, Some(plan)) => {
                    let picked = all.iter().filter(|pod| {
                        let labels = self.view.store.pod_labels(pod.namespace, pod.name);
                        labels.is_some_and(|labels| of.picks(labels))
                    });
                    let picked: Vec<Scraped<'_>> = picked.copied().collect();
                    together(plan, &picked, &self.filter(None))
                }
                (None, None) => None,
            };
            let value = |told| custom_value(&self.about, service, told, self.view.now);
            items.extend(told.map(value));
        }
        if !known {
            return Err(self.unknown());
        }
        self.one_or_all(name, items)
    }

    fn of_namespaces(&self, name: &str) -> Result<Vec<Value>, Refusal> {
        let all = self.pods(None, |namespace, _| name == "*" || name == namespace);
        let plan = self.plan(&all)?;
        if name == "*" {
            self.without_label_selector()?;
        }
        let mut names: Vec<&str> = all.iter().map(|pod| pod.namespace).collect();
        names.dedup();
        let items = names.into_iter().filter_map(|namespace| {
            let of = all.iter().filter(|pod| pod.namespace == namespace);
            let of: Vec<Scraped<'_>> = of.copied().collect();
            let told = together(&plan, &of, &self.filter(None))?;
            Some(custom_value(&self.about, namespace, told, self.view.now))
        });
        self.one_or_all(name, items.collect())
    }

    fn of_others(&self, name: &str) -> Result<Vec<Value>, Refusal> {
        let all = self.pods(self.about.namespace, |_, _| true);
        let plan = self.plan(&all)?;
        let label = &self.about.described.label;
        let names = if name == "*" {
            self.without_label_selector()?;
            values_of(label, &plan, &all)
        } else {
            vec![name.to_owned()]
        };
        let items = names.iter().filter_map(|object| {
            let filter = self.filter(Some((label.clone(), object.clone())));
            let told = together(&plan, &all, &filter)?;
            Some(custom_value(&self.about, object, told, self.view.now))
        });
        self.one_or_all(name, items.collect())
    }

    fn pods(
        &self,
        namespace: Option<&str>,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Vec<Scraped<'a>> {
        let view = self.view;
        view.series.select(namespace, view.now.monotonic, wanted)
    }

    fn plan(&self, pods: &[Scraped<'_>]) -> Result<Plan, Refusal> {
        plan(self.about.metric, pods).ok_or_else(|| self.unknown())
    }

    fn filter(&self, object: Option<(String, String)>) -> Filter {
        Filter {
            labels: self.query.metric.clone(),
            object,
        }
    }

    fn selects(&self, labels: &crate::store::Labels) -> bool {
        let selector = self.query.labels.as_ref();
        selector.is_none_or(|selector| selector.matches(labels))
    }

    fn without_label_selector(&self) -> Result<(), Refusal> {
        match &self.query.labels {
            None => Ok(()),
            Some(_) => Err(Refusal::bad_request(&format!(
                "metrics of {} cannot be selected by the labels of the objects; name one, or use metricLabelSelector",
                self.resource
            ))),
        }
    }

    /// An object that was asked for by name must have a value; of several, those that have one are listed.
    fn one_or_all(&self, name: &str, items: Vec<Value>) -> Result<Vec<Value>, Refusal> {
        if name == "*" || !items.is_empty() {
            return Ok(items);
        }
        let (metric, resource) = (self.about.metric, self.resource);
        Err(Refusal::metric_not_found(format!(
            "the server could not find the metric {metric} for {resource} {name}"
        )))
    }

    fn unknown(&self) -> Refusal {
        let (metric, resource) = (self.about.metric, self.resource);
        Refusal::metric_not_found(format!(
            "the server could not find the metric {metric} for {resource}"
        ))
    }
}

/// Answers `/apis/external.metrics.k8s.io/v1beta1/namespaces/NAMESPACE/METRIC`: every series of the namespace's pods.
pub fn external(view: &View<'_>, request: &Request<Bytes>) -> Result<Value, Refusal> {
    let parts = parts(request, EXTERNAL, EXTERNAL_VERSION)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let ["namespaces", namespace, metric] = parts[..] else {
        return Err(Refusal::unknown_path());
    };
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let now = view.now;
    let pods = view
        .series
        .select(Some(namespace), now.monotonic, |_, _| true);
    let plan = plan(metric, &pods).ok_or_else(|| {
        Refusal::metric_not_found(format!(
            "the server could not find the metric {metric} for namespaces"
        ))
    })?;
    // the group's parameter is `labelSelector`, though it selects series
    let filter = Filter {
        labels: query.labels.or(query.metric),
        object: None,
    };
    let items = apart(&plan, &pods, &filter);
    let items = items
        .iter()
        .map(|(labels, told)| external_value(metric, labels, *told, now));
    Ok(external_list(items.collect()))
}

fn parts(request: &Request<Bytes>, group: &str, version: &str) -> Result<Vec<String>, Refusal> {
    let prefix = format!("/apis/{group}/{version}/");
    let rest = request.uri().path().strip_prefix(&prefix);
    rest.ok_or_else(Refusal::unknown_path)?
        .split('/')
        .filter(|part| !part.is_empty())
        .map(unescape)
        .collect::<Result<_, _>>()
        .map_err(|message| Refusal::bad_request(&message))
}

/// What discovery lists of custom metrics: each for pods, services and namespaces.
pub fn custom_resources(view: &View<'_>) -> Vec<Resource> {
    let listed = |resource: &Described, plural: &str, metric: &str| Resource {
        name: format!("{plural}/{metric}").into(),
        singular: "",
        kind: "MetricValueList",
        list_kind: "MetricValueList",
        namespaced: resource.kind != "Namespace",
        verbs: &["get"],
    };
    let mut all = Vec::new();
    for plural in ["namespaces", "pods", "services"] {
        let resource = described(plural);
        let mut names = metric_names(view);
        if let Some(source) = view.source.filter(|_| plural == "services") {
            names.extend(source.metrics());
            names.sort_unstable();
            names.dedup();
        }
        all.extend(names.iter().map(|metric| listed(&resource, plural, metric)));
    }
    all
}

/// What discovery lists of external metrics.
pub fn external_resources(view: &View<'_>) -> Vec<Resource> {
    let listed = |metric: String| Resource {
        name: metric.into(),
        singular: "",
        kind: "ExternalMetricValueList",
        list_kind: "ExternalMetricValueList",
        namespaced: true,
        verbs: &["get"],
    };
    metric_names(view).into_iter().map(listed).collect()
}

/// The names of the metrics that there are, as many as may be listed.
fn metric_names(view: &View<'_>) -> Vec<String> {
    let max = view.series.limits().listed_max;
    let mut names = std::collections::BTreeSet::new();
    for pod in view.series.select(None, view.now.monotonic, |_, _| true) {
        for series in pod.names() {
            let name = offered(series);
            if let Some(histogram) = series.strip_suffix("_bucket") {
                names.extend(LISTED_QUANTILES.map(|q| format!("{histogram}_{q}")));
            }
            if !name.is_empty() {
                names.insert(name.to_owned());
            }
            if names.len() >= max {
                return names.into_iter().take(max).collect();
            }
        }
    }
    names.into_iter().collect()
}
