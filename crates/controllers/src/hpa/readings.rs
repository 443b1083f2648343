//! Reads measurements from the resource, custom and external metrics APIs.
//!
//! Source followed: `pkg/controller/podautoscaler/metrics/client.go`.

use std::collections::BTreeMap;

use autoscale::hpa::{ContainerUsage, MetricReading, PodUsage, PodValue, Reading};
use autoscale::quantity::Quantity;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{MetricIdentifier, MetricSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::target::Targets;
use crate::error::message;

/// The window of a custom metric that tells none.
const CUSTOM_WINDOW_SECONDS: f64 = 60.0;

#[derive(Deserialize)]
struct List<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Named,
    timestamp: Timestamp,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    described_object: Named,
    timestamp: Timestamp,
    #[serde(default)]
    window_seconds: Option<i64>,
    value: String,
}

#[derive(Deserialize)]
struct ExternalValue {
    value: String,
}

/// Usage of the pods that `selector` selects, if any metric of the specification is about resources.
pub async fn pod_usage(
    client: &Client,
    namespace: &str,
    selector: &str,
    specs: &[MetricSpec],
) -> Reading<Vec<PodUsage>> {
    // A specification without metrics is defaulted to CPU.
    let wanted = specs.is_empty()
        || specs
            .iter()
            .any(|spec| spec.type_ == "Resource" || spec.type_ == "ContainerResource");
    if !wanted {
        return Reading::NotRead;
    }
    let path = format!(
        "/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods",
        escape(namespace)
    );
    match get::<List<PodMetrics>>(client, &path, &[("labelSelector", selector)]).await {
        Ok(list) => Reading::Values(list.items.into_iter().map(usage).collect()),
        Err(error) => Reading::Failed(format!("{error} (get pods.metrics.k8s.io)")),
    }
}

fn usage(metrics: PodMetrics) -> PodUsage {
    PodUsage {
        pod: metrics.metadata.name,
        timestamp: metrics.timestamp,
        window_seconds: window_seconds(&metrics.window),
        containers: metrics
            .containers
            .into_iter()
            .map(|container| ContainerUsage {
                name: container.name,
                usage_milli: container
                    .usage
                    .into_iter()
                    .filter_map(|(name, value)| {
                        Some((name, Quantity::parse(&value).ok()?.milli_value()))
                    })
                    .collect(),
            })
            .collect(),
    }
}

/// Go's duration text (`5.012s`, `1m0s`) in seconds; 0 if it is none.
fn window_seconds(text: &str) -> f64 {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let unit = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |end| digits + end);
        let Ok(number) = rest[..digits].parse::<f64>() else {
            return 0.0;
        };
        total += number
            * match &rest[digits..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return 0.0,
            };
        rest = &rest[unit..];
    }
    total
}

/// What one metric of the specification reads; resource metrics read nothing here.
pub async fn metric(
    client: &Client,
    targets: &Targets,
    namespace: &str,
    selector: &str,
    spec: &MetricSpec,
) -> MetricReading {
    let read = match (
        spec.type_.as_str(),
        &spec.pods,
        &spec.object,
        &spec.external,
    ) {
        ("Pods", Some(pods), _, _) => of_pods(client, namespace, selector, &pods.metric).await,
        ("Object", _, Some(object), _) => {
            let described = &object.described_object;
            let resolved = targets
                .resolve(described.api_version.as_deref(), &described.kind)
                .await;
            match resolved {
                Err(error) => Err(error),
                Ok(resource) => {
                    let path = if described.kind == "Namespace" && resource.group.is_empty() {
                        "metrics".to_owned()
                    } else {
                        let group = if resource.group.is_empty() {
                            String::new()
                        } else {
                            format!(".{}", resource.group)
                        };
                        format!("{}{group}/{}", resource.plural, escape(&described.name))
                    };
                    of_object(client, namespace, &path, &object.metric).await
                }
            }
        }
        ("External", _, _, Some(external)) => {
            of_external(client, namespace, &external.metric).await
        }
        _ => return MetricReading::NotRead,
    };
    read.unwrap_or_else(MetricReading::Failed)
}

