//! Dockerfile builds: request, events, errors and the entry point.

pub(crate) mod changes;
mod chmod;
mod copy;
mod executor;
mod files;
mod from;
mod metadata;
mod mount_points;
mod mounts;
mod plan;
mod run;
mod run_flags;
mod scope;
mod shell;
mod sources;
mod stage;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use engine::runner::{RunError, Runner};
use tokio::sync::mpsc;

use crate::error::Error;
use crate::images::Images;
use crate::model::{Auth, Image, Platform};

/// What to build.
#[derive(Clone, Debug, Default)]
pub struct BuildRequest {
    /// Unpacked build context.
    pub context: PathBuf,
    /// Path of the Dockerfile within the context; empty = `Dockerfile`.
    pub dockerfile: String,
    /// Text to use instead of a file in the context.
    pub dockerfile_text: Option<String>,
    /// Names for the result.
    pub tags: Vec<String>,
    /// `--build-arg`; `None` = declared without a value (as if absent here).
    pub build_args: BTreeMap<String, Option<String>>,
    /// Stage to stop at: name or number.
    pub target: Option<String>,
    /// Run every step again.
    pub no_cache: bool,
    /// Pull base images even when they are here.
    pub pull: bool,
    /// Labels for the result, over those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// Target platform.
    pub platform: Option<Platform>,
    /// Credentials by registry host (`docker.io`, `localhost:5000`).
    pub auth: BTreeMap<String, Auth>,
}

/// What a build tells while it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum BuildEvent {
    /// `Step number/total : text`.
    Step {
        /// From 1.
        number: usize,
        /// Steps of the stages that are needed.
        total: usize,
        /// Instruction as written, on one line.
        text: String,
    },
    /// The step's result was found in the cache.
    Cached,
    /// Output of a `RUN` step.
    Output(Bytes),
    /// A `RUN` step runs in this temporary container.
    Running {
        /// 12 hex digits.
        container: String,
    },
    /// The temporary container was removed.
    RemovedContainer {
        /// 12 hex digits.
        container: String,
    },
    /// State after a step: 12 hex digits that name it.
    StepDone {
        /// 12 hex digits.
        id: String,
    },
    /// A base image is being pulled.
    Pull(crate::progress::PullEvent),
    /// Something that deserves attention.
    Warning(String),
    /// The image is stored.
    Built {
        /// `sha256:…`.
        id: String,
    },
    /// The image got this name.
    Tagged {
        /// As given.
        tag: String,
    },
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile cannot be read or parsed.
    #[error("dockerfile parse error on line {line}, column {column}: {reason}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// An instruction cannot be carried out.
    #[error("dockerfile line {line}: {instruction}: {reason}")]
    Instruction {
        /// From 1.
        line: usize,
        /// As written.
        instruction: String,
        /// Why not.
        reason: String,
    },
    /// A `RUN` command failed; its output has been sent as events.
    #[error("The command '{command}' returned a non-zero code: {code}")]
    Command {
        /// Words joined by spaces.
        command: String,
        /// Exit code.
        code: i32,
        /// Last bytes of its output, at most 64 KiB.
        output: Bytes,
    },
    /// The request itself is wrong: no Dockerfile, no such target.
    #[error("{0}")]
    Request(String),
    /// A `RUN` command could not be started.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Store, registry or archive.
    #[error(transparent)]
    Image(#[from] Error),
}

/// What an image from `scratch` has for a search path, as BuildKit writes it.
pub(crate) const DEFAULT_PATH: &str =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds; see [`Images::build`].
pub(crate) async fn build(
    images: &Images,
    request: BuildRequest,
    runner: &dyn Runner,
    progress: mpsc::Sender<BuildEvent>,
) -> Result<Image, BuildError> {
    executor::Executor::new(images, request, runner, progress)?
        .build()
        .await
}
