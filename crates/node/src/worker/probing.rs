//! The probes of running containers: started once each, their verdicts taken in.

use engine::ContainerStatus;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use tokio_util::sync::CancellationToken;

use super::{Probes, Worker};
use crate::container::label;
use crate::probe::{self, Verdict};

impl Worker {
    /// Starts the probes of a running container, once.
    pub(super) fn watch_running(&mut self, container: &Container, status: &ContainerStatus) {
        if let Some(attempt) = self.attempts.get_mut(&container.name) {
            attempt.waiting = None;
        }
        let attempt = self.attempts.entry(container.name.clone()).or_default();
        attempt.id = Some(status.id.clone());
        if attempt.image_id.is_empty() {
            attempt.image_id = status
                .spec
                .labels
                .get(label::IMAGE_ID)
                .cloned()
                .unwrap_or_default();
        }
        let (startup, readiness, liveness) = (
            container.startup_probe.clone(),
            container.readiness_probe.clone(),
            container.liveness_probe.clone(),
        );
        // after a restart of the daemon, what was ready stays so until a probe says otherwise
        let known = self.pod.status.as_ref().and_then(|before| {
            let id = format!("plimsoll://{}", status.id);
            let all = before
                .container_statuses
                .iter()
                .chain(&before.init_container_statuses)
                .flatten();
            all.into_iter()
                .find(|c| c.container_id.as_ref() == Some(&id))
                .cloned()
        });
        let probes = self
            .probes
            .entry(status.id.clone())
            .or_insert_with(|| Probes {
                ready: known.as_ref().is_some_and(|c| c.ready),
                started: known.as_ref().is_some_and(|c| c.started == Some(true)),
                ..Probes::default()
            });
        let target = |probe, kind| probe::Target {
            engine: self.shared.engine.clone(),
            container_id: status.id.clone(),
            container: container.clone(),
            probe,
            pod_ip: self.addresses.first().cloned().unwrap_or_default(),
            kind,
            age: super::age(
                status.started_at.unwrap_or(status.created_at),
                Timestamp::now(),
            ),
        };
        let run = |target, stop: &CancellationToken| {
            tokio::spawn(probe::run(target, self.verdicts_in.clone(), stop.clone()));
        };
        if !probes.asked {
            probes.asked = true;
            match startup.filter(|_| !probes.started) {
                Some(probe) => run(target(probe, probe::Kind::Startup), &probes.stop),
                None => probes.started = true,
            }
        }
        if probes.started && !probes.settled {
            probes.settled = true;
            match readiness {
                Some(probe) => run(target(probe, probe::Kind::Readiness), &probes.stop),
                None => probes.ready = true,
            }
            if let Some(probe) = liveness {
                run(target(probe, probe::Kind::Liveness), &probes.stop);
            }
        }
    }

    /// Whether a container that a probe ends is started again.
    fn restarts(&self, name: &str) -> bool {
        let own = self.container(name).and_then(|one| one.restart_policy);
        let spec = self.pod.spec.as_ref();
        let policy = own.or_else(|| spec.and_then(|spec| spec.restart_policy.clone()));
        policy.as_deref() != Some("Never")
    }

    pub(super) fn judge(&mut self, verdict: Verdict) {
        let Some(probes) = self.probes.get_mut(&verdict.container_id) else {
            return;
        };
        if probes.stop.is_cancelled() {
            return;
        }
        let name = self
            .attempts
            .iter()
            .find(|(_, a)| a.id.as_deref() == Some(&verdict.container_id))
            .map(|(n, _)| n.clone());
        if let (Some(failure), Some(name)) = (&verdict.failure, &name) {
            let message = format!("{} probe failed: {failure}", verdict.kind.word());
            self.shared
                .recorder
                .warning(&self.pod, Some(name), "Unhealthy", message);
        }
        let Some(turned) = verdict.turned else { return };
        match verdict.kind {
            probe::Kind::Readiness => probes.ready = turned,
            probe::Kind::Startup if turned => probes.started = true,
            probe::Kind::Startup | probe::Kind::Liveness if !turned => {
                probes.condemned = Some(verdict.grace);
                if let Some(name) = name {
                    let again = match self.restarts(&name) {
                        true => ", will be restarted",
                        false => "",
                    };
                    let message = format!(
                        "Container {name} failed {} probe{again}",
                        verdict.kind.word().to_lowercase()
                    );
                    self.shared
                        .recorder
                        .normal(&self.pod, Some(&name), "Killing", message);
                }
            }
            _ => {}
        }
    }
}
