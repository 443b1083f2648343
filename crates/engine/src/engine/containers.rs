//! Containers: create, start, signal, stop, wait, remove, measure.

use super::{Container, ContainerNow, Engine, Inner, validate};
use crate::error::Error;
use crate::proc;
use crate::records::{self, ContainerRecord, ContainerState};
use crate::spec::{ContainerSpec, Resources};
use crate::status::{Event, ExitStatus, SandboxState, State, Stats};
use crate::wire::Request;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a killed container may take to be gone.
const KILL_MAX: Duration = Duration::from_secs(30);

impl Engine {
    /// Records a container in a sandbox that exists; nothing runs yet.
    pub async fn create_container(&self, spec: ContainerSpec) -> Result<(), Error> {
        validate::container(&spec)?;
        let score = crate::oci::oom_score_possible(spec.oom_score_adj);
        if score > spec.oom_score_adj {
            tracing::info!(
                container = spec.id,
                wanted = spec.oom_score_adj,
                score,
                "the kernel may choose this container sooner than was asked for when memory is short: without CAP_SYS_RESOURCE \
                 oom_score_adj cannot be lowered"
            );
        }
        let inner = &self.inner;
        let sandbox = inner.get_sandbox(&spec.sandbox)?;
        let _turn = sandbox.turn.lock().await;
        inner.get_sandbox(&spec.sandbox)?;
        let (id, sandbox) = (spec.id.clone(), spec.sandbox.clone());
        let record = ContainerRecord {
            spec,
            created_at: Timestamp::now(),
        };
        {
            let mut known = inner.known.lock();
            if known.containers.contains_key(&id) {
                return Err(Error::AlreadyExists {
                    what: "container",
                    id,
                });
            }
            known
                .containers
                .insert(id.clone(), Arc::new(Container::new(&record, None)));
        }
        let dir = inner.layout.container(&sandbox, &id);
        let saved = records::make_dir(&dir)
            .and_then(|()| records::save(&inner.layout.container_record(&sandbox, &id), &record));
        if let Err(error) = saved {
            inner.known.lock().containers.remove(&id);
            let _ = records::remove_dir(&dir);
            return Err(error);
        }
        inner.tell(Event::ContainerCreated { id, sandbox });
        Ok(())
    }

    /// Starts its program; its sandbox must run. One that has exited can be started again.
    ///
    /// Errors: `Start`, with what was not found or not allowed.
    pub async fn start_container(&self, id: &str) -> Result<(), Error> {
        let container = self.inner.get_container(id)?;
        let _turn = container.turn.lock().await;
        if container.now.borrow().state == State::Running {
            return Err(container.state_error("start"));
        }
        let spec = container.now.borrow().spec.clone();
        let provided = self.inner.profile.provide(&spec.security).await;
        provided.map_err(|reason| Error::Start {
            id: id.to_owned(),
            reason,
            code: 128,
        })?;
        let link = self.inner.link_of(&container.sandbox)?;
        // The link takes the start in before any exit that follows it.
        link.call(
            Request::Start {
                container: id.to_owned(),
            },
            id,
        )
        .await
        .map(drop)
    }

    /// Sends a signal to its first process. One that is paused goes on with it.
    pub async fn signal_container(&self, id: &str, signal: i32) -> Result<(), Error> {
        let container = self.running(id, "signal")?;
        let link = self.inner.link_of(&container.sandbox)?;
        let request = Request::Signal {
            container: id.to_owned(),
            signal,
        };
        link.call(request, id).await?;
        self.let_go_on(&container);
        Ok(())
    }

    /// Asks it to end with `signal` (else the container's own, else SIGTERM), and kills it when `grace` is over. One that has
    /// ended already tells how.
    pub async fn stop_container(
        &self,
        id: &str,
        signal: Option<i32>,
        grace: Duration,
    ) -> Result<ExitStatus, Error> {
        let container = self.inner.get_container(id)?;
        let now = container.now.borrow().clone();
        match now.state {
            State::Created => return Err(container.state_error("stop")),
            State::Exited => return self.wait_container(id).await,
            State::Running => {}
        }
        let signal = signal.or(now.spec.stop_signal).unwrap_or(libc::SIGTERM);
        if !grace.is_zero() {
            // It may end by itself at this moment; waiting tells.
            let _ = self.signal_container(id, signal).await;
            if let Ok(ended) = tokio::time::timeout(grace, self.wait_container(id)).await {
                return ended;
            }
        }
        if let Ok(link) = self.inner.link_of(&container.sandbox) {
            let _ = link
                .call(
                    Request::Kill {
                        container: id.to_owned(),
                    },
                    id,
                )
                .await;
        }
        match tokio::time::timeout(KILL_MAX, self.wait_container(id)).await {
            Ok(ended) => ended,
            Err(_) => Err(Error::Supervisor {
                sandbox: container.sandbox.clone(),
                reason: format!("cannot kill container {id}"),
            }),
        }
    }

