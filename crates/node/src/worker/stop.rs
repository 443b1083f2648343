//! The end of a pod: hooks, signals, grace; then the sandbox and everything that belonged to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::{ContainerStatus, ExecSpec, State};
use k8s_openapi::api::core::v1::{LifecycleHandler, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::core::Status;
use parking_lot::Mutex;

use super::{Wanted, Worker};
use crate::leash::Leash;
use crate::{container, probe};

/// The containers whose preStop hooks have been begun: one that is hurried is not asked twice.
type Hooked = Mutex<BTreeSet<String>>;

/// Containers that ignore everything get this long beyond the pod's grace before the sandbox is torn down.
const EXTRA: Duration = Duration::from_secs(2);
/// The least that a container has between its signal and its kill, unless its pod wants none (the kubelet's
/// `minimumGracePeriodInSeconds`).
pub(super) const LEAST: Duration = Duration::from_secs(2);

impl Worker {
    /// Stops every container (hooks first, then the signal, then the kill), then the sandbox. `grace` overrides the pod's own;
    /// a deletion may shorten it.
    pub(super) async fn terminate(&mut self, grace: Option<Duration>) {
        for probes in self.probes.values() {
            probes.stop.cancel();
        }
        let mut told = BTreeSet::new();
        let hooked = Mutex::default();
        let mut grace = grace.unwrap_or_else(|| deletion_grace(&self.pod));
        // one whose object was gone before has its moment all the same
        let gone = matches!(*self.wanted.borrow(), Wanted::Gone);
        loop {
            let running: Vec<_> = self
                .records()
                .await
                .into_values()
                .flatten()
                .filter(|c| c.state == State::Running)
                .collect();
            if running.is_empty() {
                break;
            }
            let mut wanted = self.wanted.clone();
            // a second deletion may shorten the time; the object's end takes it away
            let hurried = async {
                let sooner = |wanted: &Wanted| match wanted {
                    Wanted::Present(pod) => {
                        pod.metadata.deletion_timestamp.is_some() && deletion_grace(pod) < grace
                    }
                    Wanted::Gone => true,
                };
                let changed = wanted
                    .wait_for(sooner)
                    .await
                    .ok()
                    .map(|wanted| wanted.clone());
                match changed {
                    Some(wanted) => wanted,
                    None => std::future::pending().await,
                }
            };
            for status in running
                .iter()
                .filter(|status| told.insert(status.id.clone()))
            {
                let name = status.spec.name.as_str();
                self.shared.recorder.normal(
                    &self.pod,
                    Some(name),
                    "Killing",
                    format!("Stopping container {name}"),
                );
            }
            tokio::select! {
                () = self.stop_all(&running, grace, &hooked) => break,
                hurried = hurried, if !grace.is_zero() && !gone => match hurried {
                    Wanted::Present(pod) => {
                        grace = deletion_grace(&pod).min(grace);
                        self.pod = pod;
                    }
                    Wanted::Gone => break,
                }
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

    /// Regular containers at once, then the sidecars that served them, the last started first. Those in `hooked` have had
    /// their hooks begun.
    async fn stop_all(&self, running: &[ContainerStatus], grace: Duration, hooked: &Hooked) {
        let began = tokio::time::Instant::now();
        let sidecars: Vec<String> = self
            .pod
            .spec
            .iter()
            .flat_map(|spec| spec.init_containers.iter().flatten())
            .filter(|container| container::is_sidecar(container))
            .map(|container| container.name.clone())
            .rev()
            .collect();
        let (late, first): (Vec<_>, Vec<_>) = running
            .iter()
            .partition(|status| sidecars.contains(&status.spec.name));
        let stopping = first
            .iter()
            .map(|status| self.stop(&status.id, &status.spec.name, grace, hooked));
        // they are told at once that the end is near, though their turn comes later
        let warning = late
            .iter()
            .map(|status| self.pre_stop(&status.id, &status.spec.name, grace, hooked));
        tokio::join!(
            futures::future::join_all(stopping),
            futures::future::join_all(warning),
        );
        for name in sidecars {
            if let Some(status) = late.iter().find(|status| status.spec.name == name) {
                let least = if grace.is_zero() {
                    Duration::ZERO
                } else {
                    EXTRA
                };
                self.stop(
                    &status.id,
                    &name,
                    grace.saturating_sub(began.elapsed()).max(least),
                    hooked,
                )
                .await;
            }
        }
    }

    pub(super) async fn stop_one(&self, id: &str, name: &str, grace: Duration) {
        self.stop(id, name, grace, &Mutex::default()).await;
    }

    async fn stop(&self, id: &str, name: &str, grace: Duration, hooked: &Hooked) {
        let began = tokio::time::Instant::now();
        self.pre_stop(id, name, grace, hooked).await;
        // a hook that used up the grace leaves the minimum that the kubelet gives too
        let least = if grace.is_zero() {
            Duration::ZERO
        } else {
            EXTRA
        };
        let left = grace.saturating_sub(began.elapsed()).max(least.min(grace));
        if let Err(error) = self.shared.engine.stop_container(id, None, left).await {
            tracing::debug!(%error, id, "a container could not be stopped; its sandbox goes next");
        }
    }

    /// Runs the container's preStop hook, if it has one that was not begun before.
    async fn pre_stop(&self, id: &str, name: &str, grace: Duration, hooked: &Hooked) {
        let hook = self
            .container(name)
            .and_then(|c| c.lifecycle)
            .and_then(|l| l.pre_stop);
        if let Some(hook) = hook.filter(|_| !grace.is_zero() && hooked.lock().insert(id.to_owned()))
        {
            let outcome = tokio::time::timeout(grace, self.run_hook(id, name, &hook)).await;
            let failure = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(reason)) => Some(reason),
                Err(_) => Some("it took longer than the grace period".to_owned()),
            };
            if let Some(reason) = failure {
                self.shared.recorder.warning(
                    &self.pod,
                    Some(name),
                    "FailedPreStopHook",
                    format!("PreStopHook failed: {reason}"),
                );
            }
        }
    }

    pub(super) async fn run_hook(
        &self,
        id: &str,
        name: &str,
        hook: &LifecycleHandler,
    ) -> Result<(), String> {
        if let Some(exec) = &hook.exec {
            let spec = ExecSpec {
                argv: exec.command.clone().unwrap_or_default(),
                ..ExecSpec::default()
            };
            let mut process = self
                .shared
                .engine
                .exec(id, spec)
                .await
                .map_err(|e| e.to_string())?;
            let leash = Leash::of(&process);
            while process.output.recv().await.is_some() {}
            let status = process.wait().await.map_err(|e| e.to_string())?;
            leash.release();
            return if status.code == 0 {
                Ok(())
            } else {
                Err(format!("command exited with code {}", status.code))
            };
        }
        if let Some(get) = &hook.http_get {
            let container = self.container(name).unwrap_or_default();
            let port =
                probe::port_number(&container, &get.port).ok_or("the hook's port is not valid")?;
            let host = get
                .host
                .clone()
                .filter(|host| !host.is_empty())
                .or_else(|| self.addresses.first().cloned())
                .unwrap_or_default();
            let headers = get
                .http_headers
                .iter()
                .flatten()
                .map(|h| (h.name.as_str(), h.value.as_str()));
            let tls = get.scheme.as_deref() == Some("HTTPS");
            let path = get.path.as_deref().unwrap_or("/");
            return probe::http_hook(tls, &host, port, path, headers).await;
        }
        if let Some(sleep) = &hook.sleep {
            tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0) as u64)).await;
        }
        Ok(())
    }

    /// Writes how the pod ended and removes its object. Returns when that is gone.
    pub(super) async fn report_end(&mut self) {
        let status = self.status(true).await;
        let pods: Api<Pod> = Api::namespaced(
            self.shared.client.clone(),
            &self.pod.namespace().unwrap_or_default(),
        );
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(self.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        // nobody else removes the object, however long the API server is away
        for attempt in 0u32.. {
            if matches!(*self.wanted.borrow(), Wanted::Gone) {
                return;
            }
            let outcome = match self.patch_status(&status).await {
                Ok(_) => pods.delete(&self.pod.name_any(), &params).await.map(drop),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(()) => return,
                Err(kube::Error::Api(error)) if is_of_another(&error) => return,
                Err(error) => {
                    tracing::warn!(%error, pod = self.pod.name_any(), "a terminated pod could not be removed; trying again");
                    tokio::time::sleep(Duration::from_millis(100u64 << attempt.min(6))).await;
                }
            }
        }
    }

    /// Removes every record, snapshot, volume and log of the pod from this machine.
    pub(super) async fn forget(&mut self) {
        let images = self.shared.images.clone();
        let ids = std::mem::take(&mut self.ids);
        let directory = self.directory();
        let (logs, uid) = (self.shared.config.logs_dir.clone(), self.uid.clone());
        let own = container::log_directory(&logs, &self.pod);
        let known = self.pod.metadata.name.is_some();
        let cleanup = tokio::task::spawn_blocking(move || {
            for id in ids {
                if let Err(error) = images.remove_snapshot(&id) {
                    tracing::warn!(%error, id, "a snapshot could not be removed");
                }
            }
            if let Err(error) = crate::volumes::release(&directory) {
                tracing::warn!(%error, directory = %directory.display(), "a pod's volumes could not be removed");
            }
            // the name of a pod that vanished meanwhile is not known, but its directory ends with its UID
            let logs = if known {
                vec![own]
            } else {
                directories_of(&logs, &uid)
            };
            for directory in logs {
                match std::fs::remove_dir_all(&directory) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        tracing::warn!(%error, directory = %directory.display(), "a pod's logs could not be removed");
                    }
                    _ => {}
                }
            }
        });
        let _ = cleanup.await;
        // last: while the record is there, a daemon that starts again finds what is left to do
        let sandbox = self.sandbox_id();
        if self.shared.engine.sandbox(&sandbox).await.is_some()
            && let Err(error) = self.shared.engine.remove_sandbox(&sandbox).await
        {
            tracing::warn!(%error, sandbox, "a sandbox's record could not be removed");
        }
    }
}

