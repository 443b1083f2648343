//! COPY and ADD.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::BuildError;
use super::chmod::Chmod;
use super::executor::{Executor, fail};
use super::files::{Change, Copier, resolve_owner};
use super::run::Workspace;
use super::sources::{Item, Origin};
use super::stage::StageState;
use crate::archive::import::{blocking, unpack_compressed};
use crate::dockerfile::ignore::IgnorePatterns;
use crate::dockerfile::step::{Copy, Flag, Source, Step};
use crate::unpack::Unpack;
use crate::unpack::compression::decompress;
use crate::unpack::confine::{Links, Root};

/// Flags, checked and with variables replaced.
#[derive(Default)]
struct Options {
    from: Option<String>,
    owner: Option<String>,
    mode: Option<Chmod>,
    parents: bool,
    /// ADD leaves archives as they are.
    packed: bool,
    exclude: Vec<String>,
}

/// What is to be written.
enum Part {
    Text { name: String, content: String },
    Found(Vec<Item>),
}

impl Executor<'_> {
    pub(super) async fn copy_step(
        &self,
        index: usize,
        stage: &mut StageState,
        step: &Step,
        copy: &Copy,
    ) -> Result<(), BuildError> {
        let env = stage.file.config.env.clone();
        let expand = |text: &str| stage.scope.expand(&self.globals, &env, text);
        let expand_heredoc = |text: &str| stage.scope.expand_heredoc(&env, text);
        let options = options(copy, &expand).map_err(|e| fail(step, e))?;
        let destination = expand(&copy.destination).map_err(|e| fail(step, e))?;
        // Files of another stage or image are seen through a mount of their own.
        let layers = match &options.from {
            None => None,
            Some(name) => Some(self.source_layers(index, name).await?),
        };
        let source = match &layers {
            Some(layers) => Some(blocking(|| Workspace::new(self.store(), layers))?),
            None => None,
        };
        let exclude = IgnorePatterns::new(&options.exclude).map_err(|e| fail(step, e))?;
        let all = IgnorePatterns::default();
        let root = source
            .as_ref()
            .map_or(self.request.context.as_path(), |w| w.root.as_path());
        let name = if source.is_some() {
            "source stage or image"
        } else {
            "build context"
        };
        let origin = Origin {
            root,
            ignore: if source.is_some() { &all } else { &self.ignore },
            exclude: &exclude,
            name,
            keep_owner: source.is_some(),
        };
        let parts =
            blocking(|| find_parts(&origin, copy, options.parents, &expand, &expand_heredoc))
                .map_err(|e| fail(step, e))?;
        // With its parents everything goes into a directory.
        if !options.parents {
            check_destination(&parts, &destination).map_err(|e| fail(step, e))?;
        }

        let absolute = stage.absolute(&destination);
        let directory = destination.ends_with('/')
            || destination.ends_with("/.")
            || destination == "."
            || destination.is_empty();
        let digests = blocking(|| digest_parts(&origin, &parts, options.parents))
            .map_err(|e| fail(step, e))?;
        let word = if copy.add { "ADD" } else { "COPY" };
        let flags = format!(
            "{:?} {:?} {} {:?} {directory} {}",
            options.owner, options.mode, options.parents, options.exclude, options.packed
        );
        let key = stage.key(&[word, &flags, &absolute, &digests.join(" ")]);
        let record = match self.lookup(&key).await {
            Some(record) => record,
            None => {
                let job = Job {
                    copy,
                    options: &options,
                    origin: &origin,
                    parts: &parts,
                    path: &absolute,
                    directory,
                };
                let layers = &stage.file.rootfs.diff_ids;
                let layer = blocking(|| {
                    let workspace =
                        Workspace::new(self.store(), layers).map_err(|e| e.to_string())?;
                    job.write(&workspace, self)?;
                    workspace.into_layer(&[]).map_err(|e| e.to_string())
                });
                self.remember(&key, layer.map_err(|e| fail(step, e))?)
            }
        };
        blocking(|| drop(source));
        stage.apply(step, &key, &record, String::new());
        Ok(())
    }
}

struct Job<'a> {
    copy: &'a Copy,
    options: &'a Options,
    origin: &'a Origin<'a>,
    parts: &'a [Part],
    /// Absolute destination.
    path: &'a str,
    /// Whether the destination was written as a directory.
    directory: bool,
}

impl Job<'_> {
    fn write(&self, workspace: &Workspace<'_>, executor: &Executor<'_>) -> Result<(), String> {
        let root = Root::open(&workspace.root, Links::InRoot).map_err(|e| e.to_string())?;
        let owner = self
            .options
            .owner
            .as_deref()
            .map(|o| resolve_owner(&root, o))
            .transpose()?;
        let change = Change {
            owner,
            mode: self.options.mode.clone(),
        };
        let copier = Copier {
            origin: self.origin,
            root: &root,
            change,
        };
        let path = Path::new(self.path.trim_start_matches('/'));
        let is_directory =
            self.directory || root.open_at(path, OFlags::PATH | OFlags::DIRECTORY).is_ok();
        let several = self.parts.len() > 1
            || self
                .parts
                .iter()
                .any(|p| matches!(p, Part::Found(i) if i.len() > 1));
        for part in self.parts {
            let items = match part {
                Part::Text { name, content } => {
                    let target = if is_directory || several {
                        path.join(name)
                    } else {
                        path.to_owned()
                    };
                    copier.text(content, &target)?;
                    continue;
                }
                Part::Found(items) => items,
            };
            for item in items {
                let archive = self.copy.add && !self.options.packed && !item.directory;
                if archive && is_archive(item)? {
                    copier.directory(path)?;
                    unpack(item, workspace, path, owner, executor)?;
                } else if item.directory {
                    let target = if self.options.parents {
                        path.join(&item.below)
                    } else {
                        path.to_owned()
                    };
                    copier.contents(item, &target)?;
                } else if self.options.parents {
                    copier.file(item, &path.join(&item.below))?;
                } else if is_directory || several {
                    copier.file(item, &path.join(item.name()))?;
                } else {
                    copier.file(item, path)?;
                }
            }
        }
        Ok(())
    }
}

