//! Sandboxes: create, start, update, stop, remove.

use super::supervise::{END_MAX, end_process};
use super::{Engine, Inner, Sandbox, SandboxNow, validate};
use crate::error::Error;
use crate::ids;
use crate::oci;
use crate::records::{self, SandboxRecord};
use crate::spec::{PublishedPort, SandboxSpec, SandboxUpdate};
use crate::status::{Event, SandboxState, SandboxStatus, Stats};
use crate::supervisor::release;
use crate::wire::{Reply, Request};
use jiff::Timestamp;
use parking_lot::Mutex;
use std::sync::Arc;

impl Engine {
    /// Records a sandbox; nothing runs yet.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<(), Error> {
        validate::sandbox(&spec)?;
        let inner = &self.inner;
        let id = spec.id.clone();
        // Looked up before the lock is taken: it reads a file per process.
        let others = match spec.user_namespace {
            true => tokio::task::spawn_blocking(ids::used_by_others)
                .await
                .unwrap_or_default(),
            false => Vec::new(),
        };
        let mut record = SandboxRecord {
            spec,
            created_at: Timestamp::now(),
            state: SandboxState::Created,
            ids: None,
        };
        {
            // Taken before anything is written: of two with the same id one must lose.
            let mut known = inner.known.lock();
            if known.sandboxes.contains_key(&id) {
                return Err(Error::AlreadyExists {
                    what: "sandbox",
                    id,
                });
            }
            if record.spec.user_namespace {
                let ours = known.sandboxes.values().filter_map(|sandbox| sandbox.ids);
                let ours = ours.map(|first| (u64::from(first), u64::from(ids::COUNT)));
                let used: Vec<ids::Used> = ours.chain(others).collect();
                record.ids = ids::choose(&id, &used);
                if record.ids.is_none() {
                    return Err(Error::Invalid {
                        field: "user_namespace",
                        reason: "all ranges of ids for user namespaces are in use on this machine"
                            .into(),
                    });
                }
            }
            known
                .sandboxes
                .insert(id.clone(), Arc::new(Sandbox::new(&record)));
        }
        let saved = records::make_dir(&inner.layout.containers(&id))
            .and_then(|()| records::save(&inner.layout.sandbox_record(&id), &record));
        if let Err(error) = saved {
            inner.known.lock().sandboxes.remove(&id);
            let _ = records::remove_dir(&inner.layout.sandbox(&id));
            return Err(error);
        }
        Ok(())
    }

    /// Starts its supervising process, which makes cgroup and namespaces and binds published ports. A running one is left as it is.
    ///
    /// Errors: `PortTaken` when a published port is in use.
    pub async fn start_sandbox(&self, id: &str) -> Result<SandboxStatus, Error> {
        let inner = &self.inner;
        let sandbox = inner.get_sandbox(id)?;
        let _turn = sandbox.turn.lock().await;
        let (spec, before) = {
            let now = sandbox.now.lock();
            (now.spec.clone(), now.state)
        };
        if before == SandboxState::Running {
            return Ok(inner.status_of_sandbox(&sandbox));
        }
        inner.write_files(&spec)?;
        // Recorded first: a daemon that dies now must find and clean up what was started.
        inner.save_sandbox(&sandbox, SandboxState::Running)?;
        match self.supervise(&sandbox).await {
            Ok(()) => {
                inner.tell(Event::SandboxStarted { id: id.to_owned() });
                Ok(inner.status_of_sandbox(&sandbox))
            }
            Err(error) => {
                self.release_blocking(id).await;
                inner.save_sandbox(&sandbox, before)?;
                Err(error)
            }
        }
    }

    /// Changes files, published ports and limits of a sandbox, running or not. Ports that stay are not interrupted.
    ///
    /// Errors: `PortTaken`, and then no port has changed; the kernel's refusal of a limit, and then the old ones hold.
    pub async fn update_sandbox(&self, id: &str, update: SandboxUpdate) -> Result<(), Error> {
        let inner = &self.inner;
        let sandbox = inner.get_sandbox(id)?;
        let _turn = sandbox.turn.lock().await;
        let (mut spec, state) = {
            let now = sandbox.now.lock();
            (SandboxSpec::clone(&now.spec), now.state)
        };
        if let Some(ports) = update.published {
            if state == SandboxState::Running {
                let published = match inner
                    .link_of(id)?
                    .call(
                        Request::Publish {
                            ports: ports.clone(),
                        },
                        id,
                    )
                    .await?
                {
                    Reply::Published { ports } => ports,
                    _ => Vec::new(),
                };
                sandbox.now.lock().published = published;
            }
            spec.published = ports;
        }
        if let Some(resources) = update.resources {
            if state == SandboxState::Running && resources != spec.resources {
                let (cgroup, old) = (inner.cgroup_of_sandbox(id), spec.resources.clone());
                self.limit(id, cgroup, old, resources.clone()).await?;
            }
            spec.resources = resources;
        }
        if let Some(hosts) = update.hosts {
            spec.hosts = hosts;
        }
        if let Some(resolv_conf) = update.resolv_conf {
            spec.resolv_conf = resolv_conf;
        }
        inner.write_files(&spec)?;
        sandbox.now.lock().spec = Arc::new(spec);
        inner.save_sandbox(&sandbox, state)
    }

    /// Kills what is left in it and releases its namespaces, cgroup and ports. The records stay; it can be started again.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let sandbox = self.inner.get_sandbox(id)?;
        let _turn = sandbox.turn.lock().await;
        self.stop_taken(&sandbox, true).await
    }

    /// Stops it and removes its records and those of its containers.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let inner = &self.inner;
        let sandbox = inner.get_sandbox(id)?;
        let _turn = sandbox.turn.lock().await;
        // Its end need not be recorded: a daemon that dies now finds no supervising process, and comes to the same conclusion.
        let ran = sandbox.now.lock().state == SandboxState::Running;
        self.stop_taken(&sandbox, false).await?;
        if !ran {
            self.release_blocking(id).await;
        }
        records::remove_dir(&inner.layout.sandbox(id))?;
        let containers = inner.containers_of(id);
        {
            let mut known = inner.known.lock();
            known.sandboxes.remove(id);
            for container in &containers {
                known.containers.remove(&container.id);
            }
        }
        for container in containers {
            inner.tell(Event::ContainerRemoved {
                id: container.id.clone(),
                sandbox: id.to_owned(),
            });
        }
        inner.tell(Event::SandboxRemoved { id: id.to_owned() });
        Ok(())
    }

    /// Counters of all its containers together, while it runs.
    pub async fn sandbox_stats(&self, id: &str) -> Result<Stats, Error> {
        let sandbox = self.inner.get_sandbox(id)?;
        let state = sandbox.now.lock().state;
        if state != SandboxState::Running {
            let state = format!("{state:?}").to_lowercase();
            return Err(Error::State {
                action: "measure",
                what: "sandbox",
                id: id.to_owned(),
                state,
            });
        }
        self.inner.cgroups.stats(&self.inner.cgroup_of_sandbox(id))
    }

    async fn stop_taken(&self, sandbox: &Arc<Sandbox>, record: bool) -> Result<(), Error> {
        let (state, link, process) = {
            let mut now = sandbox.now.lock();
            now.stopping = true;
            (now.state, now.link.take(), now.supervisor.clone())
        };
        if state != SandboxState::Running {
            sandbox.now.lock().stopping = false;
            return Ok(());
        }
        if let Some(link) = link {
            // Its answer may be lost with it; whether it is gone is looked at below.
            let _ = tokio::time::timeout(END_MAX, link.call(Request::Stop, &sandbox.id)).await;
        }
        if let Some(process) = process {
            end_process(&process).await;
        }
        self.settle(sandbox, record).await;
        Ok(())
    }

    /// The supervising process is gone: clean up after it and write down (of the sandbox only with `record`) what became of everything.
    pub(super) async fn settle(&self, sandbox: &Arc<Sandbox>, record: bool) {
        let inner = &self.inner;
        self.release_blocking(&sandbox.id).await;
        for container in inner.containers_of(&sandbox.id) {
            inner.settle_container(&container);
        }
        {
            let mut now = sandbox.now.lock();
            now.link = None;
            now.supervisor = None;
            now.published = Vec::new();
            now.stopping = false;
            now.state = SandboxState::Stopped;
        }
        if record && let Err(error) = inner.save_sandbox(sandbox, SandboxState::Stopped) {
            // A full disk must not keep anything from being stopped; a later daemon comes to the same conclusion.
            tracing::warn!(sandbox = sandbox.id, %error, "the end of the sandbox is not recorded");
        }
        inner.tell(Event::SandboxStopped {
            id: sandbox.id.clone(),
        });
    }

    /// The control connection ended.
    pub(super) async fn lost_link(&self, id: &str, number: u64) {
        let Ok(sandbox) = self.inner.get_sandbox(id) else {
            return;
        };
        if sandbox.now.lock().stopping {
            return;
        }
        let _turn = sandbox.turn.lock().await;
        let process = {
            let now = sandbox.now.lock();
            let replaced = now.link.as_ref().is_none_or(|link| link.number != number);
            if replaced || now.stopping || now.state != SandboxState::Running {
                return;
            }
            now.supervisor.clone()
        };
        tracing::warn!(sandbox = id, "the supervising process went away");
        if let Some(process) = process {
            end_process(&process).await;
        }
        self.settle(&sandbox, true).await;
    }

    pub(super) async fn release_blocking(&self, id: &str) {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        let released = tokio::task::spawn_blocking(move || {
            release(
                &inner.layout,
                &inner.cgroups,
                &inner.cgroup_of_sandbox(&id),
                &id,
            )
        })
        .await;
        if !released.unwrap_or(false) {
            tracing::warn!("a sandbox's cgroup or mount could not be removed yet");
        }
    }
}

