//! Settings of the machine: forwarding, which all instances share (who turned it on, and what was before), and IPv6 on
//! interfaces of our own.
//!
//! `bridge-nf-call-iptables`, `bridge-nf-call-ip6tables` and `rp_filter` are not here: everything works with any value of
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Family, files};

/// Forwarding of one family: where it is turned on, where each interface has its own, and where it is recorded.
struct Forwarding {
    family: Family,
    switch: &'static str,
    interfaces: &'static str,
    record: &'static str,
}

const FORWARDING: [Forwarding; 2] = [
    Forwarding {
        family: Family::V4,
        switch: "/proc/sys/net/ipv4/ip_forward",
        interfaces: "/proc/sys/net/ipv4/conf",
        record: "ip_forward.json",
    },
    Forwarding {
        family: Family::V6,
        switch: "/proc/sys/net/ipv6/conf/all/forwarding",
        interfaces: "/proc/sys/net/ipv6/conf",
        record: "ipv6_forward.json",
    },
];

/// Router advertisements are heeded by an interface that does not forward; and, with [`ALSO_WHEN_FORWARDING`], by one
/// that does.
const WHEN_NOT_FORWARDING: &str = "1";
const ALSO_WHEN_FORWARDING: &str = "2";
const ADVERTISEMENTS: &str = "accept_ra";

/// The record of one setting. It lies where a reboot, which also resets the setting, forgets it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    /// The value that the first instance found.
    before: String,
    /// Bridges of the instances that rely on it.
    users: BTreeSet<String>,
    /// Other settings that change with this one, under their paths.
    #[serde(default)]
    beside: BTreeMap<String, String>,
}

/// Whether the kernel has IPv6 and nobody has turned it off for this network namespace.
pub fn has_ipv6() -> bool {
    fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6")
        .is_ok_and(|disabled| disabled.trim() == "0")
}

/// Whether the kernel has IPv6 at all.
pub(crate) fn knows_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Turns forwarding on for `bridge`, of IPv6 too where it is asked for; the values before are on disk first.
pub(crate) fn require_forwarding(shared: &Path, bridge: &str, ipv6: bool) -> Result<(), Error> {
    let _lock = lock(shared)?;
    for forwarding in needed(ipv6) {
        let path = shared.join(forwarding.record);
        let mut record = match files::read_json::<Record>(&path)? {
            Some(record) => record,
            None => Record {
                before: read(forwarding.switch)?,
                users: BTreeSet::new(),
                beside: forwarding.beside()?,
            },
        };
        if record.users.insert(bridge.to_owned()) {
            files::write_json(&path, &record)?;
        }
    }
    keep_forwarding(ipv6)
}

/// Turns forwarding on if it is off: for somebody who has recorded that it is needed.
pub(crate) fn keep_forwarding(ipv6: bool) -> Result<(), Error> {
    for forwarding in needed(ipv6) {
        if read(forwarding.switch)? != "1" {
            tracing::info!(setting = forwarding.switch, "turning forwarding on");
            forwarding.keep_routers()?;
            write(forwarding.switch, "1")?;
        }
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
    let _lock = lock(shared)?;
    let mut used = false;
    for forwarding in &FORWARDING {
        let path = shared.join(forwarding.record);
        let Some(mut record) = files::read_json::<Record>(&path)? else {
            continue;
        };
        record.users.remove(bridge);
        record.users.retain(|user| exists(user));
        if record.users.is_empty() {
            forwarding.restore(&record)?;
            files::remove(&path)?;
        } else {
            used = true;
            files::write_json(&path, &record)?;
        }
    }
    if !used {
        files::remove(&shared.join("lock"))?;
        // Not empty: another instance is about to take it.
        let _ = fs::remove_dir(shared);
    }
    Ok(())
}

/// Turns IPv6 on, on an interface of ours in the calling thread's namespace, with the addresses that it is given and none
/// that somebody advertises: whoever sits on it does not become this machine's router, nor another container's.
pub(crate) fn enable_ipv6(interface: &str) -> Result<(), Error> {
    set_ipv6(interface, "0")
}

/// The same for a container's interface, which gets no address of the link either: what is sent from one container to
/// another's would not come by here.
pub(crate) fn enable_routed_ipv6(interface: &str) -> Result<(), Error> {
    const NONE: &str = "1";
    set_ipv6(interface, NONE)
}

fn set_ipv6(interface: &str, link_addresses: &str) -> Result<(), Error> {
    for (setting, value) in [
        (ADVERTISEMENTS, "0"),
        ("autoconf", "0"),
        ("accept_redirects", "0"),
        // Our addresses are nobody else's: they need not be asked for first.
        ("accept_dad", "0"),
        ("addr_gen_mode", link_addresses),
        ("disable_ipv6", "0"),
    ] {
        write(
            &format!("/proc/sys/net/ipv6/conf/{interface}/{setting}"),
            value,
        )?;
    }
    Ok(())
}

/// Turns IPv6 off on an interface of ours in the calling thread's namespace. Without addresses and rules for it, all it
/// would do is carry what the rules for IPv4 do not see, and let a container announce itself as this machine's router.
pub(crate) fn disable_ipv6(interface: &str) -> Result<(), Error> {
    let setting = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    match fs::write(&setting, "1") {
        // A kernel without IPv6.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| Error::file("write", setting, error)),
    }
}

fn needed(ipv6: bool) -> impl Iterator<Item = &'static Forwarding> {
    let wanted = move |one: &&Forwarding| ipv6 || one.family == Family::V4;
    FORWARDING.iter().filter(wanted)
}

