//! What clients ask, and how it is done.

use super::Supervisor;
use super::client::Role;
use super::container::{Container, pipe};
use super::jobs::Purpose;
use super::log::Log;
use crate::process::ExecSpec;
use crate::records::{self, ContainerRecord, SupervisorRecord};
use crate::sys;
use crate::wire::{self, Asked, Failure, FailureKind, Kind, Reply, Request};
use std::os::fd::OwnedFd;
use std::process::Stdio;

impl Supervisor {
    /// One frame of a client.
    pub(super) fn frame(&mut self, key: u64, kind: Kind, payload: Vec<u8>) {
        match kind {
            Kind::Json => match wire::read_asked(&payload) {
                Ok(asked) => self.request(key, asked),
                Err(Some(seq)) => {
                    let reason = "the version that supervises this sandbox does not know this request; it will once the sandbox \
                                  has been started again";
                    if let Some(client) = self.clients.get_mut(&key) {
                        let failure = Failure::new(FailureKind::Other, reason);
                        client.tell(seq, Reply::Failed(failure));
                    }
                }
                Err(None) => self.drop_client(key),
            },
            Kind::Unknown => {}
            Kind::Stdin | Kind::StdinEnd => {
                let Some(Role::Attach {
                    container,
                    stdin: true,
                }) = self.clients.get(&key).map(|client| client.role)
                else {
                    return;
                };
                let Some(container) = self.containers.get_mut(&container) else {
                    return;
                };
                if kind == Kind::Stdin {
                    container.stdin_waiting.extend(payload);
                } else if container.stdin_once {
                    container.stdin_ending = true;
                }
                container.feed();
            }
            Kind::Stdout | Kind::Stderr => self.drop_client(key),
        }
    }

    fn request(&mut self, key: u64, asked: Asked) {
        let seq = asked.seq;
        match self.answer(key, asked) {
            Ok(Some(reply)) => {
                if let Some(client) = self.clients.get_mut(&key) {
                    client.tell(seq, reply);
                }
            }
            Ok(None) => {}
            Err(failure) => {
                if let Some(client) = self.clients.get_mut(&key) {
                    client.tell(seq, Reply::Failed(failure));
                }
            }
        }
    }

    /// `None`: the answer comes later.
    fn answer(&mut self, key: u64, asked: Asked) -> Result<Option<Reply>, Failure> {
        let seq = asked.seq;
        match asked.request {
            Request::Hello => {
                self.greetings.push((key, seq));
                self.greet();
                Ok(None)
            }
            Request::Start { container } => self.start(&container, (key, seq)).map(|()| None),
            Request::Signal { container, signal } => {
                let pid = self.running(&container)?;
                sys::kill(pid as i32, signal).map_err(|error| {
                    Failure::new(FailureKind::Other, format!("signal {signal}: {error}"))
                })?;
                Ok(Some(Reply::Done))
            }
            Request::Kill { container } => {
                self.running(&container)?;
                self.cgroups.kill(&format!("{}/{container}", self.cgroup));
                Ok(Some(Reply::Done))
            }
            Request::Exec { container, spec } => {
                self.exec(&container, &spec, (key, seq)).map(|()| None)
            }
            Request::Attach { container, stdin } => self.attach(&container, stdin, key).map(Some),
            Request::Resize {
                container,
                cols,
                rows,
            } => {
                let index = self.find_or_make(&container);
                if let Some(container) = self.containers.get_mut(&index) {
                    container.size = Some((cols, rows));
                    if let Some(terminal) = &container.terminal {
                        sys::set_terminal_size(terminal, cols, rows)
                            .map_err(|error| Failure::new(FailureKind::Other, error.to_string()))?;
                    }
                }
                Ok(Some(Reply::Done))
            }
            Request::Publish { ports } => {
                let published = self.ports.publish(&ports)?;
                let path = self.layout.supervisor_record(&self.id);
                if let Ok(Some(record)) = records::load::<SupervisorRecord>(&path) {
                    let record = SupervisorRecord {
                        published: published.clone(),
                        ..record
                    };
                    records::save_for_this_boot(&path, &record)
                        .map_err(|error| Failure::new(FailureKind::Other, error.to_string()))?;
                }
                Ok(Some(Reply::Published { ports: published }))
            }
            Request::Forget { container } => {
                self.containers.retain(|_, known| {
                    known.id != container || known.pid().is_some() || known.starting
                });
                Ok(Some(Reply::Done))
            }
            Request::Stop => {
                self.stop(Some((key, seq)));
                Ok(None)
            }
        }
    }

