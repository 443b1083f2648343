//! Where a pod wants to be scraped, by the usual annotations: `prometheus.io/scrape`, `/port`, `/path`, `/scheme`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::dropped::Failure;
use super::objects::Pod;

/// Longest path that is asked for.
const PATH_BYTES_MAX: usize = 1024;

/// Where to scrape a pod. Two that are equal need no new beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The pod's uid.
    pub uid: String,
    /// Its address and port.
    pub address: SocketAddr,
    /// Path with query.
    pub path: String,
    /// Whether by TLS; the certificate is not verified, as kubelets do with probes.
    pub tls: bool,
    /// Whether the pod is ready: a change is a reason to look at once.
    pub ready: bool,
}

/// Whether it can be asked for: a path, with query or without.
pub fn is_path(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX
        && path.bytes().all(|byte| byte.is_ascii_graphic())
        && path.parse::<http::uri::PathAndQuery>().is_ok()
}

/// Where to scrape a pod. None if it does not want to be or does not run.
pub fn target(pod: &Pod) -> Option<Result<Target, Failure>> {
    let none = BTreeMap::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&none);
    let annotation = |name: &str| {
        let value = annotations.get(&format!("prometheus.io/{name}"));
        value
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    };
    if annotation("scrape") != Some("true") || pod.status.phase.as_deref() != Some("Running") {
        return None;
    }
    let ip: IpAddr = pod.status.pod_ip.as_deref()?.parse().ok()?;
    let read = || {
        let port = match annotation("port") {
            Some(text) => text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| {
                Failure::Annotation(format!(
                    "the annotation prometheus.io/port is {text:?}; it must be a number from 1 to 65535"
                ))
            })?,
            None => pod.first_port().ok_or_else(|| {
                Failure::Annotation(
                    "no container has a TCP port; name one by the annotation prometheus.io/port"
                        .to_owned(),
                )
            })?,
        };
        let path = annotation("path").unwrap_or("/metrics");
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        if !is_path(&path) {
            return Err(Failure::Annotation(format!(
                "the annotation prometheus.io/path is no path of at most {PATH_BYTES_MAX} bytes"
            )));
        }
        let tls = match annotation("scheme") {
            None | Some("http") => false,
            Some("https") => true,
            Some(other) => {
                return Err(Failure::Annotation(format!(
                    "the annotation prometheus.io/scheme is {other:?}; it must be http or https"
                )));
            }
        };
        Ok(Target {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            address: SocketAddr::new(ip, port),
            path,
            tls,
            ready: pod.is_ready(),
        })
    };
    Some(read())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(annotations: Value, ports: Value, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web-0", "annotations": annotations},
            "spec": {"containers": [{"name": "no-ports"}, {"name": "web", "ports": ports}]},
            "status": {"phase": phase, "podIP": "10.1.0.7"},
        }))
        .expect("a pod")
    }

    #[test]
    fn annotations_say_where() {
        let tcp = json!([{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 8080}]);
        let long = "x".repeat(2000);
        for (annotations, ports, phase, wanted) in [
            (
                json!({"scrape": "true"}),
                tcp.clone(),
                "Running",
                "http 10.1.0.7:8080 /metrics",
            ),
            (json!({"scrape": "true"}), tcp.clone(), "Pending", "none"),
            (json!({"scrape": "true"}), tcp.clone(), "Succeeded", "none"),
            (json!({"scrape": "false"}), tcp.clone(), "Running", "none"),
            (json!({}), tcp.clone(), "Running", "none"),
            (
                json!({"scrape": "true", "port": "9090", "path": "stats?a=b", "scheme": "https"}),
                json!([]),
                "Running",
                "https 10.1.0.7:9090 /stats?a=b",
            ),
            (
                json!({"scrape": "true"}),
                json!([]),
                "Running",
                "annotation",
            ),
            (
                json!({"scrape": "true", "port": "0"}),
                json!([]),
                "Running",
                "annotation",
            ),
            (
                json!({"scrape": "true", "port": "99999"}),
                json!([]),
                "Running",
                "annotation",
            ),
            (
                json!({"scrape": "true", "port": "http"}),
                json!([]),
                "Running",
                "annotation",
            ),
            (
                json!({"scrape": "true", "scheme": "file"}),
                tcp.clone(),
                "Running",
                "annotation",
            ),
            (
                json!({"scrape": "true", "path": "/a b\r\nHost: other"}),
                tcp.clone(),
                "Running",
                "annotation",
            ),
            (
                json!({"scrape": "true", "path": long}),
                tcp,
                "Running",
                "annotation",
            ),
        ] {
            let named: serde_json::Map<String, Value> = annotations
                .as_object()
                .expect("a map")
                .iter()
                .map(|(name, value)| (format!("prometheus.io/{name}"), value.clone()))
                .collect();
            let told = match target(&pod(Value::Object(named), ports, phase)) {
                None => "none".to_owned(),
                Some(Err(failure)) => failure.reason().to_owned(),
                Some(Ok(target)) => {
                    let scheme = if target.tls { "https" } else { "http" };
                    format!("{scheme} {} {}", target.address, target.path)
                }
            };
            assert_eq!(told, wanted, "{annotations}");
        }
    }

    #[test]
    fn a_pod_without_an_address_is_not_scraped_yet() {
        let mut pod = pod(
            json!({"prometheus.io/scrape": "true", "prometheus.io/port": "1"}),
            json!([]),
            "Running",
        );
        pod.status.pod_ip = None;
        assert!(target(&pod).is_none());
    }
}
