//! Limits of a container's processes (setrlimit(2)).

use super::capabilities;
use crate::spec::Ulimit;
use rustix::process::{Resource, Rlimit};
use serde_json::{Value, json};

/// Names as `docker run --ulimit` takes them, and the kernel's.
const NAMES: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// Whether the kernel has a limit of this name.
pub fn known(name: &str) -> bool {
    resource(name).is_some()
}

/// For the runtime's configuration, as high as this process may set them; `mapped`: from within a user namespace.
pub fn of(wanted: &[Ulimit], mapped: bool) -> Value {
    let limits = possible(wanted, mapped)
        .into_iter()
        .map(|(name, _, limit)| {
            let number = |value: Option<u64>| value.unwrap_or(u64::MAX);
            json!({
                "type": format!("RLIMIT_{}", name.to_uppercase()),
                "soft": number(limit.current),
                "hard": number(limit.maximum),
            })
        });
    limits.collect()
}

/// Sets them for this process and all that it becomes.
pub fn apply(wanted: &[Ulimit], mapped: bool) -> rustix::io::Result<()> {
    for (_, resource, limit) in possible(wanted, mapped) {
        rustix::process::setrlimit(resource, limit)?;
    }
    Ok(())
}

fn possible(wanted: &[Ulimit], mapped: bool) -> Vec<(&str, Resource, Rlimit)> {
    let free = !mapped && capabilities::held("SYS_RESOURCE");
    wanted
        .iter()
        .filter_map(|ulimit| {
            let resource = resource(&ulimit.name)?;
            let own = rustix::process::getrlimit(resource).maximum;
            let most = if free { None } else { own };
            Some((ulimit.name.as_str(), resource, capped(ulimit, most)))
        })
        .collect()
}

/// Nothing means without limit.
fn capped(wanted: &Ulimit, most: Option<u64>) -> Rlimit {
    let number = |value: i64| u64::try_from(value).ok();
    let lower = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let maximum = lower(number(wanted.hard), most);
    Rlimit {
        current: lower(number(wanted.soft), maximum),
        maximum,
    }
}

fn resource(name: &str) -> Option<Resource> {
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, resource)| *resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_raised_is_capped() {
        for (soft, hard, most, expected) in [
            (10, 20, None, (Some(10), Some(20))),
            (-1, -1, None, (None, None)),
            (-1, -1, Some(50), (Some(50), Some(50))),
            (10, 100, Some(50), (Some(10), Some(50))),
            (30, 20, None, (Some(20), Some(20))),
        ] {
            let wanted = Ulimit {
                name: "nofile".into(),
                soft,
                hard,
            };
            let limit = capped(&wanted, most);
            assert_eq!(
                (limit.current, limit.maximum),
                expected,
                "{soft}:{hard} {most:?}"
            );
        }
    }

    #[test]
    fn names_are_docker_s() {
        assert!(known("nofile") && known("memlock") && known("as"));
        assert!(!known("NOFILE") && !known("RLIMIT_CPU") && !known(""));
    }
}
