//! What an instance keeps is root's alone: no other user of the machine comes through these directories to the secrets, volumes
//! and programs of containers. (Containers have theirs mounted, and do not come by these paths.)

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};

const MODE: u32 = 0o700;
const DIRECTORIES: [&str; 7] = [
    "claims", "images", "logs", "network", "node", "store", "volumes",
];

/// Makes them, and closes those that an earlier version left open.
pub fn close(data_dir: &Path) -> Result<()> {
    for name in DIRECTORIES {
        let path = data_dir.join(name);
        match make(&path) {
            // A start needs no space on the disk: whoever needs the directory makes it then, and the next start closes it.
            Err(error) if is_full(&error) => {
                tracing::warn!(%error, path = %path.display(), "there is no room for a directory");
            }
            outcome => {
                outcome.with_context(|| format!("cannot make {} private", path.display()))?
            }
        }
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        outcome => return outcome,
    }
    match fs::metadata(path)?.permissions().mode() & 0o777 {
        MODE => Ok(()),
        _ => fs::set_permissions(path, Permissions::from_mode(MODE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_open_is_closed() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-private-")
            .tempdir()
            .expect("directory");
        let open = directory.path().join("node");
        fs::create_dir(&open).expect("made");
        fs::set_permissions(&open, Permissions::from_mode(0o755)).expect("open");
        for _ in 0..2 {
            close(directory.path()).expect("closed");
            for name in DIRECTORIES {
                let path = directory.path().join(name);
                let mode = fs::metadata(path).expect("there").permissions().mode();
                assert_eq!(mode & 0o777, MODE, "{name}");
            }
        }
    }
}
