//! A volume's files, replaced all at once while containers read them.
//!
//! Files lie in a directory of their own (`..2006_01_02_15_04_05.123456789`); `..data` is a link to it, and what a container
//! opens (`NAME`) is a link to `..data/NAME`. An update makes a new directory and renames a new link over `..data`: a
//! reader sees the old content or the new, and the names in one directory always belong together. The layout is that of
//! kubernetes `pkg/volume/util/atomic_writer.go`, because programs watch `..data`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::{fs, os::unix::fs::OpenOptionsExt};

use jiff::Timestamp;

use super::payload::File;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes `directory` hold exactly `files`, whose paths stay inside it. `finish` sets owners and rights on a new
/// directory before anybody sees it. Returns whether anything changed.
///
/// May be interrupted at any point: the next call finishes or begins anew, and removes what was left lying.
///
/// # Errors
/// What the file system says; the volume then shows what it showed before.
pub fn write(
    directory: &Path,
    files: &[File],
    finish: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<bool> {
    make_directory(directory)?;
    let current = fs::read_link(directory.join(DATA)).ok();
    let wanted: BTreeMap<&str, &File> = files
        .iter()
        .map(|file| (file.path.as_str(), file))
        .collect();
    let kept = current
        .as_deref()
        .filter(|name| same(&directory.join(name), &wanted));
    let changed = kept.is_none();
    let name = match kept {
        Some(name) => name.to_owned(),
        None => {
            let name = fresh(directory)?;
            let made = directory.join(&name);
            fill(&made, wanted.values())
                .and_then(|()| finish(&made))
                .and_then(|()| point(directory, &name))
                .inspect_err(|_| drop(fs::remove_dir_all(&made)))?;
            name
        }
    };
    let shown: BTreeSet<&str> = wanted
        .keys()
        .filter_map(|path| path.split('/').next())
        .collect();
    show(directory, &shown)?;
    sweep(directory, &name, &shown)?;
    Ok(changed)
}

/// Whether the volume was filled once.
pub fn is_filled(directory: &Path) -> bool {
    directory.join(DATA).exists()
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// A new directory, named after the time.
fn fresh(directory: &Path) -> io::Result<PathBuf> {
    let now = Timestamp::now();
    let name = format!(
        "..{}.{:09}",
        now.strftime("%Y_%m_%d_%H_%M_%S"),
        now.subsec_nanosecond()
    );
    let path = directory.join(&name);
    fs::DirBuilder::new().mode(0o755).create(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(PathBuf::from(name))
}

fn fill<'a>(made: &Path, files: impl Iterator<Item = &'a &'a File>) -> io::Result<()> {
    for file in files {
        let path = made.join(&file.path);
        if let Some(parent) = path.parent().filter(|parent| *parent != made) {
            fs::create_dir_all(parent)?;
            let inner = parent.strip_prefix(made).unwrap_or(parent);
            let mut at = made.to_owned();
            for part in inner {
                at.push(part);
                fs::set_permissions(&at, fs::Permissions::from_mode(0o755))?;
            }
        }
        // nobody reads it before its rights are set
        let mut written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        written.write_all(&file.bytes)?;
        if let Some(owner) = file.owner {
            std::os::unix::fs::fchown(&written, Some(owner), None)?;
        }
        written.set_permissions(fs::Permissions::from_mode(mode(file)))?;
    }
    Ok(())
}

fn mode(file: &File) -> u32 {
    u32::try_from(file.mode).unwrap_or(0o644) & 0o777
}

/// Whether a directory of files holds exactly these.
fn same(made: &Path, wanted: &BTreeMap<&str, &File>) -> bool {
    let mut found = BTreeMap::new();
    let collected = collect(made, "", &mut found);
    collected.is_ok()
        && found.len() == wanted.len()
        && wanted.iter().all(|(path, file)| {
            found
                .get(*path)
                .is_some_and(|bytes: &Vec<u8>| *bytes == file.bytes)
        })
}

fn collect(made: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(made.join(prefix))? {
        let entry = entry?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| ErrorKind::InvalidData)?;
        let path = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}/{name}")
        };
        if entry.file_type()?.is_dir() {
            collect(made, &path, found)?;
        } else {
            found.insert(path, fs::read(entry.path())?);
        }
    }
    Ok(())
}

/// The one step by which readers come to the new files.
fn point(directory: &Path, name: &Path) -> io::Result<()> {
    let new = directory.join(DATA_NEW);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(name, &new)?;
    fs::rename(&new, directory.join(DATA))
}

/// Links from the names that people see.
fn show(directory: &Path, names: &BTreeSet<&str>) -> io::Result<()> {
    for name in names {
        let path = directory.join(name);
        let target = Path::new(DATA).join(name);
        match fs::read_link(&path) {
            Ok(old) if old == target => continue,
            Ok(_) => fs::remove_file(&path)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // plain files of an older version of this program
            Err(_) if path.is_dir() => fs::remove_dir_all(&path)?,
            Err(_) => fs::remove_file(&path)?,
        }
        symlink(&target, &path)?;
    }
    Ok(())
}