impl Forwarding {
    /// What changes when forwarding is turned on or off again, beside the switch, and is not so already. Turning it off
    /// clears each interface's own forwarding, and makes the kernel accept redirects (IPv4); turning it on makes
    /// interfaces deaf for the advertisements of their routers, unless we make them listen (IPv6).
    fn beside(&self) -> Result<BTreeMap<String, String>, Error> {
        let mut found = BTreeMap::new();
        let mut note = |path: String, value: &str| {
            if read(&path).is_ok_and(|now| now == value) {
                found.insert(path, value.to_owned());
            }
        };
        for interface in self.listed()? {
            note(format!("{}/{interface}/forwarding", self.interfaces), "1");
            if self.family == Family::V6 {
                let setting = format!("{}/{interface}/{ADVERTISEMENTS}", self.interfaces);
                note(setting, WHEN_NOT_FORWARDING);
            }
        }
        if self.family == Family::V4 {
            note(format!("{}/all/accept_redirects", self.interfaces), "0");
        }
        Ok(found)
    }

    /// Has interfaces heed their routers although they will forward: else the kernel would forget this machine's default
    /// route at that moment.
    fn keep_routers(&self) -> Result<(), Error> {
        if self.family != Family::V6 {
            return Ok(());
        }
        for interface in self.listed()? {
            let setting = format!("{}/{interface}/{ADVERTISEMENTS}", self.interfaces);
            if read(&setting).is_ok_and(|now| now == WHEN_NOT_FORWARDING) {
                write(&setting, ALSO_WHEN_FORWARDING)?;
            }
        }
        Ok(())
    }

    fn restore(&self, record: &Record) -> Result<(), Error> {
        let switched = read(self.switch)? != record.before;
        if switched {
            write(self.switch, &record.before)?;
        }
        for (setting, value) in &record.beside {
            // Advertisements come before the switch, and somebody may have turned them off since.
            let ours = |now: String| match setting.ends_with(ADVERTISEMENTS) {
                true => record.before == "0" && now == ALSO_WHEN_FORWARDING,
                false => switched && now != *value,
            };
            // Its interface may have gone.
            if read(setting).is_ok_and(ours) {
                write(setting, value)?;
            }
        }
        Ok(())
    }

    /// The interfaces that have settings of this family, and what new ones get. "all" is the switch itself.
    fn listed(&self) -> Result<Vec<String>, Error> {
        let failed = |error| Error::file("list", self.interfaces, error);
        let listed = fs::read_dir(self.interfaces).map_err(failed)?;
        let names = listed.flatten().map(|entry| entry.file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        Ok(names.filter(|name| name != "all").collect())
    }
}

/// Holds the record for one instance. The last to use it removes the file that is locked, so that nothing stays behind;
/// whoever waited for that one has to take the new one.
fn lock(shared: &Path) -> Result<fs::File, Error> {
    let path: PathBuf = shared.join("lock");
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
            Ok(Some(file)) => return Ok(file),
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
