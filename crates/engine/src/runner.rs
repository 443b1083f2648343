//! The small interface through which images use the engine: to run the steps of a build, and to mount for mapped owners.

use crate::engine::Engine;
use crate::error::Error;
use crate::process::Output;
use crate::spec::{ContainerSpec, SandboxNetwork, SandboxSpec, SandboxUpdate};
pub use crate::spec::{Mount, MountKind};
pub use crate::tree::mount_mapped;
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Label of the sandboxes of build steps: what a daemon that died left of them is removed, not taken up.
pub const STEP_LABEL: &str = "plimsoll/run-step";

/// Runs one step of a build to its end.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Runs `step`, sends its output (both streams, in order of arrival) and returns its exit code. When the future is dropped the
    /// step is killed.
    async fn run(
        &self,
        step: RunStep,
        output: tokio::sync::mpsc::Sender<Bytes>,
    ) -> Result<i32, RunError>;
}

/// One step: a command in a root filesystem that keeps what the command changes.
#[derive(Clone, Debug, Default)]
pub struct RunStep {
    pub rootfs: PathBuf,
    pub argv: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub user: String,
    pub mounts: Vec<Mount>,
    /// Loopback only, whatever network steps have.
    pub no_network: bool,
}

/// The step could not be run at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot run the step: {0}")]
pub struct RunError(pub String);

/// How the network namespace of a step gets its address.
#[async_trait]
pub trait StepNetwork: Send + Sync {
    /// Connects the namespace; the files that name what it can reach.
    async fn connect(&self, netns: &Path, id: &str) -> Result<SandboxUpdate, String>;
    /// Takes back what `connect` gave; also after it failed.
    async fn disconnect(&self, id: &str);
}

/// What network steps have.
#[derive(Clone)]
pub enum RunNetwork {
    /// Loopback only.
    None,
    /// The host's own.
    Host,
    Attached(Arc<dyn StepNetwork>),
}

/// Runs steps as containers of an engine, each in a sandbox of its own that is gone afterwards.
#[derive(Clone)]
pub struct EngineRunner {
    engine: Engine,
    network: RunNetwork,
}

impl EngineRunner {
    pub fn new(engine: Engine, network: RunNetwork) -> EngineRunner {
        EngineRunner { engine, network }
    }

    async fn start(&self, id: &str, step: RunStep) -> Result<crate::process::Process, Error> {
        let network = match self.network {
            _ if step.no_network => SandboxNetwork::None,
            RunNetwork::None => SandboxNetwork::None,
            RunNetwork::Host => SandboxNetwork::Host,
            RunNetwork::Attached(_) => SandboxNetwork::Own,
        };
        let labels = [(STEP_LABEL.to_owned(), String::new())].into();
        let (mut hosts, mut resolv_conf) = (
            "127.0.0.1 localhost\n::1 localhost\n".to_owned(),
            String::new(),
        );
        if network == SandboxNetwork::Host {
            let read = |path| std::fs::read_to_string(path).unwrap_or_default();
            (hosts, resolv_conf) = (read("/etc/hosts"), read("/etc/resolv.conf"));
        }
        let sandbox = SandboxSpec {
            id: id.to_owned(),
            labels,
            network,
            hosts,
            resolv_conf,
            ..SandboxSpec::default()
        };
        self.engine.create_sandbox(sandbox).await?;
        let status = self.engine.start_sandbox(id).await?;
        if let (RunNetwork::Attached(network), Some(netns), false) =
            (&self.network, &status.netns, step.no_network)
        {
            let connected = network.connect(netns, id).await;
            let update = connected.map_err(|reason| Error::Invalid {
                field: "network",
                reason,
            })?;
            self.engine.update_sandbox(id, update).await?;
        }
        let RunStep {
            rootfs,
            argv,
            env,
            cwd,
            user,
            mounts,
            no_network: _,
        } = step;
        let (id, sandbox) = (id.to_owned(), id.to_owned());
        let container = ContainerSpec {
            id: id.clone(),
            sandbox,
            rootfs,
            argv,
            env,
            cwd,
            user,
            mounts,
            ..ContainerSpec::default()
        };
        self.engine.create_container(container).await?;
        let process = self.engine.attach(&id, false).await?;
        self.engine.start_container(&id).await?;
        Ok(process)
    }
}

#[async_trait]
impl Runner for EngineRunner {
    async fn run(
        &self,
        step: RunStep,
        output: tokio::sync::mpsc::Sender<Bytes>,
    ) -> Result<i32, RunError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let id = format!(
            "step-{:x}-{}",
            Timestamp::now().as_millisecond(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let mut cleanup = Cleanup {
            runner: self.clone(),
            id: Some(id.clone()),
        };
        let ended = match self.start(&id, step).await {
            Ok(mut process) => {
                while let Some(piece) = process.output.recv().await {
                    let (Output::Stdout(bytes) | Output::Stderr(bytes)) = piece;
                    // A builder that does not read its output still wants the step to end.
                    let _ = output.send(bytes).await;
                }
                self.engine.wait_container(&id).await.map(|exit| exit.code)
            }
            Err(error) => Err(error),
        };
        cleanup.now().await;
        ended.map_err(|error| RunError(error.to_string()))
    }
}

/// Removes a step's sandbox, also when the step's future is dropped.
struct Cleanup {
    runner: EngineRunner,
    id: Option<String>,
}

impl Cleanup {
    async fn now(&mut self) {
        if let Some(id) = self.id.take() {
            clean_up(&self.runner, &id).await;
        }
    }
}

async fn clean_up(runner: &EngineRunner, id: &str) {
    if let RunNetwork::Attached(network) = &runner.network {
        network.disconnect(id).await;
    }
    match runner.engine.remove_sandbox(id).await {
        Ok(()) | Err(Error::NotFound { .. }) => {}
        Err(error) => {
            tracing::warn!(step = id, %error, "cannot remove the sandbox of a build step")
        }
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let runner = self.runner.clone();
        runtime.spawn(async move { clean_up(&runner, &id).await });
    }
}
