//! Records on disk and where they live: written with write, fsync and rename, so that a crash leaves the old or the new one.

use crate::error::Error;
use crate::proc::ProcessId;
use crate::spec::{ContainerSpec, PublishedPort, SandboxSpec};
use crate::status::{ExitStatus, SandboxState};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The newest layout of the records that this version reads, and the one it writes.
const FORMAT: u32 = 1;
/// Longest id of a sandbox or container.
const ID_LENGTH_MAX: usize = 80;

/// Written by the daemon only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub spec: SandboxSpec,
    pub created_at: Timestamp,
    pub state: SandboxState,
    /// First of the ids of its user namespace, if it has one.
    #[serde(default)]
    pub ids: Option<u32>,
}

/// Written by the supervising process only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SupervisorRecord {
    pub process: ProcessId,
    #[serde(default)]
    pub published: Vec<PublishedPort>,
}

/// Written by the daemon only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub spec: ContainerSpec,
    pub created_at: Timestamp,
}

/// Written by the supervising process; by the daemon only when that process is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerState {
    pub process: ProcessId,
    pub started_at: Timestamp,
    pub exit: Option<ExitStatus>,
}

#[derive(Serialize, Deserialize)]
struct Stamp {
    format: u32,
}

/// Where everything of an engine is.
#[derive(Clone, Debug)]
pub struct Layout {
    pub root: PathBuf,
    pub run: PathBuf,
}

impl Layout {
    pub fn sandboxes(&self) -> PathBuf {
        self.root.join("sandboxes")
    }
    pub fn sandbox(&self, id: &str) -> PathBuf {
        self.sandboxes().join(id)
    }
    pub fn sandbox_record(&self, id: &str) -> PathBuf {
        self.sandbox(id).join("sandbox.json")
    }
    pub fn supervisor_record(&self, id: &str) -> PathBuf {
        self.sandbox(id).join("supervisor.json")
    }
    pub fn containers(&self, sandbox: &str) -> PathBuf {
        self.sandbox(sandbox).join("containers")
    }
    pub fn container(&self, sandbox: &str, id: &str) -> PathBuf {
        self.containers(sandbox).join(id)
    }
    pub fn container_record(&self, sandbox: &str, id: &str) -> PathBuf {
        self.container(sandbox, id).join("container.json")
    }
    pub fn container_state(&self, sandbox: &str, id: &str) -> PathBuf {
        self.container(sandbox, id).join("state.json")
    }
    pub fn sockets(&self) -> PathBuf {
        self.run.join("s")
    }
    pub fn network_namespaces(&self) -> PathBuf {
        self.run.join("netns")
    }
    pub fn network_namespace(&self, sandbox: &str) -> PathBuf {
        self.network_namespaces().join(sandbox)
    }
    /// Namespaces of a sandbox that are held as files: `user`, `ipc`, `uts`, `pid`.
    pub fn namespaces(&self, sandbox: &str) -> PathBuf {
        self.run.join("ns").join(sandbox)
    }
    /// A directory that stays empty: a layer of the overlay over the program.
    pub fn empty(&self) -> PathBuf {
        self.run.join("empty")
    }
    /// The name of the default AppArmor profile, while it is loaded.
    pub fn default_profile(&self) -> PathBuf {
        self.run.join("apparmor")
    }
    /// Compiled seccomp filters.
    pub fn filters(&self) -> PathBuf {
        self.run.join("filters")
    }
    /// What the containers of a sandbox share as `/dev/shm`.
    pub fn shared_memory(&self, sandbox: &str) -> PathBuf {
        self.run.join("shm").join(sandbox)
    }
    /// State directories of the OCI runtime, one per container.
    pub fn runtime(&self) -> PathBuf {
        self.run.join("runtime")
    }
    pub fn bundles(&self) -> PathBuf {
        self.run.join("bundles")
    }
}

