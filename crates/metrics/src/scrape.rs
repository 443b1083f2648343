//! One page of a kubelet's `/metrics/resource`, reduced to readings of containers and the node.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::history::Point;
use crate::text::samples;

/// Most containers that one node is believed to have.
const CONTAINERS_MAX: usize = 10_000;
/// Most samples that are looked at in one page.
const SAMPLES_MAX: usize = 200_000;

/// A container's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
}

/// What one page says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The node as a whole.
    pub node: Option<Point>,
    /// Its containers; those without both CPU and memory are left out.
    pub containers: HashMap<Address, Point>,
    /// Lines that were malformed or beyond the limits.
    pub dropped: usize,
}

#[derive(Clone, Copy, Default)]
struct Parts {
    cpu: Option<f64>,
    memory: Option<f64>,
    started: Option<f64>,
    at_ms: Option<i64>,
}

impl Parts {
    fn point(self, scraped: Timestamp) -> Option<Point> {
        Some(Point {
            at: self
                .at_ms
                .and_then(|ms| Timestamp::from_millisecond(ms).ok())
                .unwrap_or(scraped),
            cpu_seconds: self.cpu?,
            memory_bytes: self.memory?,
            started_seconds: self.started,
        })
    }
}

/// Reads a page that was fetched at `scraped`, which stands in for samples without a timestamp.
pub fn page(text: &str, scraped: Timestamp) -> Page {
    let mut page = Page::default();
    let mut node = Parts::default();
    let mut containers: HashMap<Address, Parts> = HashMap::new();
    for (count, sample) in samples(text).enumerate() {
        if count == SAMPLES_MAX {
            page.dropped += 1;
            break;
        }
        let Ok(sample) = sample else {
            page.dropped += 1;
            continue;
        };
        let parts = if sample.name.starts_with("node_") {
            &mut node
        } else if sample.name.starts_with("container_") {
            let label = |name| {
                sample
                    .label(name)
                    .filter(|value| !value.is_empty())
                    .map(str::to_owned)
            };
            let (Some(namespace), Some(pod), Some(container)) =
                (label("namespace"), label("pod"), label("container"))
            else {
                page.dropped += 1;
                continue;
            };
            let address = Address {
                namespace,
                pod,
                container,
            };
            if containers.len() >= CONTAINERS_MAX && !containers.contains_key(&address) {
                page.dropped += 1;
                continue;
            }
            containers.entry(address).or_default()
        } else {
            continue;
        };
        match sample.name {
            "container_cpu_usage_seconds_total" | "node_cpu_usage_seconds_total" => {
                parts.cpu = Some(sample.value);
                // The rate needs the counter's own time.
                parts.at_ms = sample.timestamp_ms;
            }
            "container_memory_working_set_bytes" | "node_memory_working_set_bytes" => {
                parts.memory = Some(sample.value)
            }
            "container_start_time_seconds" => parts.started = Some(sample.value),
            _ => {}
        }
    }
    page.node = node.point(scraped);
    page.containers = containers
        .into_iter()
        .filter_map(|(address, parts)| Some((address, parts.point(scraped)?)))
        .collect();
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(container: &str) -> Address {
        Address {
            namespace: "default".to_owned(),
            pod: "web-0".to_owned(),
            container: container.to_owned(),
        }
    }

    #[test]
    fn joins_the_families_of_a_container() {
        let text = "\
            container_cpu_usage_seconds_total{container=\"web\",namespace=\"default\",pod=\"web-0\"} 1.5 1700000000123\n\
            container_memory_working_set_bytes{container=\"web\",namespace=\"default\",pod=\"web-0\"} 1024 1700000000456\n\
            container_start_time_seconds{container=\"web\",namespace=\"default\",pod=\"web-0\"} 1.699e9\n\
            container_cpu_usage_seconds_total{container=\"half\",namespace=\"default\",pod=\"web-0\"} 1.5\n\
            container_cpu_usage_seconds_total{container=\"\",namespace=\"default\",pod=\"web-0\"} 1.5\n\
            pod_cpu_usage_seconds_total{namespace=\"default\",pod=\"web-0\"} 1.5\n\
            node_cpu_usage_seconds_total 100 1700000000000\n\
            node_memory_working_set_bytes 5e9\n\
            scrape_error 0\n\
            }nonsense\n";
        let page = page(text, Timestamp::UNIX_EPOCH);
        assert_eq!(page.containers.len(), 1, "{page:?}");
        let web = page.containers[&address("web")];
        assert_eq!(web.at.as_millisecond(), 1_700_000_000_123);
        assert_eq!(
            (web.cpu_seconds, web.memory_bytes, web.started_seconds),
            (1.5, 1024.0, Some(1.699e9))
        );
        assert_eq!(
            page.node.map(|node| (node.cpu_seconds, node.memory_bytes)),
            Some((100.0, 5e9))
        );
        assert_eq!(page.dropped, 2);
    }

    #[test]
    fn a_million_series_are_bounded() {
        let mut text = String::new();
        for n in 0..1_000_000 {
            text.push_str(&format!("container_cpu_usage_seconds_total{{container=\"c\",namespace=\"n\",pod=\"p{n}\"}} 1\n"));
        }
        let page = page(&text, Timestamp::UNIX_EPOCH);
        assert!(page.containers.len() <= CONTAINERS_MAX);
        assert!(page.dropped > 0);
    }

    #[test]
    fn nonsense_gives_an_empty_page() {
        for text in [
            "",
            "\0\0\0",
            "<html><body>502</body></html>",
            "{\"kind\":\"Status\"}",
        ] {
            let page = page(text, Timestamp::UNIX_EPOCH);
            assert!(page.containers.is_empty() && page.node.is_none(), "{text}");
        }
    }
}