async fn of_pods(
    client: &Client,
    namespace: &str,
    selector: &str,
    metric: &MetricIdentifier,
) -> Result<MetricReading, String> {
    let path = format!("{}/pods/*/{}", custom(namespace), escape(&metric.name));
    let of_metric = selector_text(metric.selector.as_ref());
    let query = [
        ("labelSelector", selector),
        ("metricLabelSelector", of_metric.as_str()),
    ];
    let list: List<MetricValue> = get(client, &path, &query).await?;
    let values = list.items.into_iter().map(|item| {
        Ok(PodValue {
            value_milli: milli(&item.value)?,
            pod: item.described_object.name,
            timestamp: item.timestamp,
            window_seconds: item
                .window_seconds
                .map_or(CUSTOM_WINDOW_SECONDS, |seconds| seconds as f64),
        })
    });
    Ok(MetricReading::Pods(values.collect::<Result<_, String>>()?))
}

async fn of_object(
    client: &Client,
    namespace: &str,
    object: &str,
    metric: &MetricIdentifier,
) -> Result<MetricReading, String> {
    let path = format!("{}/{object}/{}", custom(namespace), escape(&metric.name));
    let of_metric = selector_text(metric.selector.as_ref());
    let list: List<MetricValue> =
        get(client, &path, &[("metricLabelSelector", &of_metric)]).await?;
    let [item] = &list.items[..] else {
        return Err(format!(
            "the custom metrics API server returned {} results when we asked for exactly one",
            list.items.len()
        ));
    };
    Ok(MetricReading::Object {
        value_milli: milli(&item.value)?,
    })
}

async fn of_external(
    client: &Client,
    namespace: &str,
    metric: &MetricIdentifier,
) -> Result<MetricReading, String> {
    let path = format!(
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{}",
        escape(namespace),
        escape(&metric.name)
    );
    let of_metric = selector_text(metric.selector.as_ref());
    let list: List<ExternalValue> = get(client, &path, &[("labelSelector", &of_metric)]).await?;
    let values = list
        .items
        .iter()
        .map(|item| milli(&item.value))
        .collect::<Result<_, _>>()?;
    Ok(MetricReading::External {
        values_milli: values,
    })
}

fn custom(namespace: &str) -> String {
    format!(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{}",
        escape(namespace)
    )
}

fn milli(value: &str) -> Result<i64, String> {
    Quantity::parse(value)
        .map(Quantity::milli_value)
        .map_err(|error| error.to_string())
}

async fn get<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    query: &[(&str, &str)],
) -> Result<T, String> {
    let query: Vec<String> = query
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key}={}", escape(value)))
        .collect();
    let uri = if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", query.join("&"))
    };
    let mut request = Request::new("/")
        .list(&ListParams::default())
        .map_err(|error| error.to_string())?;
    *request.uri_mut() = uri
        .parse()
        .map_err(|error| format!("{uri} is no address to ask: {error}"))?;
    client
        .request(request)
        .await
        .map_err(|error| message(&error))
}

/// Everything but unreserved characters, percent-encoded.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// A label selector in its text form.
fn selector_text(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else {
        return String::new();
    };
    let labels = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value}"));
    let expressions = selector
        .match_expressions
        .iter()
        .flatten()
        .map(|expression| {
            let values = expression.values.as_deref().unwrap_or_default().join(",");
            let key = &expression.key;
            match expression.operator.as_str() {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "DoesNotExist" => format!("!{key}"),
                _ => key.clone(),
            }
        });
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_durations() {
        for (text, seconds) in [
            ("5s", 5.0),
            ("1m0s", 60.0),
            ("5.25s", 5.25),
            ("250ms", 0.25),
            ("1h1m", 3660.0),
            ("", 0.0),
            ("x", 0.0),
            ("5", 0.0),
            ("s", 0.0),
        ] {
            assert!((window_seconds(text) - seconds).abs() < 1e-9, "{text}");
        }
    }

    #[test]
    fn escapes_what_a_query_must_not_hold() {
        assert_eq!(escape("app in (a,b)"), "app%20in%20%28a%2Cb%29");
        assert_eq!(escape("web-1.x_~"), "web-1.x_~");
    }
}