    /// Waits until it has exited: at once when it has, else for the end of the run that is or will be.
    pub async fn wait_container(&self, id: &str) -> Result<ExitStatus, Error> {
        let mut now = self.inner.get_container(id)?.now.subscribe();
        let ended = now
            .wait_for(|now| now.state == State::Exited)
            .await
            .map(|now| now.exit.clone());
        match ended {
            Ok(Some(exit)) => Ok(exit),
            _ => Err(Error::NotFound {
                what: "container",
                id: id.to_owned(),
            }),
        }
    }

    /// Removes the records of one that does not run. Its log stays.
    pub async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let inner = &self.inner;
        let container = inner.get_container(id)?;
        let _turn = container.turn.lock().await;
        if container.now.borrow().state == State::Running {
            return Err(container.state_error("remove"));
        }
        if let Ok(link) = inner.link_of(&container.sandbox) {
            let _ = link
                .call(
                    Request::Forget {
                        container: id.to_owned(),
                    },
                    id,
                )
                .await;
        }
        records::remove_dir(&inner.layout.container(&container.sandbox, id))?;
        inner.known.lock().containers.remove(id);
        inner.tell(Event::ContainerRemoved {
            id: id.to_owned(),
            sandbox: container.sandbox.clone(),
        });
        Ok(())
    }

    /// Replaces its annotations, durably.
    pub async fn set_annotations(
        &self,
        container_id: &str,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let container = self.inner.get_container(container_id)?;
        let _turn = container.turn.lock().await;
        self.inner
            .replace(&container, |spec| spec.annotations = annotations)
    }

    /// Replaces its limits and annotations, durably, and what runs of it gets the new limits at once. A limit that is not named is
    /// left as it is, until the next start.
    ///
    /// Errors: the kernel's refusal of a limit (less memory than cannot be freed, for example); then the old ones hold.
    pub async fn update_container(
        &self,
        container_id: &str,
        resources: Resources,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let container = self.inner.get_container(container_id)?;
        let _turn = container.turn.lock().await;
        let before = container.now.borrow().clone();
        if before.state == State::Running && resources != before.spec.resources {
            let cgroup = self.inner.cgroup_of_container(&container);
            let (old, new) = (before.spec.resources.clone(), resources.clone());
            self.limit(&container.sandbox, cgroup, old, new).await?;
        }
        self.inner.replace(&container, |spec| {
            spec.resources = resources;
            spec.annotations = annotations;
        })
    }

    /// Gives a group new limits; when the kernel refuses one, the old ones hold.
    pub(super) async fn limit(
        &self,
        sandbox: &str,
        cgroup: String,
        old: Resources,
        new: Resources,
    ) -> Result<(), Error> {
        let inner = self.inner.clone();
        // The kernel may be busy for a while with freeing what is over the limit.
        let limiting = tokio::task::spawn_blocking(move || {
            inner.cgroups.limit(&cgroup, &new).inspect_err(|_| {
                let _ = inner.cgroups.limit(&cgroup, &old);
            })
        });
        limiting.await.map_err(|error| Error::Supervisor {
            sandbox: sandbox.to_owned(),
            reason: format!("got no new limits: {error}"),
        })?
    }

    /// Its counters, while it runs.
    pub async fn stats(&self, container_id: &str) -> Result<Stats, Error> {
        let container = self.running(container_id, "measure")?;
        self.inner
            .cgroups
            .stats(&self.inner.cgroup_of_container(&container))
    }

    /// Sets the size of its terminal, now or for when it starts.
    pub async fn resize_container(&self, id: &str, cols: u16, rows: u16) -> Result<(), Error> {
        let container = self.inner.get_container(id)?;
        let link = self.inner.link_of(&container.sandbox)?;
        link.call(
            Request::Resize {
                container: id.to_owned(),
                cols,
                rows,
            },
            id,
        )
        .await
        .map(drop)
    }

    pub(super) fn running(&self, id: &str, action: &'static str) -> Result<Arc<Container>, Error> {
        let container = self.inner.get_container(id)?;
        if container.now.borrow().state != State::Running {
            return Err(container.state_error(action));
        }
        Ok(container)
    }
}

