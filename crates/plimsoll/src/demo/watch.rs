//! What the demo shows, as seen through the Kubernetes API: replicas, CPU, decisions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;

use crate::cluster;
use crate::instance::Instance;

const PERIOD: Duration = Duration::from_millis(200);

/// The present state.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub wanted: i32,
    pub ready: i32,
    pub cpu_percent: Option<i32>,
    pub decisions: Vec<String>,
    pub troubles: Vec<String>,
}

/// Follows in a thread of its own, which ends with the process.
pub fn start(instance: &Instance) -> Result<Arc<Mutex<Sample>>> {
    let latest = Arc::new(Mutex::new(Sample::default()));
    let (instance, shared) = (instance.clone(), latest.clone());
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || {
            let _ = cluster::block_on(async {
                let Ok(client) = cluster::client(&instance).await else {
                    return;
                };
                let mut seen = BTreeSet::new();
                loop {
                    if let Err(error) = look(&client, &shared, &mut seen).await {
                        shared.lock().troubles = vec![format!("{error:#}")];
                    }
                    tokio::time::sleep(PERIOD).await;
                }
            });
        })?;
    Ok(latest)
}

async fn look(client: &Client, shared: &Mutex<Sample>, seen: &mut BTreeSet<String>) -> Result<()> {
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::default_namespaced(client.clone());
    let deployment = deployments.get("web-app-deployment").await?;
    let autoscaler = autoscalers.get("web-app-hpa").await?;
    // fresher than the autoscaler's status, which is written at most every 15 s while only measured values change
    let cpu = utilization(client, &deployment).await;
    let mut fresh = Vec::new();
    if let Some(text) = autoscaler.annotations().get("plimsoll.dev/last-decision")
        && seen.insert(text.clone())
    {
        fresh.push(sentence(text));
    }
    if fresh.is_empty() {
        let events: Api<Event> = Api::default_namespaced(client.clone());
        let rescales = events
            .list(&ListParams::default().fields("involvedObject.name=web-app-hpa"))
            .await?;
        for event in rescales
            .items
            .into_iter()
            .filter(|event| event.reason.as_deref() == Some("SuccessfulRescale"))
        {
            let key = format!("event/{}/{}", event.name_any(), event.count.unwrap_or(1));
            let told = !seen.iter().any(|text| text.starts_with('{'));
            if seen.insert(key) && told {
                fresh.push(event.message.unwrap_or_default());
            }
        }
    }
    let mut troubles = Vec::new();
    if deployment
        .status
        .as_ref()
        .and_then(|s| s.ready_replicas)
        .unwrap_or(0)
        < 3
    {
        for pod in Api::<Pod>::default_namespaced(client.clone())
            .list(&ListParams::default())
            .await?
        {
            if let Some(why) = crate::status::reason(&pod) {
                troubles.push(format!("{}: {why}", pod.name_any()));
            }
        }
    }
    let mut sample = shared.lock();
    sample.wanted = deployment.spec.replicas.unwrap_or(1);
    sample.ready = deployment
        .status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0);
    sample.cpu_percent = cpu;
    sample.decisions.extend(fresh);
    sample.troubles = troubles;
    Ok(())
}

/// CPU of the measured pods in percent of what they request.
async fn utilization(client: &Client, deployment: &Deployment) -> Option<i32> {
    let request = http::Request::get(
        "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3Dweb-app",
    )
    .body(Vec::new())
    .ok()?;
    let measured: serde_json::Value = client.request(request).await.ok()?;
    let pods = measured["items"]
        .as_array()
        .filter(|pods| !pods.is_empty())?;
    let used: f64 = pods
        .iter()
        .flat_map(|pod| pod["containers"].as_array().into_iter().flatten())
        .filter_map(|c| cores(c["usage"]["cpu"].as_str()?))
        .sum();
    let spec = deployment.spec.template.spec.as_ref()?;
    let requested: f64 = spec
        .containers
        .iter()
        .filter_map(|c| cores(&c.resources.as_ref()?.requests.as_ref()?.get("cpu")?.0))
        .sum();
    (requested > 0.0).then(|| (used / (requested * pods.len() as f64) * 100.0).round() as i32)
}

/// Cores from a quantity as metrics and manifests write CPU.
fn cores(quantity: &str) -> Option<f64> {
    let (digits, parts) = match quantity.char_indices().last()? {
        (at, 'n') => (&quantity[..at], 1e9),
        (at, 'u') => (&quantity[..at], 1e6),
        (at, 'm') => (&quantity[..at], 1e3),
        _ => (quantity, 1.0),
    };
    digits.parse::<f64>().ok().map(|number| number / parts)
}

/// The annotation's sentence, or the annotation itself.
fn sentence(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let field = |name: &str| {
        value
            .get(name)
            .map(|v| v.as_str().map_or(v.to_string(), str::to_owned))
    };
    match (field("from"), field("to"), field("reason")) {
        (Some(from), Some(to), Some(reason)) => format!("{from} → {to}: {reason}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_cpu() {
        for (text, want) in [
            ("100m", Some(0.1)),
            ("1", Some(1.0)),
            ("23456789n", Some(0.023_456_789)),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(cores(text), want, "{text}");
        }
    }

    #[test]
    fn decisions_in_a_sentence() {
        assert_eq!(
            sentence(r#"{"time":"t","from":3,"to":5,"reason":"because"}"#),
            "3 → 5: because"
        );
        assert_eq!(sentence("not JSON"), "not JSON");
    }
}
