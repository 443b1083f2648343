//! What was collected: histories per node and container, and the labels of the pods that exist.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::history::{History, Usage};
use crate::scrape::Page;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;
/// Values by namespace and name.
type Namespaced<T> = BTreeMap<String, BTreeMap<String, T>>;

/// All that was collected. Bounded by the nodes and pods that exist and by what one page may hold.
#[derive(Default)]
pub struct Store {
    nodes: BTreeMap<String, Node>,
    pods: Namespaced<Labels>,
}

/// A node that exists.
#[derive(Default)]
struct Node {
    labels: Labels,
    whole: History,
    pods: Namespaced<BTreeMap<String, History>>,
}

/// One pod's usage.
#[derive(Clone, Debug, PartialEq)]
pub struct PodUsage {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// The oldest end of its containers' windows.
    pub at: Timestamp,
    /// The longest of its containers' windows.
    pub window: Duration,
    /// Usage by container name.
    pub containers: BTreeMap<String, Usage>,
}

/// One node's usage.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeUsage {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Its usage.
    pub usage: Usage,
}

impl Store {
    /// Takes in a node's page. Containers that it no longer mentions are forgotten.
    pub fn absorb(&mut self, node: &str, page: Page, window: Duration) {
        // A node that went while it was being scraped stays forgotten.
        let Some(node) = self.nodes.get_mut(node) else {
            return;
        };
        if let Some(point) = page.node {
            node.whole.push(point, window);
        }
        let mut before = std::mem::take(&mut node.pods);
        for (address, point) in page.containers {
            let known = before
                .get_mut(&address.namespace)
                .and_then(|pods| pods.get_mut(&address.pod))
                .and_then(|containers| containers.remove(&address.container));
            let mut history = known.unwrap_or_default();
            history.push(point, window);
            let pods = node.pods.entry(address.namespace).or_default();
            pods.entry(address.pod)
                .or_default()
                .insert(address.container, history);
        }
    }

    /// Sets the nodes that exist; others are forgotten.
    pub fn set_nodes(&mut self, nodes: BTreeMap<String, Labels>) {
        self.nodes.retain(|name, _| nodes.contains_key(name));
        for (name, labels) in nodes {
            self.set_node(name, labels);
        }
    }

    /// Adds or changes a node.
    pub fn set_node(&mut self, name: String, labels: Labels) {
        self.nodes.entry(name).or_default().labels = labels;
    }

    /// Forgets a node.
    pub fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// The nodes that exist.
    pub fn node_names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    /// Sets the pods that exist, by namespace and name.
    pub fn set_pods(&mut self, pods: BTreeMap<String, BTreeMap<String, Labels>>) {
        self.pods = pods;
    }

    /// Adds or changes a pod.
    pub fn set_pod(&mut self, namespace: String, name: String, labels: Labels) {
        self.pods.entry(namespace).or_default().insert(name, labels);
    }

