//! The engine: what callers ask, and what it knows. Records on disk and supervising processes hold the truth; this is their view.

mod adopt;
mod containers;
mod link;
mod pausing;
mod purge;
mod sandboxes;
mod session;
mod sharing;
mod streams;
mod supervise;
mod validate;

use crate::apparmor::{AppArmor, DefaultProfile, app_armor};
use crate::cgroup::Cgroups;
use crate::config::Config;
use crate::error::Error;
use crate::kernel;
use crate::proc::ProcessId;
use crate::records::{self, Layout};
use crate::sealed::Program;
use crate::spec::{ContainerSpec, PublishedPort, SandboxNetwork, SandboxSpec};
use crate::status::{
    ContainerStatus, Event, ExitStatus, SandboxState, SandboxStatus, State, UserNamespace,
};
use jiff::Timestamp;
use link::Link;
use parking_lot::Mutex;
pub use sharing::lower_oom_score;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// Events that a slow receiver may be behind.
const EVENTS_MAX: usize = 4096;

/// All sandboxes and containers of one instance; clones share it. Dropping the last one leaves everything running.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    layout: Layout,
    cgroups: Cgroups,
    program: Program,
    profile: DefaultProfile,
    known: Mutex<Known>,
    events: broadcast::Sender<Event>,
}

#[derive(Default)]
struct Known {
    sandboxes: BTreeMap<String, Arc<Sandbox>>,
    containers: BTreeMap<String, Arc<Container>>,
}

struct Sandbox {
    id: String,
    created_at: Timestamp,
    /// First of the ids of its user namespace.
    ids: Option<u32>,
    now: Mutex<SandboxNow>,
    /// Held while its state changes.
    turn: tokio::sync::Mutex<()>,
}

struct SandboxNow {
    spec: Arc<SandboxSpec>,
    state: SandboxState,
    supervisor: Option<ProcessId>,
    published: Vec<PublishedPort>,
    link: Option<Arc<Link>>,
    /// Its end is wanted: losing the connection is no surprise.
    stopping: bool,
}

struct Container {
    id: String,
    sandbox: String,
    created_at: Timestamp,
    now: watch::Sender<ContainerNow>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct ContainerNow {
    spec: Arc<ContainerSpec>,
    state: State,
    process: Option<ProcessId>,
    paused: bool,
    started_at: Option<Timestamp>,
    exit: Option<ExitStatus>,
}

impl Engine {
    /// Checks the kernel's features, takes up what runs, and cleans up after what no longer does.
    ///
    /// Errors: a missing kernel feature, by name; a directory that cannot be made.
    pub async fn open(config: Config) -> Result<Engine, Error> {
        validate::config(&config)?;
        let cgroups = kernel::check()?;
        cgroups.check_controllers(&config.cgroup_parent, &kernel::CONTROLLERS)?;
        let layout = Layout {
            root: config.root.clone(),
            run: config.run.clone(),
        };
        for dir in [
            layout.sandboxes(),
            layout.sockets(),
            layout.network_namespaces(),
            layout.runtime(),
            layout.bundles(),
        ] {
            records::make_dir(&dir)?;
        }
        records::check_format(&layout)?;
        let program = Program::seal(Path::new(&config.supervisor[0]), &layout.empty());
        let events = broadcast::channel(EVENTS_MAX).0;
        let profile = DefaultProfile::of(&config.instance, &layout);
        let inner = Inner {
            config,
            layout,
            profile,
            cgroups,
            program,
            known: Mutex::default(),
            events,
        };
        let engine = Engine {
            inner: Arc::new(inner),
        };
        engine.adopt_all().await?;
        Ok(engine)
    }

    /// What happens from now on. A receiver that is 4096 events behind loses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// The version of control groups that rules here: 1 (also on a hybrid machine) or 2.
    pub fn cgroup_version(&self) -> u8 {
        if self.inner.cgroups.unified() { 2 } else { 1 }
    }

    /// The AppArmor profile of containers that ask for none in particular; `None` where it cannot be had.
    pub fn default_profile(&self) -> Option<&str> {
        (app_armor() == AppArmor::Ready).then(|| self.inner.profile.name())
    }

    /// Loads the default profile, if there is AppArmor, so that no container has to wait for it.
    ///
    /// Errors: why it cannot be loaded; starts of containers that need it will fail.
    pub async fn load_default_profile(&self) -> Result<(), Error> {
        let loaded = self.inner.profile.load().await;
        loaded.map_err(Error::Profile)
    }

