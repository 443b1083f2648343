//! How a container's end is taken down, and how the supervising process ends itself.

use super::Supervisor;
use super::client::Role;
use super::container::Source;
use super::setup::release;
use crate::records;
use crate::status::ExitStatus;
use crate::sys::WaitStatus;
use crate::wire::Reply;
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// How long ending waits for killed containers.
const STOP_MAX: Duration = Duration::from_secs(10);

impl Supervisor {
    pub(super) fn container_ended(&mut self, key: u64, status: WaitStatus) {
        // With its first process gone every process of its pid namespace is: what is in the pipes is all there will be.
        for source in [Source::Stdout, Source::Stderr, Source::Terminal] {
            while self.read_output(key, source) {}
        }
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let cgroup = format!("{}/{}", self.cgroup, container.id);
        let oom_killed = self.cgroups.oom_kills(&cgroup) > 0;
        let exit = ExitStatus {
            code: status.code(),
            signal: status.signal(),
            oom_killed,
            finished_at: Timestamp::now(),
            lost: false,
        };
        container.stdin = None;
        container.terminal = None;
        container.stdout = None;
        container.stderr = None;
        container.log = None;
        container.stdin_waiting.clear();
        let id = container.id.clone();
        if let Some(state) = &mut container.state {
            state.exit = Some(exit.clone());
            let _ = records::save(&self.layout.container_state(&self.id, &id), state);
        }
        let told = Reply::Exited {
            container: id.clone(),
            status: exit,
        };
        for client in self.clients.values_mut() {
            match client.role {
                Role::Control => client.tell(0, told.copy_of_exit()),
                Role::Attach { container, .. } if container == key => {
                    client.tell(0, told.copy_of_exit());
                    client.ending = true;
                }
                _ => {}
            }
        }
        self.clean_up_after(&id);
    }

    /// Removes what the runtime made for a container: after everyone has been told, because nobody waits for it.
    pub(super) fn clean_up_after(&mut self, id: &str) {
        let _ = records::remove_dir(&self.layout.bundles().join(id));
        let _ = records::remove_dir(&self.layout.runtime().join(id));
        self.removals
            .add(&self.cgroups, format!("{}/{id}", self.cgroup));
    }

    /// Kills everything and makes the loop end.
    pub(super) fn stop(&mut self, asked: Option<(u64, u64)>) {
        self.stopping = Some((asked, Instant::now() + STOP_MAX));
        self.ports.close();
        self.cgroups.kill(&self.cgroup);
    }

    pub(super) fn end(&mut self, asked: Option<(u64, u64)>) -> ! {
        let keys: Vec<u64> = self
            .containers
            .iter()
            .filter(|(_, container)| container.pid().is_some())
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.container_ended(key, WaitStatus::Signaled(libc::SIGKILL));
        }
        let clean = release(&self.layout, &self.cgroups, &self.cgroup, &self.id);
        if let Some((client, seq)) = asked
            && let Some(client) = self.clients.get_mut(&client)
        {
            client.tell(seq, Reply::Done);
        }
        for client in self.clients.values_mut() {
            // Blocking is right now: there is nothing else left to do. A dead peer ends it.
            let _ = client.stream.set_nonblocking(false);
            let _ = client
                .stream
                .set_write_timeout(Some(Duration::from_secs(1)));
            client.flush();
        }
        std::process::exit(if clean { 0 } else { 1 })
    }
}

impl Reply {
    fn copy_of_exit(&self) -> Reply {
        match self {
            Reply::Exited { container, status } => Reply::Exited {
                container: container.clone(),
                status: status.clone(),
            },
            _ => Reply::Done,
        }
    }
}
