//! Directories on this machine: made, filled, owned by the pod's group, backed by memory where that is asked for.

use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::VolumeError;
use super::payload::File;
use crate::resources;

/// An emptyDir; one on the medium Memory is a tmpfs, mounted again if the machine has restarted.
pub fn empty_dir(
    volume: &str,
    path: &Path,
    source: &EmptyDirVolumeSource,
    fs_group: Option<u32>,
) -> Result<(), VolumeError> {
    let failed = |source| VolumeError::Io {
        volume: volume.to_owned(),
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(path).map_err(failed)?;
    if source.medium.as_deref() == Some("Memory") && !is_mounted(path).map_err(failed)? {
        let size = source
            .size_limit
            .as_ref()
            .and_then(resources::value)
            .filter(|bytes| *bytes > 0);
        let options = size.map_or_else(
            || "mode=0777".to_owned(),
            |bytes| format!("mode=0777,size={bytes}"),
        );
        let options =
            std::ffi::CString::new(options).map_err(|error| failed(io::Error::other(error)))?;
        mount(
            "tmpfs",
            path,
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
            options.as_c_str(),
        )
        .map_err(|error| failed(error.into()))?;
    }
    let mode = if fs_group.is_some() { 0o2777 } else { 0o777 };
    if let Some(group) = fs_group {
        std::os::unix::fs::chown(path, None, Some(group)).map_err(failed)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}

/// The mount points beneath `directory`, deepest first.
fn mounts_beneath(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|field| {
            PathBuf::from(
                field
                    .replace("\\040", " ")
                    .replace("\\011", "\t")
                    .replace("\\134", "\\"),
            )
        })
        .filter(|path| path.starts_with(directory))
        .collect();
    found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    Ok(found)
}

fn is_mounted(path: &Path) -> io::Result<bool> {
    let real = path.canonicalize()?;
    Ok(mounts_beneath(&real)?.contains(&real))
}

/// Unmounts what is mounted beneath a pod's directory and removes it. It need not exist.
///
/// # Errors
/// When something in it is still in use; nothing of a mounted volume is deleted then.
pub fn release(directory: &Path) -> io::Result<()> {
    let real = match directory.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        outcome => outcome?,
    };
    for path in mounts_beneath(&real)? {
        unmount(&path, UnmountFlags::DETACH)?;
    }
    match fs::remove_dir_all(&real) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// [`release`] for all pods of a node: what `state_dir` of its configuration holds. For the end of an instance.
///
/// # Errors
/// As [`release`].
pub fn release_all(state_dir: &Path) -> io::Result<()> {
    release(&state_dir.join("pods"))
}

/// The host's own file or directory, if it is of the wanted kind.
pub fn host_path(volume: &str, path: &str, kind: &str) -> Result<PathBuf, VolumeError> {
    let real = PathBuf::from(path);
    let failed = |source| VolumeError::Io {
        volume: volume.to_owned(),
        path: path.into(),
        source,
    };
    let holds = match kind {
        "" => true,
        "DirectoryOrCreate" => {
            if !real.exists() {
                fs::create_dir_all(&real).map_err(failed)?;
                fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).map_err(failed)?;
            }
            real.is_dir()
        }
        "FileOrCreate" => {
            if !real.exists() {
                fs::OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(&real)
                    .map_err(failed)?;
            }
            real.is_file()
        }
        "Directory" => real.is_dir(),
        "File" => real.is_file(),
        _ => real.exists(),
    };
    if holds {
        Ok(real)
    } else {
        Err(VolumeError::HostPath {
            volume: volume.to_owned(),
            path: path.to_owned(),
            wanted: kind.to_owned(),
        })
    }
}