/// Removes names that are not shown any more, and every directory of files but the one in use.
fn sweep(directory: &Path, current: &Path, names: &BTreeSet<&str>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let keep = name == DATA
            || name == current.as_os_str()
            || name.to_str().is_some_and(|name| names.contains(name));
        if keep {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.into(),
            bytes: text.into(),
            mode: 0o640,
            owner: None,
        }
    }

    fn directory() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("plimsoll-volume-")
            .tempdir()
            .expect("directory")
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .expect("entries")
            .map(|entry| {
                entry
                    .expect("entry")
                    .file_name()
                    .into_string()
                    .expect("text")
            })
            .filter(|name| !name.starts_with("..2"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_come_change_and_go_together() {
        let held = directory();
        let volume = held.path().join("v");
        let put = |files: &[File]| write(&volume, files, |_| Ok(())).expect("written");
        assert!(put(&[file("a", "1"), file("deep/er/b", "2")]));
        assert_eq!(names(&volume), ["..data", "a", "deep"]);
        assert_eq!(
            fs::read_to_string(volume.join("deep/er/b")).expect("b"),
            "2"
        );
        let mode = fs::metadata(volume.join("a"))
            .expect("a")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        let before = fs::read_link(volume.join("..data")).expect("link");
        assert!(
            !put(&[file("a", "1"), file("deep/er/b", "2")]),
            "nothing to do"
        );
        assert_eq!(fs::read_link(volume.join("..data")).expect("link"), before);
        assert!(put(&[file("a", "3")]));
        assert_eq!(names(&volume), ["..data", "a"]);
        assert_eq!(fs::read_to_string(volume.join("a")).expect("a"), "3");
        assert!(!volume.join(before).exists(), "the old files are gone");
        assert!(put(&[]));
        assert_eq!(names(&volume), ["..data"]);
        assert!(is_filled(&volume));
    }

    #[test]
    fn what_an_interruption_left_is_taken_up() {
        let held = directory();
        let volume = held.path().join("v");
        write(&volume, &[file("a", "1"), file("b", "1")], |_| Ok(())).expect("written");
        // half a directory, a link that was not renamed, a name that was not made, one that was not removed
        fs::create_dir(volume.join("..2000_01_01_00_00_00.1")).expect("made");
        symlink("..2000_01_01_00_00_00.1", volume.join(DATA_NEW)).expect("linked");
        fs::remove_file(volume.join("b")).expect("removed");
        symlink("..data/gone", volume.join("gone")).expect("linked");
        let failing = write(&volume, &[file("a", "2")], |_| {
            Err(ErrorKind::StorageFull.into())
        });
        assert!(failing.is_err());
        assert_eq!(
            fs::read_to_string(volume.join("a")).expect("a"),
            "1",
            "as before"
        );
        write(&volume, &[file("a", "1"), file("b", "1")], |_| Ok(())).expect("written");
        assert_eq!(names(&volume), ["..data", "a", "b"]);
        let directories = fs::read_dir(&volume)
            .expect("entries")
            .filter(|entry| {
                entry
                    .as_ref()
                    .expect("entry")
                    .path()
                    .symlink_metadata()
                    .expect("kind")
                    .is_dir()
            })
            .count();
        assert_eq!(directories, 1);
    }

    #[test]
    fn files_of_an_older_version_are_replaced() {
        let held = directory();
        let volume = held.path().join("v");
        fs::create_dir_all(volume.join("deep")).expect("made");
        fs::write(volume.join("deep/x"), "old").expect("written");
        fs::write(volume.join("a"), "old").expect("written");
        write(&volume, &[file("a", "new"), file("deep/x", "new")], |_| {
            Ok(())
        })
        .expect("written");
        for name in ["a", "deep/x"] {
            assert_eq!(fs::read_to_string(volume.join(name)).expect("read"), "new");
        }
    }

    #[test]
    fn a_reader_never_sees_a_mixture() {
        let held = directory();
        let volume = held.path().join("v");
        let version = |n: usize| [file("a", &n.to_string()), file("b", &n.to_string())];
        write(&volume, &version(0), |_| Ok(())).expect("written");
        let over = AtomicBool::new(false);
        let mut compared = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..200 {
                    write(&volume, &version(n), |_| Ok(())).expect("written");
                }
                over.store(true, Ordering::Release);
            });
            while !over.load(Ordering::Acquire) {
                // whoever holds the directory reads one version; it may be removed meanwhile
                let Ok(data) = rustix::fs::open(
                    volume.join(DATA),
                    rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
                    rustix::fs::Mode::empty(),
                ) else {
                    // the link was read, and what it named was gone a moment later
                    continue;
                };
                let read = |name: &str| {
                    let fd = rustix::fs::openat(
                        &data,
                        name,
                        rustix::fs::OFlags::RDONLY,
                        rustix::fs::Mode::empty(),
                    )
                    .ok()?;
                    io::read_to_string(fs::File::from(fd)).ok()
                };
                if let (Some(a), Some(b)) = (read("a"), read("b")) {
                    assert_eq!(a, b);
                    assert!(!a.is_empty());
                    compared += 1;
                }
            }
        });
        assert!(compared > 0);
    }
}
