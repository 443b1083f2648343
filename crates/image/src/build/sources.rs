//! What COPY and ADD copy: sources found in a context, a stage or an image, and a digest of their content.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::dockerfile::ignore::{IgnorePatterns, name_matches};
use crate::store::durable::Hashing;
use crate::unpack::canonical;
use crate::unpack::confine::{Links, Root, explain};

/// Where sources come from.
pub(super) struct Origin<'a> {
    pub root: &'a Path,
    /// Empty when it is not the context.
    pub ignore: &'a IgnorePatterns,
    /// For messages.
    pub name: &'a str,
    /// Whether owners count: files of a context have none.
    pub keep_owner: bool,
}

/// A file or directory to copy.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// On this machine, links followed.
    pub real: PathBuf,
    /// As the Dockerfile sees it.
    pub relative: PathBuf,
    pub directory: bool,
}

impl Item {
    pub fn name(&self) -> OsString {
        self.relative.file_name().unwrap_or_default().to_owned()
    }
}

impl Origin<'_> {
    /// Finds what a source path or pattern means, sorted.
    pub fn find(&self, source: &str) -> Result<Vec<Item>, String> {
        let mut parts = Vec::new();
        for part in source.split('/') {
            match part {
                "" | "." => {}
                ".." if parts.pop().is_none() => {
                    return Err(format!(
                        "forbidden path outside the {}: {source}",
                        self.name
                    ));
                }
                ".." => {}
                part => parts.push(part.to_owned()),
            }
        }
        let root = Root::open(self.root, Links::InRoot).map_err(|e| e.to_string())?;
        if !parts.iter().any(|p| p.contains(['*', '?', '['])) {
            let relative: PathBuf = parts.iter().collect();
            let missing = |reason: String| {
                format!(
                    "file not found in {} or excluded by .dockerignore: stat {source}: {reason}",
                    self.name
                )
            };
            let item = self.item(&root, relative).map_err(missing)?;
            if self.is_excluded(&item) {
                return Err(missing("excluded".into()));
            }
            return Ok(vec![item]);
        }
        let mut found = vec![PathBuf::new()];
        for part in &parts {
            let mut next = Vec::new();
            for directory in &found {
                if !part.contains(['*', '?', '[', '\\']) {
                    next.push(directory.join(part));
                    continue;
                }
                let Ok(item) = self.item(&root, directory.clone()) else {
                    continue;
                };
                for entry in fs::read_dir(&item.real).into_iter().flatten().flatten() {
                    let name = entry.file_name();
                    let matched = name_matches(part, &name.to_string_lossy())
                        .map_err(|e| format!("bad pattern {source:?}: {e}"))?;
                    if matched {
                        next.push(directory.join(name));
                    }
                }
            }
            found = next;
        }
        let mut items: Vec<Item> = found
            .into_iter()
            .filter_map(|p| self.item(&root, p).ok())
            .filter(|i| !self.is_excluded(i))
            .collect();
        items.sort_by(|a, b| a.relative.cmp(&b.relative));
        if items.is_empty() {
            return Err(format!(
                "no source files were specified: {source:?} matches nothing in the {}",
                self.name
            ));
        }
        Ok(items)
    }

    fn item(&self, root: &Root, relative: PathBuf) -> Result<Item, String> {
        use std::os::fd::AsRawFd;
        let fd = root.open_at(&relative, OFlags::PATH).map_err(explain)?;
        let real = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .map_err(|e| e.to_string())?;
        let directory = File::from(fd)
            .metadata()
            .map_err(|e| e.to_string())?
            .is_dir();
        Ok(Item {
            real,
            relative,
            directory,
        })
    }

    fn is_excluded(&self, item: &Item) -> bool {
        self.excludes(&item.relative) && !(item.directory && self.ignore.has_exceptions())
    }

    pub fn excludes(&self, relative: &Path) -> bool {
        !relative.as_os_str().is_empty()
            && !self.ignore.is_empty()
            && self.ignore.excludes(&relative.to_string_lossy())
    }

    /// Digest of an item's names, kinds, modes, owners, links, attributes and content; times do not count.
    pub fn digest(&self, item: &Item) -> Result<String, String> {
        let mut hash = Hashing::new(io::sink());
        self.hash(&item.real, &item.relative, Path::new(""), &mut hash)
            .map_err(|e| format!("cannot read {}: {e}", item.relative.display()))?;
        Ok(hash.finish().1)
    }

    fn hash(
        &self,
        real: &Path,
        relative: &Path,
        below: &Path,
        hash: &mut Hashing<io::Sink>,
    ) -> io::Result<()> {
        use io::Write;
        let meta = fs::symlink_metadata(real)?;
        let excluded = self.excludes(relative);
        if !excluded || meta.is_dir() {
            let owner = if self.keep_owner {
                (meta.uid(), meta.gid())
            } else {
                (0, 0)
            };
            let mode = if excluded {
                0
            } else {
                meta.permissions().mode()
            };
            let xattrs = canonical::xattrs(real).map_err(io::Error::other)?;
            write!(
                hash,
                "\0{:?}\0{mode:o}\0{owner:?}\0{xattrs:?}\0",
                below.as_os_str().as_bytes()
            )?;
            if meta.is_symlink() {
                hash.write_all(fs::read_link(real)?.as_os_str().as_bytes())?;
            } else if meta.is_file() {
                write!(hash, "{}\0", meta.len())?;
                io::copy(&mut File::open(real)?, hash)?;
            } else if !meta.is_dir() {
                write!(hash, "{}", meta.rdev())?;
            }
        }
        for name in children(real, &meta)? {
            self.hash(
                &real.join(&name),
                &relative.join(&name),
                &below.join(&name),
                hash,
            )?;
        }
        Ok(())
    }
}

/// Those who ask for the names go down into directories by recursion.
const DEPTH_MAX: usize = 400;

/// Sorted names in a directory; nothing for what is none. Sockets are left out everywhere.
pub(super) fn children(real: &Path, meta: &fs::Metadata) -> io::Result<Vec<OsString>> {
    if !meta.is_dir() {
        return Ok(Vec::new());
    }
    if real.components().count() > DEPTH_MAX {
        return Err(io::Error::other(format!(
            "directories are nested deeper than {DEPTH_MAX}"
        )));
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(real)? {
        let entry = entry?;
        if !entry.file_type()?.is_socket() {
            names.push(entry.file_name());
        }
    }
    names.sort();
    Ok(names)
}
