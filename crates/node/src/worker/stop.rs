//! The end of a pod: hooks, signals, grace; then the sandbox and everything that belonged to it.

use std::time::Duration;

use engine::{ExecSpec, State};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LifecycleHandler, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Preconditions};

use super::{Wanted, Worker};
use crate::probe;
use crate::status::{Observed, pod_status};

/// Containers that ignore everything get this long beyond the pod's grace before the sandbox is torn down.
const EXTRA: Duration = Duration::from_secs(2);

impl Worker {
    /// Stops every container (hooks first, then the signal, then the kill), then the sandbox. `grace` overrides the pod's own.
    pub(super) async fn terminate(&mut self, grace: Option<Duration>) {
        for probes in self.probes.values() {
            probes.stop.cancel();
        }
        let grace = grace.unwrap_or_else(|| {
            let seconds = self.pod.metadata.deletion_grace_period_seconds.unwrap_or(30).max(0);
            Duration::from_secs(seconds as u64)
        });
        let running: Vec<_> = self.records().await.into_values().flatten().filter(|c| c.state == State::Running).collect();
        if !running.is_empty() {
            let mut wanted = self.wanted.clone();
            let gone = async {
                let _ = wanted.wait_for(|wanted| matches!(wanted, Wanted::Gone)).await;
            };
            let stops = running.iter().map(|status| {
                let name = status.spec.name.as_str();
                self.shared.recorder.normal(&self.pod, Some(name), "Killing", format!("Stopping container {name}"));
                self.stop_one(&status.id, name, grace)
            });
            tokio::select! {
                _ = futures::future::join_all(stops) => {}
                () = gone, if !grace.is_zero() => {}
            }
        }
        let id = self.sandbox_id();
        if self.shared.engine.sandbox(&id).await.is_some() {
            if let Err(error) = self.shared.engine.stop_sandbox(&id).await {
                tracing::warn!(%error, id, "a sandbox could not be stopped");
            }
            if let Err(error) = self.shared.network.detach(&id).await {
                tracing::warn!(%error, id, "a sandbox's address could not be released");
            }
        }
        self.sandbox_ready = false;
    }

    async fn stop_one(&self, id: &str, name: &str, grace: Duration) {
        let began = tokio::time::Instant::now();
        let hook = self.container(name).and_then(|c| c.lifecycle).and_then(|l| l.pre_stop);
        if let Some(hook) = hook.filter(|_| !grace.is_zero()) {
            let outcome = tokio::time::timeout(grace, self.run_hook(id, name, &hook)).await;
            let failure = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(reason)) => Some(reason),
                Err(_) => Some("it took longer than the grace period".to_owned()),
            };
            if let Some(reason) = failure {
                self.shared.recorder.warning(&self.pod, Some(name), "FailedPreStopHook", format!("PreStopHook failed: {reason}"));
            }
        }
        // a hook that used up the grace leaves the minimum that the kubelet gives too
        let least = if grace.is_zero() { Duration::ZERO } else { EXTRA };
        let left = grace.saturating_sub(began.elapsed()).max(least.min(grace));
        if let Err(error) = self.shared.engine.stop_container(id, None, left).await {
            tracing::debug!(%error, id, "a container could not be stopped; its sandbox goes next");
        }
    }

    pub(super) async fn run_hook(&self, id: &str, name: &str, hook: &LifecycleHandler) -> Result<(), String> {
        if let Some(exec) = &hook.exec {
            let spec = ExecSpec { argv: exec.command.clone().unwrap_or_default(), ..ExecSpec::default() };
            let mut process = self.shared.engine.exec(id, spec).await.map_err(|e| e.to_string())?;
            while process.output.recv().await.is_some() {}
            let status = process.wait().await.map_err(|e| e.to_string())?;
            return if status.code == 0 { Ok(()) } else { Err(format!("command exited with code {}", status.code)) };
        }
        if let Some(get) = &hook.http_get {
            let container = self.container(name).unwrap_or_default();
            let port = probe::port_number(&container, &get.port).ok_or("the hook's port is not valid")?;
            let host = get.host.clone().or_else(|| self.address.clone()).unwrap_or_default();
            let headers = get.http_headers.iter().flatten().map(|h| (h.name.as_str(), h.value.as_str()));
            return probe::http_get(&host, port, get.path.as_deref().unwrap_or("/"), headers).await;
        }
        if let Some(sleep) = &hook.sleep {
            tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0) as u64)).await;
        }
        Ok(())
    }

    /// Writes how the pod ended and removes its object.
    pub(super) async fn report_end(&mut self) {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let mut init = self.views(spec.init_containers.as_deref().unwrap_or_default(), true).await;
        let mut containers = self.views(&spec.containers, false).await;
        for view in init.iter_mut().chain(&mut containers) {
            (view.ready, view.started) = (false, false);
        }
        let status = pod_status(&Observed {
            pod: &self.pod,
            init: &init,
            containers: &containers,
            sandbox_ready: false,
            pod_ip: self.address.as_deref(),
            host_ip: &self.shared.config.address.to_string(),
            start_time: self.start_time,
            now: Timestamp::now(),
        });
        let pods: Api<Pod> = Api::namespaced(self.shared.client.clone(), &self.pod.namespace().unwrap_or_default());
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        for attempt in 0..60u32 {
            let outcome = match self.patch_status(&status).await {
                Ok(_) => pods.delete(&self.pod.name_any(), &params).await.map(drop),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => return,
                Err(kube::Error::Api(error)) if error.code == 404 || error.code == 409 && error.message.contains("UID") => return,
                Err(error) => {
                    tracing::warn!(%error, pod = self.pod.name_any(), "a terminated pod could not be removed; trying again");
                    tokio::time::sleep(Duration::from_millis(100u64 << attempt.min(6))).await;
                }
            }
        }
    }

    /// Removes every record, snapshot, volume and log of the pod from this machine.
    pub(super) async fn forget(&mut self) {
        let ids: Vec<String> = self.records().await.into_values().flatten().map(|status| status.id).collect();
        let sandbox = self.sandbox_id();
        if let Err(error) = self.shared.engine.remove_sandbox(&sandbox).await {
            tracing::debug!(%error, sandbox, "a sandbox's record could not be removed");
        }
        let images = self.shared.images.clone();
        let directories = [self.directory(), crate::container::log_directory(&self.shared.config.logs_dir, &self.pod)];
        let cleanup = tokio::task::spawn_blocking(move || {
            for id in ids {
                if let Err(error) = images.remove_snapshot(&id) {
                    tracing::warn!(%error, id, "a snapshot could not be removed");
                }
            }
            for directory in directories {
                match std::fs::remove_dir_all(&directory) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        tracing::warn!(%error, directory = %directory.display(), "a pod's directory could not be removed");
                    }
                    _ => {}
                }
            }
        });
        let _ = cleanup.await;
    }
}
