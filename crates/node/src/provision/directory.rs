//! The directories of local volumes, made and removed.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::{fs, io};

/// Marks a directory that is being removed.
pub const REMOVING: &str = ".removing-";

/// Everybody in the volume may write there; nobody but root comes to it from outside.
pub fn make(base: &Path, path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(base)?;
    fs::set_permissions(base, fs::Permissions::from_mode(0o700))?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    // it must be there after a power cut if the API says so
    fs::File::open(base)?.sync_all()
}

/// Removes a volume's directory, which must lie right beneath `base`. It need not exist.
pub fn remove(base: &Path, path: &Path) -> io::Result<()> {
    let name = path.file_name().filter(|_| path.parent() == Some(base));
    let Some(name) = name.and_then(|name| name.to_str()) else {
        return Err(io::Error::other(
            "it does not lie in the directory of local volumes",
        ));
    };
    let doomed = base.join(format!("{REMOVING}{name}"));
    match fs::rename(path, &doomed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    crate::volumes::release(&doomed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_and_go() {
        let held = tempfile::Builder::new()
            .prefix("plimsoll-claims-")
            .tempdir()
            .expect("a directory");
        let base = held.path().join("claims");
        let path = base.join("pvc-1");
        make(&base, &path).expect("made");
        make(&base, &path).expect("made again");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&base), mode(&path)), (0o700, 0o777));
        fs::write(path.join("data"), "x").expect("written");
        let outside = held.path().join("outside");
        fs::create_dir(&outside).expect("made");
        std::os::unix::fs::symlink(&outside, base.join("pvc-2")).expect("linked");
        for wrong in [
            held.path().join("outside"),
            base.join("pvc-1/.."),
            base.clone(),
            base.join("a/b"),
        ] {
            assert!(remove(&base, &wrong).is_err(), "{}", wrong.display());
        }
        assert!(path.join("data").exists() && outside.exists());
        remove(&base, &path).expect("removed");
        remove(&base, &path).expect("nothing to do");
        assert!(!path.exists());
    }
}
