//! `RUN` steps: a sandbox of the engine with an address on the network, for as long as one command runs.

use async_trait::async_trait;
use bytes::Bytes;
use engine::runner::{RunError, RunStep, Runner};
use engine::{ContainerSpec, LogConfig, Output, SandboxNetwork, SandboxSpec, SandboxUpdate};
use tokio::sync::mpsc;

use crate::record::OWNER;
use crate::{Docker, names};

/// Marks sandboxes of builds; one that a crash left behind is removed at the next start.
pub const BUILD: (&str, &str) = (OWNER.0, "build");

pub struct BuildRunner {
    docker: Docker,
}

impl BuildRunner {
    pub fn new(docker: Docker) -> Self {
        Self { docker }
    }
}

#[async_trait]
impl Runner for BuildRunner {
    async fn run(&self, step: RunStep, output: mpsc::Sender<Bytes>) -> Result<i32, RunError> {
        let id = format!("build-{}", &names::id()[..24]);
        // a step whose build is given up is dropped here: what it made must go all the same
        let guard = Guard {
            docker: self.docker.clone(),
            id: id.clone(),
        };
        let outcome = execute(&self.docker, &id, step, output).await;
        guard.finish().await;
        outcome
    }
}

async fn execute(
    docker: &Docker,
    id: &str,
    step: RunStep,
    output: mpsc::Sender<Bytes>,
) -> Result<i32, RunError> {
    let (engine, network) = (&docker.inner.engine, &docker.inner.network);
    let failed = |error: &dyn std::fmt::Display| RunError(error.to_string());
    let labels = [(BUILD.0.to_owned(), BUILD.1.to_owned())];
    let hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
    let sandbox = SandboxSpec {
        id: id.to_owned(),
        hostname: id.chars().take(18).collect(),
        labels: labels.clone().into(),
        hosts: hosts.to_owned(),
        network: if step.no_network {
            SandboxNetwork::None
        } else {
            SandboxNetwork::Own
        },
        resolv_conf: network.resolv_conf(None),
        ..SandboxSpec::default()
    };
    engine
        .create_sandbox(sandbox)
        .await
        .map_err(|e| failed(&e))?;
    let started = engine.start_sandbox(id).await.map_err(|e| failed(&e))?;
    if let Some(namespace) = started.netns.filter(|_| !step.no_network) {
        let address = network
            .attach(&namespace, id)
            .await
            .map_err(|e| failed(&e))?
            .address;
        let update = SandboxUpdate {
            hosts: Some(format!("{hosts}{address}\t{id}\n")),
            ..SandboxUpdate::default()
        };
        engine
            .update_sandbox(id, update)
            .await
            .map_err(|e| failed(&e))?;
    }
    let container = ContainerSpec {
        id: id.to_owned(),
        sandbox: id.to_owned(),
        name: "run".into(),
        labels: labels.into(),
        rootfs: step.rootfs,
        argv: step.argv,
        env: step.env,
        cwd: step.cwd,
        user: step.user,
        mounts: step.mounts,
        log: LogConfig {
            path: docker.inner.logs.join(format!("{id}.log")),
            max_bytes: 1 << 20,
            max_files: 1,
        },
        ..ContainerSpec::default()
    };
    engine
        .create_container(container)
        .await
        .map_err(|e| failed(&e))?;
    let mut process = engine.attach(id, false).await.map_err(|e| failed(&e))?;
    engine.start_container(id).await.map_err(|e| failed(&e))?;
    while let Some(chunk) = process.output.recv().await {
        let (Output::Stdout(bytes) | Output::Stderr(bytes)) = chunk;
        // nobody listens any more: the step still runs to its end
        let _ = output.send(bytes).await;
    }
    let status = engine.wait_container(id).await.map_err(|e| failed(&e))?;
    Ok(status.code)
}

struct Guard {
    docker: Docker,
    id: String,
}

impl Guard {
    async fn finish(mut self) {
        let id = std::mem::take(&mut self.id);
        clean(&self.docker, &id).await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.id.is_empty() {
            let (docker, id) = (self.docker.clone(), std::mem::take(&mut self.id));
            tokio::spawn(async move { clean(&docker, &id).await });
        }
    }
}

/// Removes everything that one step made, except the files that it changed.
pub async fn clean(docker: &Docker, id: &str) {
    if let Err(error) = docker.inner.engine.remove_sandbox(id).await {
        tracing::warn!(%error, id, "the sandbox of a build step could not be removed");
    }
    if let Err(error) = docker.inner.network.detach(id).await {
        tracing::warn!(%error, id, "the address of a build step could not be released");
    }
    let _ = std::fs::remove_file(docker.inner.logs.join(format!("{id}.log")));
}
