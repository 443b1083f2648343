//! `RUN --mount`: what a step sees besides its root, and what does not end up in its layer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use engine::runner::{Mount, MountKind};
use tokio::sync::OwnedMutexGuard;

use super::executor::{Executor, fail};
use super::files::{Change, Copier};
use super::run::Workspace;
use super::run_flags::{Kind, Wanted, run_flags, wanted};
use super::sources::{Item, Origin};
use super::stage::StageState;
use super::{BuildError, plan};
use crate::archive::import::blocking;
use crate::dockerfile::ignore::IgnorePatterns;
use crate::dockerfile::step::{Flag, Step};
use crate::store::Store;
use crate::unpack::confine::{Links, Root};

/// Mounts of a step, found; sources stay mounted while this lives.
pub(super) struct Found<'a> {
    wanted: Vec<(Wanted, Option<Source<'a>>)>,
    /// What the step's cache key must say of them.
    pub key: String,
    /// `--network=none`
    pub no_network: bool,
}

struct Source<'a> {
    /// Stage or image; none for the context.
    workspace: Option<Workspace<'a>>,
    item: Item,
}

/// Mounts, ready for the runner.
#[derive(Default)]
pub(super) struct Ready<'a> {
    pub mounts: Vec<Mount>,
    /// Mount points beneath the root, deepest first, with the directories above them.
    pub points: Vec<PathBuf>,
    _copies: Vec<Workspace<'a>>,
    _turns: Vec<OwnedMutexGuard<()>>,
}