/// The object is gone, or another one has its name: a deletion conflicts then, and a patch that names the old uid is invalid.
fn is_of_another(error: &Status) -> bool {
    match error.code {
        404 => true,
        409 => error.message.contains("UID"),
        422 => error.message.contains("metadata.uid"),
        _ => false,
    }
}

fn directories_of(logs: &Path, uid: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(logs).into_iter().flatten().flatten();
    let suffix = format!("_{uid}");
    entries
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(&suffix))
        .map(|entry| entry.path())
        .collect()
}

fn deletion_grace(pod: &Pod) -> Duration {
    Duration::from_secs(
        pod.metadata
            .deletion_grace_period_seconds
            .unwrap_or(30)
            .max(0) as u64,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_another_pod_is_not_ours() {
        for (code, message, expected) in [
            (404, "pods \"a\" not found", true),
            (
                409,
                "Precondition failed: UID in precondition: a, UID in object meta: b",
                true,
            ),
            (409, "the object has been modified", false),
            (
                422,
                "Pod \"a\" is invalid: metadata.uid: Invalid value: \"a\": field is immutable",
                true,
            ),
            (
                422,
                "Pod \"a\" is invalid: status.phase: Unsupported value",
                false,
            ),
            (500, "metadata.uid", false),
        ] {
            let error = Status::failure(message, "").with_code(code);
            assert_eq!(is_of_another(&error), expected, "{code} {message}");
        }
    }
}