/// Refuses the records of a newer version; marks a directory that has no mark yet.
pub fn check_format(layout: &Layout) -> Result<(), Error> {
    let path = layout.root.join("format.json");
    match load::<Stamp>(&path)? {
        Some(stamp) if stamp.format > FORMAT => Err(Error::NewerFormat {
            path: path.display().to_string(),
            found: stamp.format,
            known: FORMAT,
        }),
        Some(_) => Ok(()),
        None => save(&path, &Stamp { format: FORMAT }),
    }
}

/// Refuses ids that are not plain file names.
pub fn check_id(field: &'static str, id: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if id.is_empty()
        || id.len() > ID_LENGTH_MAX
        || !id.as_bytes()[0].is_ascii_alphanumeric()
        || !id.bytes().all(plain)
    {
        let reason = format!(
            "{id:?} is not 1 to {ID_LENGTH_MAX} characters of [A-Za-z0-9_.-] that start with a letter or digit"
        );
        return Err(Error::Invalid { field, reason });
    }
    Ok(())
}

/// Replaces `path` durably.
pub fn save<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Error::io("encode", path, io::Error::other(error)))?;
    write_durably(path, &bytes).map_err(|error| Error::io("write", path, error))
}

/// Replaces `path` for as long as this boot lasts: readers see the old or the new one, but a machine that loses power may leave
/// either, or a damaged one. For what no longer matters after a reboot.
pub fn save_for_this_boot<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Error::io("encode", path, io::Error::other(error)))?;
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|error| Error::io("write", path, error))
}

/// Reads a record; `None` when there is none.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Error::Corrupt {
            path: path.display().to_string(),
            reason: error.to_string(),
        })
}

/// How often a directory is removed anew into which a process that was ending has written meanwhile.
const REMOVALS_MAX: usize = 5;

/// Removes a directory and all in it; fine when there is none.
pub fn remove_dir(path: &Path) -> Result<(), Error> {
    let mut removals = 1;
    loop {
        match fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::DirectoryNotEmpty && removals < REMOVALS_MAX =>
            {
                removals += 1;
            }
            Err(error) => return Err(Error::io("remove", path, error)),
        }
    }
}

/// Makes a directory with all its parents, mode 0700 for those that it makes.
pub fn make_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::io("make the directory", path, error))
}

/// Names in a directory that are valid ids; empty when there is no directory.
pub fn ids_in(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let mut ids: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|id| check_id("id", id).is_ok())
        .collect();
    ids.sort();
    ids
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_file_names() {
        for good in ["a", "0123abc", "pod_x-1.2", &"a".repeat(80)] {
            assert!(check_id("id", good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "-a",
            "a b",
            "a\0",
            "ä",
            &"a".repeat(81),
        ] {
            assert!(check_id("id", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn records_of_a_newer_version_are_refused() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-records")
            .tempdir()
            .expect("temp dir");
        let layout = Layout {
            root: dir.path().to_owned(),
            run: dir.path().to_owned(),
        };
        check_format(&layout).expect("a new directory is marked");
        check_format(&layout).expect("with our own mark");
        let path = dir.path().join("format.json");
        assert_eq!(fs::read(&path).expect("read"), br#"{"format":1}"#);
        fs::write(&path, br#"{"format":2,"more":0}"#).expect("written");
        let error = check_format(&layout).expect_err("newer").to_string();
        assert!(error.contains("format 2"), "{error}");
        fs::write(&path, b"").expect("written");
        assert!(matches!(check_format(&layout), Err(Error::Corrupt { .. })));
    }

    #[test]
    fn a_record_survives_a_torn_replacement() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-records")
            .tempdir()
            .expect("temp dir");
        let path = dir.path().join("x.json");
        assert_eq!(load::<Vec<u32>>(&path).expect("no file"), None);
        save(&path, &vec![1, 2]).expect("save");
        fs::write(path.with_extension("new"), b"[3,").expect("torn");
        assert_eq!(load::<Vec<u32>>(&path).expect("load"), Some(vec![1, 2]));
        fs::write(&path, b"[3,").expect("damage");
        assert!(matches!(
            load::<Vec<u32>>(&path),
            Err(Error::Corrupt { .. })
        ));
    }
}