impl Executor<'_> {
    /// Checks the flags of a RUN and finds what its mounts mean.
    pub(super) async fn mounts(
        &self,
        index: usize,
        stage: &StageState,
        step: &Step,
        flags: &[Flag],
    ) -> Result<Found<'_>, BuildError> {
        let env = &stage.file.config.env;
        let mut found = Found {
            wanted: Vec::new(),
            key: String::new(),
            no_network: false,
        };
        let flags = run_flags(flags).map_err(|e| fail(step, e))?;
        if flags.no_network {
            found.no_network = true;
            found.key.push_str("--network=none ");
        }
        for text in flags.mounts {
            let text = stage.scope.expand(&self.globals, env, text);
            let wanted = text.and_then(|text| wanted(&text));
            let Some(mut wanted) = wanted.map_err(|e| fail(step, e))? else {
                continue;
            };
            wanted.target = stage.absolute(&wanted.target);
            if wanted.target == "/" {
                return Err(fail(step, "RUN --mount cannot cover the root".into()));
            }
            if let Kind::Cache { id, .. } = &mut wanted.kind
                && id.is_empty()
            {
                id.clone_from(&wanted.target);
            }
            found.key.push_str(&format!("{wanted:?}"));
            let source = match &wanted.kind {
                Kind::Bind { from, source } => {
                    let (source, digest) = self.source(index, step, from, source).await?;
                    found.key.push_str(&digest);
                    Some(source)
                }
                _ => None,
            };
            found.wanted.push((wanted, source));
        }
        Ok(found)
    }

    async fn source(
        &self,
        index: usize,
        step: &Step,
        from: &Option<String>,
        source: &str,
    ) -> Result<(Source<'_>, String), BuildError> {
        let layers = match from {
            None => None,
            Some(name) => Some(self.source_layers(index, name).await?),
        };
        let workspace = match &layers {
            Some(layers) => Some(blocking(|| Workspace::new(self.store(), layers))?),
            None => None,
        };
        let all = IgnorePatterns::default();
        let origin = self.origin(&workspace, &all);
        let (item, digest) = blocking(|| {
            let mut items = origin.find(source)?;
            if items.is_empty() {
                return Err(format!("{source:?} matches nothing in the {}", origin.name));
            }
            let item = items.pop().filter(|_| items.is_empty());
            let item = item.ok_or_else(|| format!("{source:?} is more than one file"))?;
            let digest = origin.digest(&item)?;
            Ok((item, digest))
        })
        .map_err(|e: String| fail(step, e))?;
        Ok((Source { workspace, item }, digest))
    }

    fn origin<'b>(
        &'b self,
        workspace: &'b Option<Workspace<'_>>,
        all: &'b IgnorePatterns,
    ) -> Origin<'b> {
        match workspace {
            Some(workspace) => Origin {
                root: &workspace.root,
                ignore: all,
                exclude: all,
                name: "source stage or image",
                keep_owner: true,
            },
            None => Origin {
                root: &self.request.context,
                ignore: &self.ignore,
                exclude: all,
                name: "build context",
                keep_owner: false,
            },
        }
    }

    /// Makes what was found mountable. Exclusive caches are waited for.
    pub(super) async fn ready<'b>(&'b self, found: &Found<'b>) -> Result<Ready<'b>, BuildError> {
        let mut ready = Ready::default();
        let exclusive = found.wanted.iter().filter_map(|(w, _)| match &w.kind {
            Kind::Cache {
                id,
                exclusive: true,
                ..
            } => Some(id),
            _ => None,
        });
        // In one order everywhere, or two builds could wait for each other.
        for id in exclusive.collect::<std::collections::BTreeSet<_>>() {
            let key = format!("cache mount {id}");
            ready._turns.push(self.store().fetching.lock(&key).await);
        }
        for (wanted, source) in &found.wanted {
            let mut options = Vec::new();
            let (kind, path) = match &wanted.kind {
                Kind::Tmpfs { size } => {
                    options.extend(size.as_ref().map(|s| format!("size={s}")));
                    (MountKind::Tmpfs, PathBuf::new())
                }
                Kind::Cache {
                    id, mode, owner, ..
                } => {
                    let path = blocking(|| cache_directory(self.store(), id, *mode, *owner))?;
                    (MountKind::Bind, path)
                }
                Kind::Bind { .. } => {
                    let Some(source) = source else { continue };
                    let path = match &source.workspace {
                        Some(_) => source.item.real.clone(),
                        None => {
                            let (copy, path) = blocking(|| self.copy_of(&source.item))?;
                            ready._copies.push(copy);
                            path
                        }
                    };
                    (MountKind::Bind, path)
                }
            };
            ready.mounts.push(Mount {
                source: path,
                target: wanted.target.clone(),
                kind,
                read_only: wanted.read_only,
                options,
            });
            let relative = Path::new(wanted.target.trim_start_matches('/'));
            let above = relative.ancestors().filter(|p| *p != Path::new(""));
            ready.points.extend(above.map(Path::to_owned));
        }
        ready
            .points
            .sort_by_key(|p| std::cmp::Reverse(p.components().count()));
        ready.points.dedup();
        Ok(ready)
    }

    /// A part of the context without what .dockerignore leaves out, which a step may write to.
    fn copy_of(&self, item: &Item) -> Result<(Workspace<'_>, PathBuf), BuildError> {
        let workspace = Workspace::new(self.store(), &[])?;
        let root = Root::open(&workspace.root, Links::InRoot)?;
        let all = IgnorePatterns::default();
        let copier = Copier {
            origin: &self.origin(&None, &all),
            root: &root,
            change: Change::default(),
        };
        let name = PathBuf::from("source");
        let copied = if item.directory {
            copier.contents(item, &name)
        } else {
            copier.file(item, &name)
        };
        copied.map_err(BuildError::Request)?;
        let path = workspace.root.join(name);
        Ok((workspace, path))
    }

    /// Layers of the stage or image that `--from` or `from=` names.
    pub(super) async fn source_layers(
        &self,
        index: usize,
        name: &str,
    ) -> Result<Vec<String>, BuildError> {
        Ok(match plan::source_stage(&self.file, index, name) {
            Some(earlier) => {
                let state = self.stages[earlier].as_ref().ok_or_else(|| {
                    BuildError::Request(format!("stage {name} is needed before it is built"))
                })?;
                state.file.rootfs.diff_ids.clone()
            }
            None => {
                let image = self.image(name, self.request.platform.clone()).await?;
                image.file.rootfs.diff_ids
            }
        })
    }
}

/// The directory of a cache mount: by the digest of its name, made when it is first asked for.
fn cache_directory(
    store: &Store,
    id: &str,
    mode: u32,
    owner: (u32, u32),
) -> Result<PathBuf, crate::error::Error> {
    use crate::error::Error;
    let name = crate::store::durable::digest_of(id.as_bytes());
    let path = store.cache_mounts().join(&name["sha256:".len()..]);
    if !path.is_dir() {
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        fs::set_permissions(&path, PermissionsExt::from_mode(mode))
            .map_err(Error::io("change the mode of", &path))?;
        std::os::unix::fs::chown(&path, Some(owner.0), Some(owner.1))
            .map_err(Error::io("change the owner of", &path))?;
    }
    Ok(path)
}
