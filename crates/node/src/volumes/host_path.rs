//! hostPath: a file or directory of this machine, of the kind that the pod expects.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::VolumeError;

/// The path, if what is there is of the wanted kind; the kinds ending in `OrCreate` make what is missing, and so does none,
/// for which upstream's runtimes make a directory.
pub fn find(volume: &str, path: &str, kind: &str) -> Result<PathBuf, VolumeError> {
    let real = PathBuf::from(path);
    let failed = |source| VolumeError::Io {
        volume: volume.to_owned(),
        path: path.into(),
        source,
    };
    if matches!(kind, "DirectoryOrCreate" | "") && !real.exists() {
        fs::create_dir_all(&real).map_err(failed)?;
        fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    if kind == "FileOrCreate" && !real.exists() {
        let file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&real)
            .map_err(failed)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))
            .map_err(failed)?;
    }
    match lacks(&real, kind) {
        None => Ok(real),
        Some(wanted) => Err(VolumeError::HostPath {
            volume: volume.to_owned(),
            path: path.to_owned(),
            wanted,
        }),
    }
}

/// What the path is not.
fn lacks(path: &Path, kind: &str) -> Option<&'static str> {
    let of = fs::metadata(path).ok().map(|data| data.file_type());
    let is = |test: fn(&fs::FileType) -> bool| of.as_ref().is_some_and(test);
    let (holds, wanted) = match kind {
        "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "directory"),
        "File" | "FileOrCreate" => (is(fs::FileType::is_file), "file"),
        "Socket" => (is(FileTypeExt::is_socket), "socket"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "block device"),
        _ => (true, ""),
    };
    (!holds).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_kind() {
        let held = tempfile::Builder::new()
            .prefix("plimsoll-volume-")
            .tempdir()
            .expect("directory");
        let at = |name: &str| held.path().join(name).display().to_string();
        let socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("bound");
        for (path, kind, good) in [
            (at("none"), "Directory", false),
            (at("none"), "File", false),
            (at("any"), "", true),
            (at("any"), "Directory", true),
            (at("made/deep"), "DirectoryOrCreate", true),
            (at("made"), "Directory", true),
            (at("made"), "File", false),
            (at("made"), "FileOrCreate", false),
            (at("file"), "FileOrCreate", true),
            (at("file"), "File", true),
            (at("file"), "DirectoryOrCreate", false),
            (at("nodir/file"), "FileOrCreate", false),
            (at("socket"), "Socket", true),
            (at("socket"), "File", false),
            (at("file"), "Socket", false),
            ("/dev/null".into(), "CharDevice", true),
            ("/dev/null".into(), "BlockDevice", false),
            (at("file"), "CharDevice", false),
        ] {
            assert_eq!(find("v", &path, kind).is_ok(), good, "{path} {kind}");
        }
        let error = find("v", &at("made"), "Socket").expect_err("a directory");
        assert_eq!(
            error.to_string(),
            format!(
                "MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: {} is not a socket",
                at("made")
            )
        );
        drop(socket);
    }
}