    /// Tells daemons what runs. Not while a container is being started for one that is gone: its successor would not hear of that
    /// one's start, and take it for one that was never begun.
    pub(super) fn greet(&mut self) {
        if self.containers.values().any(|container| container.starting) {
            return;
        }
        for (key, seq) in std::mem::take(&mut self.greetings) {
            let Some(client) = self.clients.get_mut(&key) else {
                continue;
            };
            client.role = Role::Control;
            let running = self
                .containers
                .values()
                .filter_map(|container| Some((container.id.clone(), container.state.clone()?)));
            let hello = Reply::Hello {
                pid: std::process::id(),
                running: running.collect(),
                published: self.ports.published(),
                protocol: wire::PROTOCOL,
            };
            client.tell(seq, hello);
        }
    }

    fn find(&self, id: &str) -> Option<u64> {
        self.containers
            .iter()
            .find(|(_, container)| container.id == id)
            .map(|(key, _)| *key)
    }

    fn find_or_make(&mut self, id: &str) -> u64 {
        self.find(id).unwrap_or_else(|| {
            let key = self.key();
            self.containers.insert(key, Container::new(id));
            key
        })
    }

    fn running(&self, id: &str) -> Result<u32, Failure> {
        let pid = self.find(id).and_then(|key| self.containers[&key].pid());
        pid.ok_or_else(|| Failure::new(FailureKind::State, "not running"))
    }

    fn start(&mut self, id: &str, asked: (u64, u64)) -> Result<(), Failure> {
        let fail = |what: &str, error: &dyn std::fmt::Display| {
            Failure::new(FailureKind::Start, format!("{what}: {error}"))
        };
        if self.stopping.is_some() {
            return Err(Failure::new(
                FailureKind::State,
                "in a sandbox that is stopping",
            ));
        }
        let record: ContainerRecord = records::load(&self.layout.container_record(&self.id, id))
            .map_err(|error| fail("cannot read the container's record", &error))?
            .ok_or_else(|| Failure::new(FailureKind::State, "not known"))?;
        let spec = record.spec;
        let cgroup = format!("{}/{id}", self.cgroup);
        self.removals.cancel(&self.cgroups, &cgroup);
        let key = self.find_or_make(id);
        let container = self
            .containers
            .get_mut(&key)
            .ok_or_else(|| Failure::new(FailureKind::State, "not known"))?;
        if container.starting || container.pid().is_some() {
            return Err(Failure::new(FailureKind::State, "running already"));
        }
        let size = container.size;
        let log = Log::open(&spec.log).map_err(|error| {
            fail(
                &format!("cannot open the log {}", spec.log.path.display()),
                &error,
            )
        })?;
        // What a killed predecessor left would make the runtime refuse.
        let _ = records::remove_dir(&self.layout.runtime().join(id));
        self.cgroups
            .create(&cgroup)
            .map_err(|error| fail("cgroup", &error))?;
        let mut fresh = Container {
            log: Some(log),
            tty: spec.tty,
            stdin_once: spec.stdin_once,
            starting: true,
            size,
            ..Container::new(id)
        };
        // Typed by someone who attached before the start.
        fresh.stdin_waiting = std::mem::take(&mut container.stdin_waiting);
        fresh.stdin_ending = container.stdin_ending;
        let mut streams = [Stdio::null(), Stdio::null(), Stdio::null()];
        if !spec.tty {
            let io = |error| fail("cannot make pipes", &error);
            let (stdout, stdout_in) = pipe(true).map_err(io)?;
            let (stderr, stderr_in) = pipe(true).map_err(io)?;
            (fresh.stdout, fresh.stderr) = (Some(stdout), Some(stderr));
            [streams[1], streams[2]] = [stdout_in.into(), stderr_in.into()];
            if spec.stdin {
                let (stdin, stdin_out) = pipe(false).map_err(io)?;
                fresh.stdin = Some(stdin);
                streams[0] = stdin_out.into();
            }
        }
        *container = fresh;
        let started = self.start_job(Purpose::Create { container: key }, asked, id, "-", streams);
        started.map_err(|error| {
            self.containers.remove(&key);
            fail("cannot start the runtime", &error)
        })
    }

