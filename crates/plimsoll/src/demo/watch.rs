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
    std::thread::Builder::new().name("watch".into()).spawn(move || {
        let _ = cluster::block_on(async {
            let Ok(client) = cluster::client(&instance).await else { return };
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
    let status = autoscaler.status.clone().unwrap_or_default();
    let cpu = status
        .current_metrics
        .iter()
        .flatten()
        .find_map(|metric| metric.resource.as_ref()?.current.average_utilization);
    let mut fresh = Vec::new();
    if let Some(text) = autoscaler.annotations().get("plimsoll.dev/last-decision")
        && seen.insert(text.clone())
    {
        fresh.push(sentence(text));
    }
    if fresh.is_empty() {
        let events: Api<Event> = Api::default_namespaced(client.clone());
        let rescales = events.list(&ListParams::default().fields("involvedObject.name=web-app-hpa")).await?;
        for event in rescales.items.into_iter().filter(|event| event.reason.as_deref() == Some("SuccessfulRescale")) {
            let key = format!("event/{}/{}", event.name_any(), event.count.unwrap_or(1));
            let told = !seen.iter().any(|text| text.starts_with('{'));
            if seen.insert(key) && told {
                fresh.push(event.message.unwrap_or_default());
            }
        }
    }
    let mut troubles = Vec::new();
    if deployment.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0) < 3 {
        for pod in Api::<Pod>::default_namespaced(client.clone()).list(&ListParams::default()).await? {
            if let Some(why) = crate::status::reason(&pod) {
                troubles.push(format!("{}: {why}", pod.name_any()));
            }
        }
    }
    let mut sample = shared.lock();
    sample.wanted = deployment.spec.replicas.unwrap_or(1);
    sample.ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    sample.cpu_percent = cpu;
    sample.decisions.extend(fresh);
    sample.troubles = troubles;
    Ok(())
}

/// The annotation's sentence, or the annotation itself.
fn sentence(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let field = |name: &str| value.get(name).map(|v| v.as_str().map_or(v.to_string(), str::to_owned));
    match (field("from"), field("to"), field("reason")) {
        (Some(from), Some(to), Some(reason)) => format!("{from} → {to}: {reason}"),
        _ => text.to_owned(),
    }
}
