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
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub root: &'a Path,
    /// Of paths from the root. Empty when it is not the context.
    pub ignore: &'a IgnorePatterns,
    /// `--exclude`: of paths below what is copied.
    pub exclude: &'a IgnorePatterns,
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
    /// From the origin's root.
    pub relative: PathBuf,
    /// What `--exclude` goes by: nothing for a directory, of which the content is copied, and the name for a file. With
    /// `--parents` all that is kept of its path.
    pub below: PathBuf,
    pub directory: bool,
}

impl Item {
    pub fn name(&self) -> OsString {
        self.relative.file_name().unwrap_or_default().to_owned()
    }
}

impl Origin<'_> {
    /// Finds what a source path or pattern means, sorted. A path must be there, a pattern may match nothing.
    pub fn find(&self, source: &str) -> Result<Vec<Item>, String> {
        let parts = self.parts(source)?;
        let root = Root::open(self.root, Links::InRoot).map_err(|e| e.to_string())?;
        if !parts.iter().any(|part| is_pattern(part)) {
            let relative: PathBuf = parts.iter().collect();
            let missing = |reason: String| {
                format!(
                    "file not found in {} or excluded by .dockerignore: stat {source}: {reason}",
                    self.name
                )
            };
            let item = self.item(&root, relative).map_err(missing)?;
            if self.is_ignored(&item) {
                return Err(missing("excluded".into()));
            }
            return Ok(Some(item)
                .filter(|i| self.is_wanted(i))
                .into_iter()
                .collect());
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
            .filter(|i| !self.is_ignored(i) && self.is_wanted(i))
            .collect();
        items.sort_by(|a, b| a.relative.cmp(&b.relative));
        Ok(items)
    }

    /// Finds what a source means with `--parents`, sorted. Of paths is kept what follows `/./`, or all; `**` is any number of
    /// directories. What lies in something that is found is not named again.
    pub fn find_with_parents(&self, source: &str) -> Result<Vec<Item>, String> {
        let (above, pattern) = source.split_once("/./").unwrap_or(("", source));
        let (above, parts) = (self.parts(above)?, self.parts(pattern)?);
        let fixed = parts.iter().take_while(|part| !is_pattern(part)).count();
        let start = [&above[..], &parts[..fixed]].concat().join("/");
        let pattern = parts[fixed..].join("/");
        // Only what is named without any wildcard has to be there.
        let all = Origin {
            exclude: &IgnorePatterns::default(),
            ..*self
        };
        let starts = match all.find(&start) {
            Err(_) if !pattern.is_empty() => Vec::new(),
            found => found?,
        };
        let wanted = IgnorePatterns::new(&[&pattern])?;
        let mut items = Vec::new();
        for item in starts {
            let below = item.relative.components().skip(above.len()).collect();
            let item = Item { below, ..item };
            if pattern.is_empty() {
                items.push(item);
            } else if item.directory {
                walk(&item, Path::new(""), &wanted, &mut items)
                    .map_err(|e| format!("cannot read {}: {e}", item.relative.display()))?;
            }
        }
        items.retain(|item| !self.is_ignored(item) && self.is_wanted(item));
        items.sort_by(|a, b| a.relative.cmp(&b.relative));
        Ok(items)
    }

    /// Names of a path, cleaned; it may not climb out.
    fn parts(&self, path: &str) -> Result<Vec<String>, String> {
        let mut parts = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." if parts.pop().is_none() => {
                    return Err(format!("forbidden path outside the {}: {path}", self.name));
                }
                ".." => {}
                part => parts.push(part.to_owned()),
            }
        }
        Ok(parts)
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
        let below = match relative.file_name() {
            Some(name) if !directory => PathBuf::from(name),
            _ => PathBuf::new(),
        };
        Ok(Item {
            real,
            relative,
            below,
            directory,
        })
    }

    /// Whether .dockerignore leaves all of the item out.
    fn is_ignored(&self, item: &Item) -> bool {
        leaves_out(self.ignore, &item.relative) && !(item.directory && self.ignore.has_exceptions())
    }

    /// Whether `--exclude` leaves something of the item.
    fn is_wanted(&self, item: &Item) -> bool {
        !leaves_out(self.exclude, &item.below) || item.directory && self.exclude.has_exceptions()
    }

    /// Whether something is left out: by its path from the root, or by that below what is copied.
    pub fn excludes(&self, relative: &Path, below: &Path) -> bool {
        leaves_out(self.ignore, relative) || leaves_out(self.exclude, below)
    }

    /// Whether something within an excluded directory might yet be included.
    pub fn has_exceptions(&self) -> bool {
        self.ignore.has_exceptions() || self.exclude.has_exceptions()
    }

    /// Digest of an item's names, kinds, modes, owners, links, attributes and content; times do not count.
    pub fn digest(&self, item: &Item) -> Result<String, String> {
        let mut hash = Hashing::new(io::sink());
        self.hash(item, Path::new(""), &mut hash)
            .map_err(|e| format!("cannot read {}: {e}", item.relative.display()))?;
        Ok(hash.finish().1)
    }

    /// Takes in what lies at a path in an item.
    fn hash(&self, item: &Item, path: &Path, hash: &mut Hashing<io::Sink>) -> io::Result<()> {
        use io::Write;
        let real = &at(&item.real, path);
        let meta = fs::symlink_metadata(real)?;
        let excluded = self.excludes(&at(&item.relative, path), &at(&item.below, path));
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
                path.as_os_str().as_bytes()
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
            self.hash(item, &path.join(&name), hash)?;
        }
        Ok(())
    }
}

/// A path below another; the other itself, without a slash at its end, for an empty one.
fn at(base: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() {
        base.to_owned()
    } else {
        base.join(path)
    }
}

fn leaves_out(patterns: &IgnorePatterns, path: &Path) -> bool {
    !path.as_os_str().is_empty()
        && !patterns.is_empty()
        && patterns.excludes(&path.to_string_lossy())
}

fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

/// Collects what matches in a directory; `path` is where to look in it. Links are not followed.
fn walk(
    item: &Item,
    path: &Path,
    wanted: &IgnorePatterns,
    found: &mut Vec<Item>,
) -> io::Result<()> {
    let real = at(&item.real, path);
    for name in children(&real, &fs::symlink_metadata(&real)?)? {
        let path = path.join(name);
        let real = at(&item.real, &path);
        let directory = fs::symlink_metadata(&real)?.is_dir();
        if wanted.excludes(&path.to_string_lossy()) {
            found.push(Item {
                real,
                relative: at(&item.relative, &path),
                below: at(&item.below, &path),
                directory,
            });
        } else if directory {
            walk(item, &path, wanted, found)?;
        }
    }
    Ok(())
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
