//! What was written but need not survive a power cut yet: it is synced when the index is about to name it, once, together.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::durable::{sync_directory, sync_filesystem};
use crate::error::Error;

/// Files and directories that are synced one by one at most. Beyond this the whole file system is, which also writes what
/// other programs have pending.
const SINGLE_SYNCS_MAX: usize = 200;

/// Trees and files beneath one directory that are not known to be on the disk.
pub(crate) struct Pending {
    parent: PathBuf,
    names: Mutex<BTreeSet<PathBuf>>,
    /// Held while what was taken out of the names is not on the disk yet.
    settling: Mutex<()>,
}

impl Pending {
    pub fn new(parent: &Path) -> Pending {
        Pending {
            parent: parent.into(),
            names: Mutex::default(),
            settling: Mutex::default(),
        }
    }

    /// Remembers a file or tree of the directory.
    pub fn add(&self, path: &Path) {
        self.names.lock().insert(path.into());
    }

    /// Makes everything durable that is pending; when it returns, so is what others are making durable at this moment. What is gone
    /// meanwhile needs nothing.
    ///
    /// # Errors
    /// When the disk refuses; then all of it stays pending.
    pub fn settle(&self) -> Result<(), Error> {
        let _turn = self.settling.lock();
        let taken = std::mem::take(&mut *self.names.lock());
        if taken.is_empty() {
            return Ok(());
        }
        let result = self.sync(&taken);
        if result.is_err() {
            self.names.lock().extend(taken);
        }
        result
    }

    fn sync(&self, taken: &BTreeSet<PathBuf>) -> Result<(), Error> {
        let mut single = Vec::new();
        for path in taken {
            if !collect(path, &mut single) {
                return sync_filesystem(&self.parent);
            }
        }
        for path in &single {
            match File::open(path).and_then(|f| f.sync_all()) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("sync", path)(e));
                }
                _ => {}
            }
        }
        sync_directory(&self.parent)
    }
}

/// Files and directories of a tree; `false` when there are too many, or some that have too long a path to be opened one by one.
/// Links and devices are part of their directory.
fn collect(path: &Path, found: &mut Vec<PathBuf>) -> bool {
    let mut ahead = vec![path.to_owned()];
    while let Some(path) = ahead.pop() {
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => return false,
        };
        if meta.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            ahead.extend(
                entries
                    .map(|entry| entry.path())
                    .take(2 * SINGLE_SYNCS_MAX + 1),
            );
        }
        if meta.is_dir() || meta.is_file() {
            found.push(path);
        }
        if found.len() + ahead.len() > 2 * SINGLE_SYNCS_MAX || found.len() > SINGLE_SYNCS_MAX {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_before_what_another_syncs_is_on_the_disk() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-pending-")
            .tempdir()
            .unwrap();
        let pending = Pending::new(dir.path());
        // Another is in the middle of it: the names are taken, and not synced.
        let other = pending.settling.lock();
        let (told, hears) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let pending = &pending;
            scope.spawn(move || told.send(pending.settle().is_ok()));
            let early = hears.recv_timeout(std::time::Duration::from_millis(200));
            assert!(early.is_err(), "it did not wait");
            drop(other);
            assert!(hears.recv().unwrap());
        });
    }

    #[test]
    fn small_trees_are_synced_file_by_file_and_gone_ones_not_at_all() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-pending-")
            .tempdir()
            .unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/file"), "x").unwrap();
        std::os::unix::fs::symlink("/nowhere", tree.join("a/link")).unwrap();
        let mut found = Vec::new();
        assert!(collect(&tree, &mut found));
        let expected: Vec<PathBuf> = ["a/b", "a/file", "a", ""].map(|p| tree.join(p)).into();
        let sorted = |mut paths: Vec<PathBuf>| {
            paths.sort();
            paths
        };
        assert_eq!(sorted(found), sorted(expected));

        let pending = Pending::new(dir.path());
        pending.add(&tree);
        pending.add(&dir.path().join("gone"));
        pending.settle().unwrap();
        assert!(pending.names.lock().is_empty());
        for n in 0..=SINGLE_SYNCS_MAX {
            fs::write(tree.join(n.to_string()), "").unwrap();
        }
        assert!(!collect(&tree, &mut Vec::new()), "too many to sync singly");
        pending.add(&tree);
        pending.settle().unwrap();
    }
}