impl Inner {
    /// Changes a container's specification, durably; the caller has its turn.
    fn replace(
        &self,
        container: &Container,
        change: impl FnOnce(&mut ContainerSpec),
    ) -> Result<(), Error> {
        let mut spec = ContainerSpec::clone(&container.now.borrow().spec);
        change(&mut spec);
        let record = ContainerRecord {
            spec,
            created_at: container.created_at,
        };
        let path = self
            .layout
            .container_record(&container.sandbox, &container.id);
        records::save(&path, &record)?;
        container
            .now
            .send_modify(|now| now.spec = Arc::new(record.spec));
        Ok(())
    }

    /// Its supervising process told that it started.
    pub(super) fn started(&self, id: &str, state: &ContainerState) {
        let Ok(container) = self.get_container(id) else {
            return;
        };
        container.now.send_modify(|now| now.take(state));
        self.tell(Event::ContainerStarted {
            id: id.to_owned(),
            sandbox: container.sandbox.clone(),
            pid: state.process.pid,
        });
    }

    /// Its supervising process told how it ended.
    pub(super) fn exited(&self, id: &str, status: ExitStatus) {
        let Ok(container) = self.get_container(id) else {
            return;
        };
        let changed = container.now.send_if_modified(|now| {
            let changes = now.state == State::Running;
            if changes {
                now.state = State::Exited;
                now.exit = Some(status.clone());
            }
            changes
        });
        if changed {
            let sandbox = container.sandbox.clone();
            if status.oom_killed {
                self.tell(Event::ContainerOomKilled {
                    id: id.to_owned(),
                    sandbox: sandbox.clone(),
                });
            }
            self.tell(Event::ContainerExited {
                id: id.to_owned(),
                sandbox,
                status,
            });
        }
    }

    /// What a supervising process that was found running knows about it.
    pub(super) fn take_up(&self, id: &str, state: &ContainerState) {
        if let Ok(container) = self.get_container(id) {
            let frozen = self.cgroups.frozen(&self.cgroup_of_container(&container));
            container.now.send_modify(|now| {
                now.take(state);
                now.paused = frozen;
            });
        }
    }

    /// Nobody supervises it any more: what the record says, or else that it was lost.
    pub(super) fn settle_container(&self, container: &Container) {
        let path = self
            .layout
            .container_state(&container.sandbox, &container.id);
        let Ok(Some(mut state)) = records::load::<ContainerState>(&path) else {
            return;
        };
        let recorded = state.exit.is_some();
        let exit = state.exit.take().unwrap_or_else(|| {
            let same_boot = state.process.boot_id == proc::boot_id();
            // In this boot it was killed together with its cgroup. Before it, nobody knows.
            let (code, signal) = if same_boot {
                (128 + libc::SIGKILL, Some(libc::SIGKILL))
            } else {
                (255, None)
            };
            ExitStatus {
                code,
                signal,
                oom_killed: false,
                finished_at: Timestamp::now(),
                lost: true,
            }
        });
        state.exit = Some(exit.clone());
        if !recorded && let Err(error) = records::save(&path, &state) {
            tracing::error!(container = container.id, %error, "cannot record the end of the container");
        }
        if container.now.borrow().state == State::Running {
            self.exited(&container.id, exit);
        } else {
            container.now.send_modify(|now| now.take(&state));
        }
    }
}

impl ContainerNow {
    fn take(&mut self, state: &ContainerState) {
        self.state = if state.exit.is_some() {
            State::Exited
        } else {
            State::Running
        };
        self.process = Some(state.process.clone());
        self.paused = false;
        self.started_at = Some(state.started_at);
        self.exit = state.exit.clone();
    }
}

impl Container {
    pub(super) fn new(record: &ContainerRecord, state: Option<&ContainerState>) -> Container {
        let mut now = ContainerNow {
            spec: Arc::new(record.spec.clone()),
            state: State::Created,
            process: None,
            paused: false,
            started_at: None,
            exit: None,
        };
        if let Some(state) = state {
            now.take(state);
        }
        Container {
            id: record.spec.id.clone(),
            sandbox: record.spec.sandbox.clone(),
            created_at: record.created_at,
            now: watch::Sender::new(now),
            turn: tokio::sync::Mutex::new(()),
        }
    }
}

/// Whether containers can be started in it.
pub(super) fn is_running(state: SandboxState) -> bool {
    state == SandboxState::Running
}
