//! Deleting trees that others made: however deep and wide they are, with bounded memory, stack and descriptors.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

/// Deletes a directory with all in it. Nobody else may use it meanwhile; symbolic links are deleted, not followed.
///
/// A directory that is not empty is moved up to the top before it is looked into, so that no path gets long.
pub(crate) fn delete_directory(top: &Path) -> io::Result<()> {
    let mut pending = Vec::new();
    let mut number = 0;
    empty(top, |directory| {
        pending.push(directory.to_owned());
        Ok(())
    })?;
    while let Some(directory) = pending.pop() {
        // Some file systems leave out entries of a directory that is changed while it is read.
        loop {
            empty(&directory, |inner| {
                pending.extend(move_up(inner, top, &mut number)?);
                Ok(())
            })?;
            match fs::remove_dir(&directory) {
                Err(error) if is_not_empty(&error) => {}
                other => break other?,
            }
        }
    }
    fs::remove_dir(top)
}

/// Deletes what is in a directory but for directories that are not empty, which are handed on.
fn empty(directory: &Path, mut not_empty: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            fs::remove_file(&path)?;
            continue;
        }
        match fs::remove_dir(&path) {
            Err(error) if is_not_empty(&error) => not_empty(&path)?,
            other => other?,
        }
    }
    Ok(())
}

/// Where it is now; nothing if it cannot be moved, and is gone.
fn move_up(directory: &Path, top: &Path, number: &mut u64) -> io::Result<Option<PathBuf>> {
    loop {
        let target = top.join(format!(".plimsoll-{number}"));
        *number += 1;
        match rustix::fs::renameat_with(CWD, directory, CWD, &target, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(Some(target)),
            Err(Errno::EXIST) => {}
            // A directory of a lower layer, seen through an overlay.
            Err(Errno::XDEV) => return fs::remove_dir_all(directory).map(|()| None),
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_not_empty(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::DirectoryNotEmpty
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn deep_and_wide_trees_go_and_what_links_lead_to_stays() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-deletion-")
            .tempdir()
            .expect("temp dir");
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).expect("mkdir");
        fs::write(outside.join("kept"), "").expect("write");
        let top = dir.path().join("top");
        fs::create_dir(&top).expect("mkdir");
        // Deeper than any path is long: made from the inside out.
        let mut inner = dir.path().join("inner");
        fs::create_dir(&inner).expect("mkdir");
        symlink(&outside, inner.join("link")).expect("link");
        for level in 0..2500 {
            let outer = dir.path().join(format!("outer-{level}"));
            fs::create_dir(&outer).expect("mkdir");
            fs::write(outer.join("file"), "").expect("write");
            fs::rename(&inner, outer.join("d")).expect("rename");
            inner = outer;
        }
        fs::rename(&inner, top.join("deep")).expect("rename");
        // Names of ours, taken.
        fs::create_dir_all(top.join(".plimsoll-0/a/b")).expect("mkdir");
        fs::write(top.join(".plimsoll-1"), "").expect("write");
        for number in 0..300 {
            fs::create_dir_all(top.join(format!("wide/{number}/x"))).expect("mkdir");
            fs::write(top.join(format!("wide/{number}/x/y")), "").expect("write");
        }
        delete_directory(&top).expect("deleted");
        assert!(!top.exists());
        assert!(outside.join("kept").exists());
    }
}
