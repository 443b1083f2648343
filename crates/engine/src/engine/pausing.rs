//! Pausing a container: all its processes are frozen, with everything they have, until they are told to go on.

use super::{Container, Engine};
use crate::error::Error;
use crate::status::{Event, State};
use std::sync::Arc;

impl Engine {
    /// Freezes every process of a running container. It stays so when the daemon ends and comes again. A signal sent to it, or
    /// stopping it, lets it go on first.
    ///
    /// Errors: `State` when it does not run or is paused already; `Io` when a process cannot be stopped within ten seconds, and
    /// then all go on.
    pub async fn pause_container(&self, id: &str) -> Result<(), Error> {
        let container = self.running(id, "pause")?;
        let _turn = container.turn.lock().await;
        self.running(id, "pause")?;
        if container.now.borrow().paused {
            return Err(container.state_error("pause"));
        }
        let (inner, cgroup) = (
            self.inner.clone(),
            self.inner.cgroup_of_container(&container),
        );
        let frozen = tokio::task::spawn_blocking(move || inner.cgroups.pause(&cgroup)).await;
        frozen.unwrap_or_else(|error| {
            Err(Error::Io {
                action: "pause the container",
                path: id.to_owned(),
                source: error.into(),
            })
        })?;
        self.set_paused(&container, true);
        Ok(())
    }

    /// Lets a paused container go on.
    ///
    /// Errors: `State` when it is not paused.
    pub async fn unpause_container(&self, id: &str) -> Result<(), Error> {
        let container = self.running(id, "unpause")?;
        let _turn = container.turn.lock().await;
        if !container.now.borrow().paused {
            return Err(container.state_error("unpause"));
        }
        self.let_go_on(&container);
        Ok(())
    }

    /// The same, when it is paused; no matter when it is not.
    pub(super) fn let_go_on(&self, container: &Arc<Container>) {
        if container.now.borrow().paused {
            let cgroup = self.inner.cgroup_of_container(container);
            self.inner.cgroups.unpause(&cgroup);
            self.set_paused(container, false);
        }
    }

    fn set_paused(&self, container: &Container, paused: bool) {
        let changed = container.now.send_if_modified(|now| {
            // It may have been killed meanwhile.
            let changes = now.state == State::Running && now.paused != paused;
            if changes {
                now.paused = paused;
            }
            changes
        });
        if changed {
            let (id, sandbox) = (container.id.clone(), container.sandbox.clone());
            self.inner.tell(if paused {
                Event::ContainerPaused { id, sandbox }
            } else {
                Event::ContainerUnpaused { id, sandbox }
            });
        }
    }
}
