//! RUN and WORKDIR: steps whose layer is what they did to a snapshot.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use engine::runner::RunStep;
use tokio::sync::mpsc;

use super::executor::{Executor, fail};
use super::files::{owned_directory, resolve_owner};
use super::mounts::Found;
use super::stage::StageState;
use super::{BuildError, BuildEvent, DEFAULT_PATH, mount_points, scope};
use crate::archive::import::blocking;
use crate::dockerfile::step::{Flag, Step};
use crate::error::Error;
use crate::store::Store;
use crate::store::durable::digest_of;
use crate::store::snapshots::{Record, TEMPORARY};
use crate::unpack::confine::{Links, Root};

/// Output kept for the error of a failed step.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// A mounted root that is gone when this is dropped.
pub(super) struct Workspace<'a> {
    store: &'a Store,
    pub id: String,
    pub root: PathBuf,
}

impl<'a> Workspace<'a> {
    pub fn new(store: &'a Store, layers: &[String]) -> Result<Self, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let seed = format!(
            "{:?}{}{}",
            std::time::SystemTime::now(),
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let id = digest_of(seed.as_bytes())["sha256:".len()..][..12].to_owned();
        let record = Record {
            image: String::new(),
            layers: layers.to_vec(),
        };
        let root = store.mount_snapshot(&format!("{TEMPORARY}{id}"), record, true, None)?;
        Ok(Workspace { store, id, root })
    }

    /// Unmounts, and makes what was written a layer; `None` when nothing was.
    pub fn into_layer(self, clean: &[PathBuf]) -> Result<Option<String>, Error> {
        let name = format!("{TEMPORARY}{}", self.id);
        self.store.snapshots.unmount(&name)?;
        let upper = self.store.snapshots.path(&name).join("upper");
        mount_points::remove(&upper, clean)?;
        let empty = std::fs::read_dir(&upper)
            .map_err(Error::io("read", &upper))?
            .next()
            .is_none();
        if empty {
            Ok(None)
        } else {
            self.store.install_directory(&upper).map(Some)
        }
    }
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        if let Err(error) = self
            .store
            .snapshots
            .remove(&format!("{TEMPORARY}{}", self.id))
        {
            tracing::warn!(%error, "build snapshot not removed");
        }
    }
}

impl Executor<'_> {
    pub(super) async fn run_step(
        &self,
        index: usize,
        stage: &mut StageState,
        step: &Step,
        argv: Vec<String>,
        flags: &[Flag],
    ) -> Result<(), BuildError> {
        let found = self.mounts(index, stage, step, flags).await?;
        let args = stage.scope.run_args(&stage.file.config.env);
        let mut env = args.clone();
        env.extend(stage.file.config.env.iter().cloned());
        if scope::get(&env, "PATH").is_none() {
            env.push(DEFAULT_PATH.to_owned());
        }
        let config = &stage.file.config;
        let key = stage.key(&[
            "RUN",
            &format!("{argv:?}"),
            &format!("{env:?}"),
            &config.working_dir,
            &config.user,
            &found.key,
        ]);
        env.extend(stage.scope.proxies(&self.globals));
        let record = match self.lookup(&key).await {
            Some(record) => record,
            None => {
                let layer = self.run_command(stage, argv.clone(), env, &found).await?;
                self.remember(&key, layer)
            }
        };
        blocking(|| drop(found));
        let prefix = if args.is_empty() {
            String::new()
        } else {
            format!("|{} {} ", args.len(), args.join(" "))
        };
        stage.apply(step, &key, &record, format!("{prefix}{}", argv.join(" ")));
        Ok(())
    }

    async fn run_command(
        &self,
        stage: &StageState,
        argv: Vec<String>,
        env: Vec<String>,
        found: &Found<'_>,
    ) -> Result<Option<String>, BuildError> {
        let ready = self.ready(found).await?;
        let workspace = blocking(|| Workspace::new(self.store(), &stage.file.rootfs.diff_ids))?;
        let container = workspace.id.clone();
        self.tell(BuildEvent::Running {
            container: container.clone(),
        })
        .await;
        // Mount points that the runner has to make are not the command's work.
        let clean = mount_points::missing(&workspace.root, &ready.points)?;
        let config = &stage.file.config;
        let cwd = if config.working_dir.is_empty() {
            "/".to_owned()
        } else {
            config.working_dir.clone()
        };
        let run = RunStep {
            rootfs: workspace.root.clone(),
            argv: argv.clone(),
            env,
            cwd,
            user: config.user.clone(),
            mounts: ready.mounts.clone(),
            no_network: found.no_network,
        };
        let (sender, mut receiver) = mpsc::channel::<Bytes>(64);
        let mut tail: VecDeque<u8> = VecDeque::new();
        let forward = async {
            while let Some(bytes) = receiver.recv().await {
                tail.extend(&bytes);
                let excess = tail.len().saturating_sub(OUTPUT_BYTES_MAX);
                tail.drain(..excess);
                self.tell(BuildEvent::Output(bytes)).await;
            }
        };
        let (code, ()) = futures::join!(self.runner.run(run, sender), forward);
        blocking(|| drop(ready));
        let result = match code {
            Ok(0) => blocking(|| workspace.into_layer(&clean)).map_err(BuildError::from),
            Ok(code) => {
                blocking(|| drop(workspace));
                let output = Bytes::from(Vec::from(tail));
                Err(BuildError::Command {
                    command: argv.join(" "),
                    code,
                    output,
                })
            }
            Err(error) => {
                blocking(|| drop(workspace));
                Err(error.into())
            }
        };
        self.tell(BuildEvent::RemovedContainer { container }).await;
        result
    }

    pub(super) async fn workdir_step(
        &self,
        stage: &mut StageState,
        step: &Step,
        path: &str,
    ) -> Result<(), BuildError> {
        let env = stage.file.config.env.clone();
        let path = stage
            .scope
            .expand(&self.globals, &env, path)
            .map_err(|e| fail(step, e))?;
        if path.is_empty() {
            return Err(fail(step, "WORKDIR requires a path".into()));
        }
        let path = stage.absolute(&path);
        stage.file.config.working_dir = path.clone();
        let user = stage.file.config.user.clone();
        let key = stage.key(&["WORKDIR", &path, &user]);
        let record = match self.lookup(&key).await {
            Some(record) => record,
            None => {
                let layers = &stage.file.rootfs.diff_ids;
                let layer = blocking(|| make_directory(self.store(), layers, &path, &user))
                    .map_err(|e| fail(step, e))?;
                self.remember(&key, layer)
            }
        };
        stage.apply(step, &key, &record, String::new());
        Ok(())
    }
}

/// Makes a directory of USER's; one that is there keeps its owner.
fn make_directory(
    store: &Store,
    layers: &[String],
    path: &str,
    user: &str,
) -> Result<Option<String>, String> {
    let relative = Path::new(path.trim_start_matches('/'));
    let workspace = Workspace::new(store, layers).map_err(|e| e.to_string())?;
    let root = Root::open(&workspace.root, Links::InRoot).map_err(|e| e.to_string())?;
    // Nobody has to have the user before a process runs as it.
    let owner = Some(user)
        .filter(|user| !user.is_empty())
        .and_then(|user| resolve_owner(&root, user).ok());
    owned_directory(&root, relative, owner)?;
    drop(root);
    workspace.into_layer(&[]).map_err(|e| e.to_string())
}
