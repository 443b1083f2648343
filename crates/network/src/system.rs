//! Settings of the machine that all instances share: who turned forwarding on, and what it was before.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, files};

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// The record of one setting. It lies where a reboot, which also resets the setting, forgets it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    /// The value that the first instance found.
    before: String,
    /// Bridges of the instances that rely on it.
    users: BTreeSet<String>,
}

/// Turns IPv4 forwarding on for `bridge`; the value before is on disk first.
pub(crate) fn require_forwarding(shared: &Path, bridge: &str) -> Result<(), Error> {
    let (_lock, path) = lock(shared)?;
    let mut record = match files::read_json::<Record>(&path)? {
        Some(record) => record,
        None => Record {
            before: read(IP_FORWARD)?,
            users: BTreeSet::new(),
        },
    };
    if record.users.insert(bridge.to_owned()) {
        files::write_json(&path, &record)?;
    }
    if read(IP_FORWARD)? != "1" {
        write(IP_FORWARD, "1")?;
    }
    Ok(())
}

/// Gives forwarding back for `bridge`: the last instance restores what the first one found. Instances whose bridge is
/// gone (`exists`) do not count.
pub(crate) fn release_forwarding(
    shared: &Path,
    bridge: &str,
    exists: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    let (_lock, path) = lock(shared)?;
    let Some(mut record) = files::read_json::<Record>(&path)? else {
        files::remove(&shared.join("lock"))?;
        let _ = fs::remove_dir(shared);
        return Ok(());
    };
    record.users.remove(bridge);
    record.users.retain(|user| exists(user));
    if !record.users.is_empty() {
        return files::write_json(&path, &record);
    }
    if read(IP_FORWARD)? != record.before {
        write(IP_FORWARD, &record.before)?;
    }
    files::remove(&path)?;
    files::remove(&shared.join("lock"))?;
    // Not empty: another instance is about to take it.
    let _ = fs::remove_dir(shared);
    Ok(())
}

/// Holds the record for one instance. The last to use it removes the file that is locked, so that nothing stays behind;
/// whoever waited for that one has to take the new one.
fn lock(shared: &Path) -> Result<(fs::File, PathBuf), Error> {
    let path = shared.join("lock");
    loop {
        files::make_directory(shared)?;
        let take = || -> std::io::Result<Option<fs::File>> {
            let file = fs::File::create(&path)?;
            file.lock()?;
            let ours = file.metadata()?.ino();
            Ok(match fs::metadata(&path) {
                Ok(there) if there.ino() == ours => Some(file),
                _ => None,
            })
        };
        match take() {
            Ok(Some(file)) => return Ok((file, shared.join("ip_forward.json"))),
            Ok(None) => {}
            // The directory went between the two calls.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("lock", &path, error)),
        }
    }
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(|error| Error::file("read", path, error))
}

fn write(path: &str, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(|error| Error::file("write", path, error))
}
