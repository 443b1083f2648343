//! Settings of the machine: IPv4 forwarding, which all instances share (who turned it on, and what was before), and
//! IPv6 on interfaces of our own.
//!
//! `bridge-nf-call-iptables` and `rp_filter` are not here: everything works with any value of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, files};

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const CONF: &str = "/proc/sys/net/ipv4/conf";

/// The record of one setting. It lies where a reboot, which also resets the setting, forgets it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    /// The value that the first instance found.
    before: String,
    /// Bridges of the instances that rely on it.
    users: BTreeSet<String>,
    /// Other settings that the kernel changes when this one is turned off again, under their paths.
    #[serde(default)]
    beside: BTreeMap<String, String>,
}

/// Turns IPv4 forwarding on for `bridge`; the value before is on disk first.
pub(crate) fn require_forwarding(shared: &Path, bridge: &str) -> Result<(), Error> {
    let (_lock, path) = lock(shared)?;
    let mut record = match files::read_json::<Record>(&path)? {
        Some(record) => record,
        None => Record {
            before: read(IP_FORWARD)?,
            users: BTreeSet::new(),
            beside: beside()?,
        },
    };
    if record.users.insert(bridge.to_owned()) {
        files::write_json(&path, &record)?;
    }
    keep_forwarding()
}

/// Turns forwarding on if it is off: for somebody who has recorded that it is needed.
pub(crate) fn keep_forwarding() -> Result<(), Error> {
    if read(IP_FORWARD)? != "1" {
        tracing::info!("turning IPv4 forwarding on");
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
        for (setting, value) in &record.beside {
            // Its interface may have gone.
            if read(setting).is_ok_and(|now| now != *value) {
                write(setting, value)?;
            }
        }
    }
    files::remove(&path)?;
    files::remove(&shared.join("lock"))?;
    // Not empty: another instance is about to take it.
    let _ = fs::remove_dir(shared);
    Ok(())
}

/// Turns IPv6 off on an interface of ours in the calling thread's namespace. Without routers and rules for it, all it
/// would do is carry what the rules for IPv4 do not see, and let a container announce itself as this machine's router.
pub(crate) fn disable_ipv6(interface: &str) -> Result<(), Error> {
    let setting = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    match fs::write(&setting, "1") {
        // A kernel without IPv6.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| Error::file("write", setting, error)),
    }
}

/// Turning forwarding off makes the kernel accept redirects and clears each interface's own forwarding: what differs
/// from that now.
fn beside() -> Result<BTreeMap<String, String>, Error> {
    let mut found = BTreeMap::new();
    let redirects = format!("{CONF}/all/accept_redirects");
    if read(&redirects)? == "0" {
        found.insert(redirects, "0".to_owned());
    }
    let listed = fs::read_dir(CONF).map_err(|error| Error::file("list", CONF, error))?;
    for interface in listed.flatten() {
        let name = interface.file_name();
        let forwarding = format!("{CONF}/{}/forwarding", name.to_string_lossy());
        // "all" is the setting itself.
        if name != "all" && read(&forwarding).is_ok_and(|value| value == "1") {
            found.insert(forwarding, "1".to_owned());
        }
    }
    Ok(found)
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
            Err(error) if error.kind() == ErrorKind::NotFound => {}
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