    fn exec(&mut self, id: &str, spec: &ExecSpec, asked: (u64, u64)) -> Result<(), Failure> {
        self.running(id)?;
        let fail = |what: &str, error: &dyn std::fmt::Display| {
            Failure::new(FailureKind::Exec, format!("{what}: {error}"))
        };
        let path = self
            .layout
            .bundles()
            .join(id)
            .join(format!("exec-{}.json", self.key()));
        let request =
            serde_json::to_vec(spec).map_err(|error| fail("cannot write the request", &error))?;
        std::fs::write(&path, request).map_err(|error| fail("cannot write the request", &error))?;
        let mut given: Vec<OwnedFd> = match self.clients.get_mut(&asked.0) {
            Some(client) => std::mem::take(&mut client.descriptors),
            None => Vec::new(),
        };
        let mut streams = [Stdio::null(), Stdio::null(), Stdio::null()];
        if !spec.tty {
            if given.len() != 3 {
                return Err(Failure::new(
                    FailureKind::Exec,
                    "standard streams did not come with the request",
                ));
            }
            for stream in streams.iter_mut().rev() {
                if let Some(fd) = given.pop() {
                    *stream = fd.into();
                }
            }
        }
        let argument = path.to_string_lossy().into_owned();
        let started = self.start_job(
            Purpose::Exec { tty: spec.tty },
            asked,
            id,
            &argument,
            streams,
        );
        started.map_err(|error| fail("cannot start the runtime", &error))
    }

    fn attach(&mut self, id: &str, stdin: bool, client: u64) -> Result<Reply, Failure> {
        let record: ContainerRecord = records::load(&self.layout.container_record(&self.id, id))
            .ok()
            .flatten()
            .ok_or_else(|| Failure::new(FailureKind::State, "not known"))?;
        let key = self.find_or_make(id);
        let ended = self.containers[&key]
            .state
            .as_ref()
            .is_some_and(|state| state.exit.is_some());
        if ended {
            // As with one that has not been started: whoever attaches sees the next run.
            self.containers.insert(key, Container::new(id));
        }
        let stdin = stdin && record.spec.stdin;
        if let Some(container) = self.containers.get_mut(&key) {
            container.stdin_once = record.spec.stdin_once;
            container.tty = record.spec.tty;
        }
        if let Some(client) = self.clients.get_mut(&client) {
            client.role = Role::Attach {
                container: key,
                stdin,
            };
        }
        Ok(Reply::Attached {
            tty: record.spec.tty,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_waits_for_the_container_and_ends_after_the_last_byte() {
        let (ours, theirs) = pipe(false).expect("pipe");
        let mut container = Container::new("c");
        container.stdin_waiting.extend(b"early");
        container.stdin_ending = true;
        container.feed();
        assert_eq!(
            container.stdin_waiting.len(),
            5,
            "kept until there is somewhere to write"
        );
        container.stdin = Some(ours);
        container.feed();
        assert!(container.stdin.is_none());
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::fs::File::from(theirs), &mut bytes).expect("read");
        assert_eq!(bytes, b"early");
    }
}
