//! RUN and WORKDIR: steps whose layer is what they did to a snapshot.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use engine::runner::RunStep;
use tokio::sync::mpsc;

use super::executor::{Executor, fail};
use super::metadata::words_of;
use super::stage::StageState;
use super::{BuildError, BuildEvent, DEFAULT_PATH, scope};
use crate::archive::import::blocking;
use crate::dockerfile::step::{Flag, Form, Script, Step};
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
        let root =
            store
                .snapshots
                .prepare(&format!("{TEMPORARY}{id}"), record, &store.layers, true)?;
        Ok(Workspace { store, id, root })
    }

    /// Unmounts, and makes what was written a layer; `None` when nothing was.
    pub fn into_layer(self, clean: &[PathBuf]) -> Result<Option<String>, Error> {
        let name = format!("{TEMPORARY}{}", self.id);
        self.store.snapshots.unmount(&name)?;
        let upper = self.store.snapshots.path(&name).join("upper");
        for path in clean {
            remove_empty(&upper.join(path));
        }
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
        stage: &mut StageState,
        step: &Step,
        command: &Form,
        script: Option<&Script>,
        flags: &[Flag],
    ) -> Result<(), BuildError> {
        check_flags(flags).map_err(|e| fail(step, e))?;
        let argv = match script {
            Some(script) => script_argv(command, script, &stage.file.config.shell),
            None => words_of(command, &stage.file.config.shell),
        };
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
        ]);
        env.extend(stage.scope.proxies(&self.globals));
        let record = match self.lookup(&key).await {
            Some(record) => record,
            None => {
                let layer = self.run_command(stage, argv.clone(), env).await?;
                self.remember(&key, layer)
            }
        };
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
    ) -> Result<Option<String>, BuildError> {
        let workspace = blocking(|| Workspace::new(self.store(), &stage.file.rootfs.diff_ids))?;
        let container = workspace.id.clone();
        self.tell(BuildEvent::Running {
            container: container.clone(),
        })
        .await;
        // Mount points that the runner has to make are not the command's work.
        let clean: Vec<PathBuf> = MOUNT_POINTS
            .iter()
            .map(PathBuf::from)
            .filter(|p| std::fs::symlink_metadata(workspace.root.join(p)).is_err())
            .collect();
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
            mounts: Vec::new(),
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
        let key = stage.key(&["WORKDIR", &path]);
        let record = match self.lookup(&key).await {
            Some(record) => record,
            None => {
                let layers = &stage.file.rootfs.diff_ids;
                let layer = blocking(|| make_directory(self.store(), layers, &path))
                    .map_err(|e| fail(step, e))?;
                self.remember(&key, layer)
            }
        };
        stage.apply(step, &key, &record, String::new());
        Ok(())
    }
}

fn make_directory(store: &Store, layers: &[String], path: &str) -> Result<Option<String>, String> {
    let relative = Path::new(path.trim_start_matches('/'));
    let workspace = Workspace::new(store, layers).map_err(|e| e.to_string())?;
    let root = Root::open(&workspace.root, Links::InRoot).map_err(|e| e.to_string())?;
    root.directory(relative).map_err(|e| {
        format!(
            "cannot create {path}: {}",
            crate::unpack::confine::explain(e)
        )
    })?;
    drop(root);
    workspace.into_layer(&[]).map_err(|e| e.to_string())
}

/// What runners mount over; deepest first.
const MOUNT_POINTS: [&str; 13] = [
    "dev/pts",
    "dev/shm",
    "dev/mqueue",
    "dev/console",
    "dev",
    "proc",
    "sys",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "etc",
    "run/secrets",
    "run",
];

/// Removes an empty file or a directory of nothing but empty things.
fn remove_empty(path: &Path) {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return;
    };
    let removed = if meta.is_dir() {
        std::fs::remove_dir(path)
    } else if meta.is_file() && meta.len() == 0 {
        std::fs::remove_file(path)
    } else {
        return;
    };
    if let Err(error) = removed {
        tracing::debug!(%error, path = %path.display(), "kept: the step used it");
    }
}

/// `RUN <<EOF`: the body is the script; `RUN <<EOF cat`: the body is the command's input, which the shell sees to.
fn script_argv(command: &Form, script: &Script, shell: &Option<Vec<String>>) -> Vec<String> {
    let rest = match command {
        Form::Shell(line) => line.trim(),
        Form::Exec(_) => "",
    };
    // parse-dockerfile leaves the mark itself out of or in the command, depending on what follows.
    let rest = rest.strip_prefix("<<").map_or(rest, |r| {
        r.trim_start_matches('-')
            .trim_start_matches(['"', '\''])
            .trim_start_matches(&script.name)
            .trim_start_matches(['"', '\''])
    });
    let rest = rest.trim();
    let line = if !rest.is_empty() {
        let quote = if script.expand { "" } else { "'" };
        format!(
            "{rest} <<{quote}{name}{quote}\n{body}{name}",
            name = script.name,
            body = script.content
        )
    } else if let Some(shebang) = script.content.strip_prefix("#!") {
        // The interpreter reads the script from a file; a shell can hand it one without leaving anything behind.
        let interpreter = shebang.lines().next().unwrap_or("").trim();
        let mut mark = "PLIMSOLL".to_owned();
        while script.content.contains(&mark) {
            mark.push('_');
        }
        format!(
            "{interpreter} /dev/stdin <<'{mark}'\n{}{mark}",
            script.content
        )
    } else {
        script.content.clone()
    };
    words_of(&Form::Shell(line), shell)
}

fn check_flags(flags: &[Flag]) -> Result<(), String> {
    for flag in flags {
        let value = flag.value.as_deref().unwrap_or("");
        match (flag.name.as_str(), value) {
            ("network", "default") | ("security", "sandbox") => {}
            // Without the cache a step only takes longer.
            ("mount", value) if value.split(',').any(|p| p == "type=cache") => {}
            ("mount", value) => {
                return Err(format!(
                    "RUN --mount={value} is not supported yet, only type=cache"
                ));
            }
            ("network" | "security", value) => {
                return Err(format!("RUN --{}={value} is not supported", flag.name));
            }
            (name, _) => return Err(format!("unknown flag: --{name}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heredocs_become_commands() {
        let script = |content: &str, expand| Script {
            name: "E".into(),
            content: content.into(),
            expand,
        };
        for (command, content, expand, expected) in [
            ("", "a\nb\n", true, "a\nb\n"),
            ("<<E", "a\n", true, "a\n"),
            ("cat", "a\n", true, "cat <<E\na\nE"),
            ("<<E cat", "a\n", false, "cat <<'E'\na\nE"),
            (
                "",
                "#!/bin/awk -f\nx\n",
                true,
                "/bin/awk -f /dev/stdin <<'PLIMSOLL'\n#!/bin/awk -f\nx\nPLIMSOLL",
            ),
        ] {
            let argv = script_argv(
                &Form::Shell(command.into()),
                &script(content, expand),
                &None,
            );
            assert_eq!(argv, ["/bin/sh", "-c", expected]);
        }
    }

    #[test]
    fn flags_of_run() {
        let flag = |name: &str, value: &str| {
            [Flag {
                name: name.into(),
                value: Some(value.into()),
            }]
        };
        assert!(check_flags(&flag("mount", "type=cache,target=/x")).is_ok());
        for (name, value) in [("mount", "type=secret"), ("network", "host"), ("nope", "1")] {
            assert!(check_flags(&flag(name, value)).is_err(), "{name}={value}");
        }
    }
}