/// Fills a volume. With an fsGroup the files belong to it, and it may read them.
pub fn write_files(
    volume: &str,
    directory: &Path,
    files: &[File],
    fs_group: Option<u32>,
) -> Result<(), VolumeError> {
    let io = |path: &Path, source| VolumeError::Io {
        volume: volume.to_owned(),
        path: path.to_owned(),
        source,
    };
    let make = |path: &Path| -> Result<(), VolumeError> {
        fs::create_dir_all(path).map_err(|e| io(path, e))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(|e| io(path, e))
    };
    make(directory)?;
    for file in files {
        let relative = inside(&file.path).ok_or_else(|| VolumeError::Escapes {
            volume: volume.to_owned(),
            path: file.path.clone(),
        })?;
        let full = directory.join(relative);
        if let Some(parent) = full.parent().filter(|parent| *parent != directory) {
            make(parent)?;
        }
        fs::write(&full, &file.bytes).map_err(|e| io(&full, e))?;
        let mut mode = u32::try_from(file.mode).unwrap_or(0o644) & 0o777;
        if let Some(group) = fs_group {
            std::os::unix::fs::chown(&full, None, Some(group)).map_err(|e| io(&full, e))?;
            mode |= 0o440;
        }
        fs::set_permissions(&full, fs::Permissions::from_mode(mode)).map_err(|e| io(&full, e))?;
    }
    Ok(())
}

/// The path if it stays beneath where it starts.
pub fn inside(path: &str) -> Option<&Path> {
    let path = Path::new(path);
    path.components()
        .all(|part| matches!(part, Component::Normal(_)))
        .then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("plimsoll-volume-")
            .tempdir()
            .expect("directory")
    }

    #[test]
    fn paths_that_climb_are_refused() {
        for (path, stays) in [
            ("a/b", true),
            ("../a", false),
            ("a/../../b", false),
            ("/etc/passwd", false),
            ("a/./b", true),
        ] {
            assert_eq!(inside(path).is_some(), stays, "{path}");
        }
        let file = File {
            path: "../x".into(),
            bytes: Vec::new(),
            mode: 0o644,
        };
        let directory = directory();
        assert!(matches!(
            write_files("v", &directory.path().join("v"), &[file], None),
            Err(VolumeError::Escapes { .. })
        ));
        assert!(!directory.path().join("x").exists());
    }

    #[test]
    fn modes_and_groups() {
        let directory = directory();
        let file = File {
            path: "deep/file".into(),
            bytes: b"v".to_vec(),
            mode: 0o400,
        };
        let mode =
            |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o7777;
        write_files("v", directory.path(), std::slice::from_ref(&file), None).expect("written");
        let path = directory.path().join("deep/file");
        assert_eq!(
            (fs::read(&path).expect("read"), mode(&path)),
            (b"v".to_vec(), 0o400)
        );
        if rustix::process::geteuid().is_root() {
            use std::os::unix::fs::MetadataExt;
            write_files("v", directory.path(), &[file], Some(4242)).expect("written again");
            assert_eq!(
                (fs::metadata(&path).expect("metadata").gid(), mode(&path)),
                (4242, 0o440)
            );
            let empty = directory.path().join("empty");
            empty_dir("v", &empty, &EmptyDirVolumeSource::default(), Some(4242)).expect("made");
            assert_eq!(
                (fs::metadata(&empty).expect("metadata").gid(), mode(&empty)),
                (4242, 0o2777)
            );
        }
    }

    #[test]
    fn a_volume_in_memory_is_mounted_once_and_released() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = directory();
        let pod = directory.path().join("pod");
        let path = pod.join("volumes/fast");
        let source = EmptyDirVolumeSource {
            medium: Some("Memory".into()),
            size_limit: Some(k8s_openapi::apimachinery::pkg::api::resource::Quantity(
                "1Mi".into(),
            )),
            ..EmptyDirVolumeSource::default()
        };
        let made = empty_dir("fast", &path, &source, None)
            .and_then(|()| empty_dir("fast", &path, &source, None));
        let mounted = mounts_beneath(&pod).expect("table");
        let space = rustix::fs::statvfs(&path).map(|stat| stat.f_blocks * stat.f_frsize);
        release(&pod).expect("released");
        made.expect("made twice");
        assert_eq!(mounted, [path], "mounted once");
        assert_eq!(space.expect("statvfs"), 1 << 20);
        assert!(!pod.exists());
        release(&pod).expect("nothing to do");
    }

    #[test]
    fn host_paths_by_kind() {
        let directory = directory();
        let at = |name: &str| directory.path().join(name).display().to_string();
        assert!(host_path("v", &at("none"), "Directory").is_err());
        assert!(host_path("v", &at("made"), "DirectoryOrCreate").is_ok());
        assert!(
            host_path("v", &at("made"), "File")
                .expect_err("a directory")
                .to_string()
                .contains("is not a File")
        );
        assert!(host_path("v", &at("file"), "FileOrCreate").is_ok());
    }
}