fn unpack(
    item: &Item,
    workspace: &Workspace<'_>,
    path: &Path,
    owner: Option<(u32, u32)>,
    executor: &Executor<'_>,
) -> Result<(), String> {
    let file = File::open(&item.real).map_err(|e| e.to_string())?;
    let unpack = Unpack {
        root: &workspace.root,
        links: Links::InRoot,
        beneath: path.to_owned(),
        whiteouts: false,
        owner,
        limits: executor.store().options.limits,
    };
    unpack_compressed(file, &unpack).map_err(|e| format!("{}: {e}", item.relative.display()))
}

fn options(
    copy: &Copy,
    expand: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Options, String> {
    let mut options = Options::default();
    for Flag { name, value } in &copy.flags {
        let value = value.as_deref().unwrap_or("");
        match name.as_str() {
            "from" if !copy.add => options.from = Some(value.to_owned()),
            "chown" => options.owner = Some(expand(value)?),
            "chmod" => options.mode = Some(Chmod::parse(&expand(value)?)?),
            "unpack" if copy.add => options.packed = matches!(value, "false" | "0"),
            "parents" => options.parents = !matches!(value, "false" | "0"),
            "exclude" => options.exclude.push(expand(value)?),
            // Layers of this store do not depend on what is below them anyway.
            "link" => {}
            "checksum" | "keep-git-dir" if copy.add => {
                return Err(format!(
                    "ADD --{name} needs a remote source, which is not supported"
                ));
            }
            name => return Err(format!("unknown flag: --{name}")),
        }
    }
    Ok(options)
}

fn find_parts(
    origin: &Origin<'_>,
    copy: &Copy,
    parents: bool,
    expand: &dyn Fn(&str) -> Result<String, String>,
    expand_heredoc: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    for source in &copy.sources {
        match source {
            Source::Inline(script) => {
                // In a heredoc quotes are text: only `$` and the escape mean something.
                let content = if script.expand {
                    expand_heredoc(&script.content)?
                } else {
                    script.content.clone()
                };
                parts.push(Part::Text {
                    name: expand(&script.name)?,
                    content,
                });
            }
            Source::Path(text) => {
                let path = expand(text)?;
                let remote = ["http://", "https://", "git@", "ssh://", "git://"]
                    .iter()
                    .any(|p| path.starts_with(p));
                if remote && copy.add {
                    return Err(format!(
                        "ADD of a remote source is not supported: fetch {path} in a RUN step or into the context"
                    ));
                }
                parts.push(Part::Found(if parents {
                    origin.find_with_parents(&path)?
                } else {
                    origin.find(&path)?
                }));
            }
        }
    }
    Ok(parts)
}

fn check_destination(parts: &[Part], destination: &str) -> Result<(), String> {
    let count: usize = parts
        .iter()
        .map(|p| {
            if let Part::Found(items) = p {
                // A pattern without a match is a source all the same.
                items.len().max(1)
            } else {
                1
            }
        })
        .sum();
    if count > 1
        && !destination.ends_with('/')
        && !matches!(destination, "." | "..")
        && !destination.ends_with("/.")
    {
        return Err("When using COPY with more than one source file, the destination must be a directory and end with a /".into());
    }
    Ok(())
}

fn digest_parts(origin: &Origin<'_>, parts: &[Part], parents: bool) -> Result<Vec<String>, String> {
    let mut digests = Vec::new();
    for part in parts {
        match part {
            Part::Text { name, content } => digests.push(format!(
                "{name:?}={}",
                crate::store::durable::digest_of(content.as_bytes())
            )),
            Part::Found(items) => {
                for item in items {
                    let path = if parents { &item.below } else { &item.relative };
                    digests.push(format!("{path:?}={}", origin.digest(item)?));
                }
            }
        }
    }
    Ok(digests)
}

/// Whether ADD unpacks the file: by content, never by name.
fn is_archive(item: &Item) -> Result<bool, String> {
    // To open a pipe is to wait for whoever writes into it.
    if !fs::symlink_metadata(&item.real).is_ok_and(|meta| meta.is_file()) {
        return Ok(false);
    }
    let open = || File::open(&item.real).map_err(|e| format!("{}: {e}", item.relative.display()));
    let mut start = Vec::new();
    open()?
        .take(6)
        .read_to_end(&mut start)
        .map_err(|e| e.to_string())?;
    if start.starts_with(b"BZh") || start.starts_with(b"\xfd7zXZ\0") {
        let path: &PathBuf = &item.relative;
        return Err(format!(
            "ADD cannot unpack bzip2 or xz ({}): recompress it with gzip or zstd, or use COPY",
            path.display()
        ));
    }
    let mut block = Vec::new();
    let read = decompress(open()?).and_then(|plain| plain.take(512).read_to_end(&mut block));
    Ok(read.is_ok() && is_tar_header(&block))
}

fn is_tar_header(block: &[u8]) -> bool {
    if block.len() < 512 || block.iter().all(|b| *b == 0) {
        return false;
    }
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(i, b)| {
            if (148..156).contains(&i) {
                32
            } else {
                u32::from(*b)
            }
        })
        .sum();
    tar::Header::from_byte_slice(block)
        .cksum()
        .is_ok_and(|c| c == sum)
}
