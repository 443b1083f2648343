//! Makes the file of a new store, so that a crash leaves either none or a whole one.
//!
//! The database marks a file as its own last of all, and refuses one whose creation was cut off: it
//! cannot tell that from damage. So the file is made under another name, and renamed when complete.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::Database;
use redb::backends::FileBackend;

use super::source::{from_database, from_io};
use crate::Error;

/// Opens the file at `path`, called `name` in errors, and makes it first if there is none.
pub(super) fn open(path: &Path, name: &str) -> Result<File, Error> {
    let io = |why| from_io(name, &why);
    match fs::metadata(path) {
        Ok(found) if found.len() > 0 => {}
        Ok(_) => make(path, name)?,
        Err(why) if why.kind() == io::ErrorKind::NotFound => make(path, name)?,
        Err(why) => return Err(io(why)),
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(io)?;
    // After a sync that failed the kernel may go on showing what it could not write. What is in the
    // cache and clean is dropped, so that what is read now is what the disk has.
    if let Err(why) = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed) {
        tracing::debug!(%why, name, "the page cache could not be dropped");
    }
    Ok(file)
}

fn make(path: &Path, name: &str) -> Result<(), Error> {
    let io = |why| from_io(name, &why);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).map_err(io)?;
    let unfinished = unfinished(path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&unfinished)
        .map_err(io)?;
    let in_use = || Error::InUse {
        file: name.to_string(),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use()),
        Err(TryLockError::Error(why)) => return Err(io(why)),
    }
    // Another process may have finished and renamed this very file before it was locked here.
    let is_current = fs::metadata(&unfinished).is_ok_and(|found| {
        file.metadata()
            .is_ok_and(|locked| (found.dev(), found.ino()) == (locked.dev(), locked.ino()))
    });
    if !is_current {
        return Err(in_use());
    }
    file.set_len(0).map_err(io)?;
    let handle = file.try_clone().map_err(io)?;
    let backend = FileBackend::new(handle).map_err(|why| from_database(name, why))?;
    let database = Database::builder().create_with_backend(backend);
    database
        .and_then(Database::close)
        .map_err(|why| from_database(name, why))?;
    file.sync_all().map_err(io)?;
    fs::rename(&unfinished, path).map_err(io)?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(io)
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".new");
    name.into()
}
