//! Services, and who can tell their metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use autoscale::selector::Selector;

use super::objects::Service;
use crate::store::Labels;

/// Tells metrics of a Service from what it sees itself, before the pods behind the Service are asked.
///
/// **The gateway's place**: it counts requests, latencies and what is in flight per Service as they happen. Whoever
/// composes the roles gives it to [`crate::Server::with_service_source`]; what it does not know is answered by the pods.
pub trait ServiceSource: Send + Sync {
    /// The metric of a Service; `selector` is the request's `metricLabelSelector`.
    fn value(
        &self,
        namespace: &str,
        service: &str,
        metric: &str,
        selector: Option<&Selector>,
    ) -> Option<ServiceValue>;

    /// Names of the metrics that it tells, for discovery.
    fn metrics(&self) -> Vec<String>;
}

/// A metric of a Service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceValue {
    /// The value.
    pub value: f64,
    /// Over how long it was taken; zero for a value of one moment.
    pub window: Duration,
    /// How long ago it was measured.
    pub age: Duration,
}

/// The Services that exist.
#[derive(Default)]
pub struct Services(BTreeMap<String, BTreeMap<String, Known>>);

/// What is known of one.
pub struct Known {
    /// Its labels.
    pub labels: Labels,
    /// The pods that it picks; empty for one that picks none.
    selector: Labels,
}

impl Known {
    /// Whether it picks a pod with these labels.
    pub fn picks(&self, labels: &Labels) -> bool {
        let has = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        !self.selector.is_empty() && self.selector.iter().all(has)
    }
}

impl Services {
    /// Adds or changes one.
    pub fn set(&mut self, service: Service) {
        let meta = service.metadata;
        let known = Known {
            labels: meta.labels.unwrap_or_default(),
            selector: service.spec.selector,
        };
        let of_namespace = self
            .0
            .entry(meta.namespace.unwrap_or_default())
            .or_default();
        of_namespace.insert(meta.name.unwrap_or_default(), known);
    }

    /// Forgets one.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        if let Some(services) = self.0.get_mut(namespace) {
            services.remove(name);
            if services.is_empty() {
                self.0.remove(namespace);
            }
        }
    }

    /// Those of a namespace, by name.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = (&String, &Known)> {
        self.0.get(namespace).into_iter().flatten()
    }
}