    /// One sandbox.
    pub async fn sandbox(&self, id: &str) -> Option<SandboxStatus> {
        let sandbox = self.inner.known.lock().sandboxes.get(id).cloned()?;
        Some(self.inner.status_of_sandbox(&sandbox))
    }

    /// All sandboxes, by id.
    pub async fn sandboxes(&self) -> Vec<SandboxStatus> {
        let all: Vec<_> = self
            .inner
            .known
            .lock()
            .sandboxes
            .values()
            .cloned()
            .collect();
        all.iter()
            .map(|sandbox| self.inner.status_of_sandbox(sandbox))
            .collect()
    }

    /// One container.
    pub async fn container(&self, id: &str) -> Option<ContainerStatus> {
        self.inner
            .known
            .lock()
            .containers
            .get(id)
            .map(|container| container.status())
    }

    /// All containers, by id.
    pub async fn containers(&self) -> Vec<ContainerStatus> {
        self.inner
            .known
            .lock()
            .containers
            .values()
            .map(|container| container.status())
            .collect()
    }
}

impl Inner {
    fn tell(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    fn get_sandbox(&self, id: &str) -> Result<Arc<Sandbox>, Error> {
        self.known
            .lock()
            .sandboxes
            .get(id)
            .cloned()
            .ok_or_else(|| Error::NotFound {
                what: "sandbox",
                id: id.to_owned(),
            })
    }

    fn get_container(&self, id: &str) -> Result<Arc<Container>, Error> {
        self.known
            .lock()
            .containers
            .get(id)
            .cloned()
            .ok_or_else(|| Error::NotFound {
                what: "container",
                id: id.to_owned(),
            })
    }

    fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        self.known
            .lock()
            .containers
            .values()
            .filter(|container| container.sandbox == sandbox)
            .cloned()
            .collect()
    }

    fn cgroup_of_sandbox(&self, id: &str) -> String {
        format!(
            "{}/{}/{id}",
            self.config.cgroup_parent,
            crate::supervisor::PODS
        )
    }

    fn cgroup_of_container(&self, container: &Container) -> String {
        format!(
            "{}/{}",
            self.cgroup_of_sandbox(&container.sandbox),
            container.id
        )
    }

    /// The way to a running sandbox's supervising process.
    fn link_of(&self, sandbox: &str) -> Result<Arc<Link>, Error> {
        let sandbox = self.get_sandbox(sandbox)?;
        let now = sandbox.now.lock();
        now.link.clone().ok_or_else(|| Error::State {
            action: "reach",
            what: "sandbox",
            id: sandbox.id.clone(),
            state: format!("{:?}", now.state).to_lowercase(),
        })
    }

    fn status_of_sandbox(&self, sandbox: &Sandbox) -> SandboxStatus {
        let now = sandbox.now.lock();
        let has_netns =
            now.state == SandboxState::Running && now.spec.network != SandboxNetwork::Host;
        SandboxStatus {
            id: sandbox.id.clone(),
            spec: now.spec.clone(),
            state: now.state,
            netns: has_netns.then(|| self.layout.network_namespace(&sandbox.id)),
            supervisor_pid: now.supervisor.as_ref().map(|process| process.pid),
            created_at: sandbox.created_at,
            published: now.published.clone(),
            user_namespace: sandbox
                .ids
                .filter(|_| now.state == SandboxState::Running)
                .map(|first_id| UserNamespace {
                    first_id,
                    path: self.layout.namespaces(&sandbox.id).join("user"),
                }),
        }
    }
}

impl Container {
    fn status(&self) -> ContainerStatus {
        let now = self.now.borrow();
        ContainerStatus {
            id: self.id.clone(),
            sandbox: self.sandbox.clone(),
            spec: now.spec.clone(),
            state: now.state,
            pid: now
                .process
                .as_ref()
                .filter(|_| now.state == State::Running)
                .map(|process| process.pid),
            paused: now.paused && now.state == State::Running,
            created_at: self.created_at,
            started_at: now.started_at,
            exit: now.exit.clone(),
        }
    }

    fn state_error(&self, action: &'static str) -> Error {
        let state = {
            let now = self.now.borrow();
            match now.state {
                State::Running if now.paused => "paused".to_owned(),
                state => format!("{state:?}").to_lowercase(),
            }
        };
        Error::State {
            action,
            what: "container",
            id: self.id.clone(),
            state,
        }
    }
}