impl Inner {
    /// Writes the files that its containers see, in place: they are bound into containers by inode.
    fn write_files(&self, spec: &SandboxSpec) -> Result<(), Error> {
        let dir = self.layout.sandbox(&spec.id);
        let hostname = format!("{}\n", oci::hostname(spec));
        for (name, content) in [
            ("hosts", &spec.hosts),
            ("hostname", &hostname),
            ("resolv.conf", &spec.resolv_conf),
        ] {
            let path = dir.join(name);
            std::fs::write(&path, content).map_err(|error| Error::io("write", &path, error))?;
            let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            std::fs::set_permissions(&path, readable)
                .map_err(|error| Error::io("set the mode of", &path, error))?;
        }
        Ok(())
    }

    pub(super) fn save_sandbox(&self, sandbox: &Sandbox, state: SandboxState) -> Result<(), Error> {
        let spec = {
            let mut now = sandbox.now.lock();
            now.state = state;
            SandboxSpec::clone(&now.spec)
        };
        let record = SandboxRecord {
            spec,
            created_at: sandbox.created_at,
            state,
            ids: sandbox.ids,
        };
        records::save(&self.layout.sandbox_record(&sandbox.id), &record)
    }
}

impl Sandbox {
    pub(super) fn new(record: &SandboxRecord) -> Sandbox {
        let no_ports: Vec<PublishedPort> = Vec::new();
        Sandbox {
            id: record.spec.id.clone(),
            created_at: record.created_at,
            ids: record.ids,
            now: Mutex::new(SandboxNow {
                spec: Arc::new(record.spec.clone()),
                state: record.state,
                supervisor: None,
                published: no_ports,
                link: None,
                stopping: false,
            }),
            turn: tokio::sync::Mutex::new(()),
        }
    }
}
