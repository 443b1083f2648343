//! One reading of everything that runs in pods here.

use std::collections::BTreeMap;

use engine::{ContainerStatus, Engine, SandboxState, State, Stats};

use crate::container::label;

/// What was read, at about one time.
#[derive(Debug, Default)]
pub struct Samples {
    /// Containers that run.
    pub containers: Vec<(ContainerStatus, Stats)>,
    /// Pods that run, with all that was ever used in them: theirs and not the sum of their containers.
    pub pods: Vec<(PodName, Stats)>,
    /// Whether nothing that runs could not be read.
    pub complete: bool,
}

/// What a pod is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl PodName {
    /// The pod of a container.
    pub fn of(container: &ContainerStatus) -> Self {
        let label = |key: &str| container.spec.labels.get(key).cloned().unwrap_or_default();
        Self {
            namespace: label(label::POD_NAMESPACE),
            name: label(label::POD_NAME),
            uid: label(label::POD_UID),
        }
    }
}

impl Samples {
    /// Reads the groups of every pod and of its containers.
    pub async fn read(engine: &Engine) -> Self {
        let mut samples = Self {
            complete: true,
            ..Self::default()
        };
        let mut pods = BTreeMap::new();
        for status in engine.containers().await {
            let pod = PodName::of(&status);
            if pod.uid.is_empty() {
                continue;
            }
            pods.insert(status.sandbox.clone(), pod);
            if status.state != State::Running {
                continue;
            }
            match engine.stats(&status.id).await {
                Ok(stats) => samples.containers.push((status, stats)),
                // a container that ends while it is measured has no figures
                Err(_) => {
                    let now = engine.container(&status.id).await;
                    samples.complete &= now.is_none_or(|now| now.state != State::Running);
                }
            }
        }
        for (sandbox, pod) in pods {
            match engine.sandbox_stats(&sandbox).await {
                Ok(stats) => samples.pods.push((pod, stats)),
                Err(_) => {
                    let now = engine.sandbox(&sandbox).await;
                    samples.complete &= now.is_none_or(|now| now.state != SandboxState::Running);
                }
            }
        }
        samples.pods.sort_by(|(a, _), (b, _)| a.cmp(b));
        samples
    }
}