    /// Forgets a pod.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        if let Some(pods) = self.pods.get_mut(namespace) {
            pods.remove(name);
            if pods.is_empty() {
                self.pods.remove(namespace);
            }
        }
    }

    /// The labels of a pod that exists.
    pub fn pod_labels(&self, namespace: &str, name: &str) -> Option<&Labels> {
        self.pods.get(namespace)?.get(name)
    }

    /// Usage of the nodes measured since `oldest`, by name.
    pub fn node_usage(&self, oldest: Timestamp) -> Vec<NodeUsage> {
        self.nodes
            .iter()
            .filter_map(|(name, node)| {
                let usage = node.whole.usage().filter(|usage| usage.at >= oldest)?;
                Some(NodeUsage {
                    name: name.clone(),
                    labels: node.labels.clone(),
                    usage,
                })
            })
            .collect()
    }

    /// Usage of the wanted pods that exist and were measured since `oldest`, by namespace and name; of one
    /// namespace, or of all. A pod with a container that has only one sample (it just started, or restarted) is
    /// left out, as metrics-server does.
    pub fn pod_usage(
        &self,
        oldest: Timestamp,
        namespace: Option<&str>,
        wanted: impl Fn(&str, &str, &Labels) -> bool,
    ) -> Vec<PodUsage> {
        let in_namespace =
            |(of, _): &(&String, _)| namespace.is_none_or(|namespace| namespace == of.as_str());
        self.pods
            .iter()
            .filter(in_namespace)
            .flat_map(|(namespace, pods)| {
                pods.iter()
                    .map(move |(name, labels)| (namespace, name, labels))
            })
            .filter(|(namespace, name, labels)| wanted(namespace, name, labels))
            .filter_map(|(namespace, name, labels)| self.usage_of(oldest, namespace, name, labels))
            .collect()
    }

    fn usage_of(
        &self,
        oldest: Timestamp,
        namespace: &str,
        name: &str,
        labels: &Labels,
    ) -> Option<PodUsage> {
        let histories = self
            .nodes
            .values()
            .find_map(|node| node.pods.get(namespace)?.get(name))
            .filter(|containers| !containers.is_empty())?;
        let containers = histories
            .iter()
            .map(|(container, history)| {
                Some((
                    container.clone(),
                    history.usage().filter(|usage| usage.at >= oldest)?,
                ))
            })
            .collect::<Option<BTreeMap<String, Usage>>>()?;
        Some(PodUsage {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            labels: labels.clone(),
            at: containers.values().map(|usage| usage.at).min()?,
            window: containers.values().map(|usage| usage.window).max()?,
            containers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::page;

    const WINDOW: Duration = Duration::from_secs(5);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("a time")
    }

    fn scraped(store: &mut Store, second: i64, containers: &[(&str, &str, f64)]) {
        let mut text =
            format!("node_cpu_usage_seconds_total {second}\nnode_memory_working_set_bytes 1\n");
        for (pod, container, cpu) in containers {
            let labels =
                format!("{{container=\"{container}\",namespace=\"default\",pod=\"{pod}\"}}");
            text.push_str(&format!(
                "container_cpu_usage_seconds_total{labels} {cpu}\n"
            ));
            text.push_str(&format!(
                "container_memory_working_set_bytes{labels} 1024\n"
            ));
        }
        store.absorb("node", page(&text, at(second)), WINDOW);
    }

    fn names(store: &Store) -> Vec<String> {
        let all = store.pod_usage(at(0), None, |_, _, _| true);
        all.into_iter().map(|pod| pod.name).collect()
    }

    fn store(pods: &[&str]) -> Store {
        let mut store = Store::default();
        store.set_node("node".to_owned(), Labels::new());
        for pod in pods {
            store.set_pod("default".to_owned(), (*pod).to_owned(), Labels::new());
        }
        store
    }

    #[test]
    fn pods_appear_with_their_second_sample_and_go_with_their_last() {
        let mut store = store(&["a", "b"]);
        scraped(&mut store, 0, &[("a", "c", 1.0)]);
        assert!(names(&store).is_empty(), "one sample");
        scraped(&mut store, 1, &[("a", "c", 1.5), ("b", "c", 9.0)]);
        assert_eq!(names(&store), ["a"]);
        let a = &store.pod_usage(at(0), Some("default"), |_, _, _| true)[0];
        assert_eq!(
            (a.at, a.window, a.containers["c"].cpu_nanocores),
            (at(1), Duration::from_secs(1), 500_000_000)
        );
        scraped(&mut store, 2, &[("b", "c", 9.0)]);
        assert_eq!(names(&store), ["b"]);
        scraped(&mut store, 3, &[("a", "c", 2.0), ("b", "c", 9.0)]);
        assert_eq!(names(&store), ["b"], "what was forgotten starts anew");
        assert!(
            store
                .pod_usage(at(0), Some("other"), |_, _, _| true)
                .is_empty()
        );
    }

    #[test]
    fn a_pod_with_a_restarted_container_is_left_out() {
        let mut store = store(&["a"]);
        scraped(&mut store, 0, &[("a", "one", 1.0), ("a", "two", 1.0)]);
        scraped(&mut store, 1, &[("a", "one", 2.0), ("a", "two", 0.1)]);
        assert!(names(&store).is_empty());
        scraped(&mut store, 2, &[("a", "one", 3.0), ("a", "two", 0.2)]);
        assert_eq!(names(&store), ["a"]);
    }

    #[test]
    fn what_does_not_exist_or_is_old_is_not_told() {
        let mut store = store(&["a"]);
        for second in 0..3 {
            scraped(&mut store, second, &[("a", "c", 1.0), ("ghost", "c", 1.0)]);
        }
        assert_eq!(names(&store), ["a"]);
        assert!(
            store.pod_usage(at(3), None, |_, _, _| true).is_empty(),
            "measured before the oldest time"
        );
        assert_eq!(store.node_usage(at(0)).len(), 1);
        assert!(store.node_usage(at(3)).is_empty());
        store.remove_pod("default", "a");
        assert!(names(&store).is_empty());
        store.set_nodes(BTreeMap::new());
        scraped(&mut store, 4, &[("a", "c", 1.0)]);
        assert!(store.node_usage(at(0)).is_empty(), "a node that went");
    }
}
