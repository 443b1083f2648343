//! After a start: what the records say is compared with what runs, and taken up or cleaned up.

use super::containers::is_running;
use super::supervise::end_process;
use super::{Container, Engine, Sandbox};
use crate::error::Error;
use crate::proc::{self, ProcessId};
use crate::records::{self, ContainerRecord, ContainerState, SandboxRecord, SupervisorRecord};
use crate::runner::STEP_LABEL;
use crate::status::SandboxState;
use crate::sys;
use std::sync::Arc;

impl Engine {
    pub(super) async fn adopt_all(&self) -> Result<(), Error> {
        let inner = &self.inner;
        for id in records::ids_in(&inner.layout.sandboxes()) {
            if let Err(error) = self.adopt(&id).await {
                // One damaged record must not keep the others from being taken up.
                tracing::error!(sandbox = id, %error, "cannot take up the sandbox");
            }
        }
        self.remove_strays().await;
        Ok(())
    }

    async fn adopt(&self, id: &str) -> Result<(), Error> {
        let inner = &self.inner;
        let record: Option<SandboxRecord> = records::load(&inner.layout.sandbox_record(id))?;
        let wanted = |record: &SandboxRecord| {
            record.spec.id == id && !record.spec.labels.contains_key(STEP_LABEL)
        };
        let Some(record) = record.filter(wanted) else {
            // It was being created, or removed, when the daemon died; or nobody waits for it any more.
            let process = records::load::<SupervisorRecord>(&inner.layout.supervisor_record(id))
                .ok()
                .flatten()
                .map(|record| record.process);
            if let Some(process) = process.filter(ProcessId::alive) {
                let _ = sys::kill(process.pid as i32, libc::SIGKILL);
                end_process(&process).await;
            }
            self.release_blocking(id).await;
            return records::remove_dir(&inner.layout.sandbox(id));
        };
        let sandbox = Arc::new(Sandbox::new(&record));
        inner
            .known
            .lock()
            .sandboxes
            .insert(id.to_owned(), sandbox.clone());
        let process = records::load::<SupervisorRecord>(&inner.layout.supervisor_record(id))
            .ok()
            .flatten()
            .map(|record| record.process);
        // The records of a start are not synced: without them, or with those of another boot, what ran is only known from
        // the sandbox, whose record is.
        let boot_id = proc::boot_id();
        let rebooted = is_running(record.state)
            && process
                .as_ref()
                .is_none_or(|process| process.boot_id != boot_id);
        for container in records::ids_in(&inner.layout.containers(id)) {
            if let Err(error) = self.adopt_container(id, &container, rebooted) {
                tracing::error!(container, %error, "cannot take up the container");
            }
        }
        let _turn = sandbox.turn.lock().await;
        let alive = process.clone().filter(ProcessId::alive);
        if let (Some(process), true) = (&alive, is_running(record.state)) {
            match self.join(&sandbox, Some(process.clone())).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(sandbox = id, %error, "the supervising process is alive but cannot be reached: replacing it")
                }
            }
        }
        if let Some(process) = alive {
            let _ = sys::kill(process.pid as i32, libc::SIGKILL);
            end_process(&process).await;
        }
        if is_running(record.state) || process.is_some() {
            self.settle(&sandbox, true).await;
            if record.state == SandboxState::Created {
                inner.save_sandbox(&sandbox, SandboxState::Created)?;
            }
        }
        Ok(())
    }

    /// `rebooted`: it was in use when the machine went down.
    fn adopt_container(&self, sandbox: &str, id: &str, rebooted: bool) -> Result<(), Error> {
        let layout = &self.inner.layout;
        let Some(record) = records::load::<ContainerRecord>(&layout.container_record(sandbox, id))?
        else {
            return records::remove_dir(&layout.container(sandbox, id));
        };
        let path = layout.container_state(sandbox, id);
        let mut state = records::load::<ContainerState>(&path).unwrap_or_else(|error| {
            // It ran when the machine lost power, before its end could be recorded.
            tracing::warn!(container = id, %error, "the container's state is lost");
            None
        });
        if state.is_none() && rebooted {
            let lost = ContainerState {
                process: ProcessId::default(),
                started_at: record.created_at,
                exit: None,
            };
            records::save(&path, &lost)?;
            state = Some(lost);
        }
        let container = Container::new(&record, state.as_ref());
        self.inner
            .known
            .lock()
            .containers
            .insert(id.to_owned(), Arc::new(container));
        Ok(())
    }

    /// cgroups of this instance that belong to no sandbox that runs.
    async fn remove_strays(&self) {
        let inner = self.inner.clone();
        let known: Vec<String> = inner.known.lock().sandboxes.keys().cloned().collect();
        let removed = tokio::task::spawn_blocking(move || {
            let pods = format!("{}/{}", inner.config.cgroup_parent, crate::supervisor::PODS);
            for name in inner.cgroups.children(&pods) {
                if !known.contains(&name) {
                    let _ = inner.cgroups.remove(&format!("{pods}/{name}"));
                }
            }
        });
        let _ = removed.await;
    }
}
