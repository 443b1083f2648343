//! What of the machine is not for pods: the daemon's own part, and what is kept free so that eviction comes before the kernel's
//! killing. A pure function.
//!
//! Follows the kubelet's node allocatable: capacity − reserved − hard eviction thresholds. Pods' cgroup may take more than they
//! may ask for, namely what eviction begins at: capacity − reserved.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;

use super::signal::Signal;
use super::threshold::Thresholds;
use crate::registration::Capacity;
use crate::resources;

/// Reserved memory unless the settings say otherwise: a twentieth of the machine, within these bounds. The daemon takes some
/// 60 MiB, each pod's supervising process less than 2 MiB.
const MEMORY_SHARE: u64 = 20;
const MEMORY_BYTES_MIN: u64 = 128 << 20;
const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// What is kept from pods, as `cpu=100m,memory=500Mi,ephemeral-storage=1Gi`. Nothing is reserved of what is not named; without
/// any setting it is a twentieth of the memory, but at least 128 MiB and at most 1 GiB.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct Reserved {
    cpu_milli: i64,
    memory_bytes: i64,
    disk_bytes: i64,
    text: String,
}

impl FromStr for Reserved {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut reserved = Self {
            cpu_milli: 0,
            memory_bytes: 0,
            disk_bytes: 0,
            text: text.to_owned(),
        };
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (name, amount) = part
                .split_once('=')
                .ok_or_else(|| format!("{part:?} is not of the form NAME=AMOUNT"))?;
            let quantity = Quantity(amount.trim().to_owned());
            let (place, amount) = match name.trim() {
                "cpu" => (&mut reserved.cpu_milli, resources::milli_value(&quantity)),
                "memory" => (&mut reserved.memory_bytes, resources::value(&quantity)),
                "ephemeral-storage" => (&mut reserved.disk_bytes, resources::value(&quantity)),
                other => {
                    return Err(format!(
                        "{other:?} cannot be reserved; cpu, memory and ephemeral-storage can"
                    ));
                }
            };
            *place = amount
                .filter(|amount| *amount >= 0)
                .ok_or_else(|| format!("{part:?}: no amount such as 100m or 500Mi"))?;
        }
        Ok(reserved)
    }
}

impl TryFrom<String> for Reserved {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What pods may ask for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocatable {
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub disk_bytes: i64,
    pub pods: u32,
}

impl Allocatable {
    /// In thousandths of a core or in bytes.
    pub fn amount(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu_milli,
            "memory" => self.memory_bytes,
            _ => self.disk_bytes,
        }
    }
}

/// How the machine is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    pub allocatable: Allocatable,
    /// What the pods' cgroup may take of memory.
    pub pods_memory_bytes: i64,
}

/// Divides the machine. Never less than nothing is left.
pub fn divide(
    capacity: &Capacity,
    pods: u32,
    reserved: Option<&Reserved>,
    hard: &Thresholds,
) -> Division {
    let whole = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let memory = whole(capacity.memory_bytes);
    let usual = || {
        let share = capacity.memory_bytes / MEMORY_SHARE;
        let share = share.clamp(MEMORY_BYTES_MIN, MEMORY_BYTES_MAX);
        // a machine that is smaller than that has half for its pods
        whole(share.min(capacity.memory_bytes / 2))
    };
    let kept = reserved.map_or_else(usual, |reserved| reserved.memory_bytes);
    let (cpu, disk) = reserved.map_or((0, 0), |reserved| (reserved.cpu_milli, reserved.disk_bytes));
    let free = |signal, capacity| hard.get(signal).map_or(0, |amount| amount.of(capacity));
    let left = |all: i64, parts: [i64; 2]| {
        parts
            .iter()
            .fold(all, |left, part| left.saturating_sub(*part))
            .max(0)
    };
    let disk_bytes = whole(capacity.disk_bytes);
    Division {
        allocatable: Allocatable {
            cpu_milli: left(capacity.cpu_milli, [cpu, 0]),
            memory_bytes: left(memory, [kept, free(Signal::Memory, memory)]),
            disk_bytes: left(disk_bytes, [disk, free(Signal::NodeFs, disk_bytes)]),
            pods,
        },
        pods_memory_bytes: left(memory, [kept, 0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;

    fn divided(memory_mib: u64, reserved: Option<&str>, hard: &str) -> (i64, i64, i64, i64) {
        let capacity = Capacity {
            cpu_milli: 2000,
            memory_bytes: memory_mib << 20,
            disk_bytes: 1000,
        };
        let reserved: Option<Reserved> = reserved.map(|text| text.parse().expect("valid"));
        let hard = hard.parse().expect("valid");
        let division = divide(&capacity, 110, reserved.as_ref(), &hard);
        let room = division.allocatable;
        (
            room.cpu_milli,
            room.memory_bytes / MIB,
            room.disk_bytes,
            division.pods_memory_bytes / MIB,
        )
    }

    #[test]
    fn less_for_pods_than_there_is() {
        let hard = "memory.available<100Mi,nodefs.available<10%";
        for (memory, reserved, hard, want) in [
            (24_000, None, hard, (2000, 22_876, 900, 22_976)),
            (4000, None, hard, (2000, 3700, 900, 3800)),
            (1000, None, "", (2000, 872, 1000, 872)),
            (200, None, hard, (2000, 0, 900, 100)),
            (
                4000,
                Some("cpu=250m,memory=1000Mi,ephemeral-storage=100"),
                hard,
                (1750, 2900, 800, 3000),
            ),
            (4000, Some(""), "", (2000, 4000, 1000, 4000)),
            (4000, Some("memory=8Gi,cpu=4"), hard, (0, 0, 900, 0)),
            // absurd thresholds leave nothing to ask for
            (4000, None, "memory.available<100%", (2000, 0, 1000, 3800)),
        ] {
            assert_eq!(
                divided(memory, reserved, hard),
                want,
                "{memory} {reserved:?} {hard}"
            );
        }
    }

    #[test]
    fn what_is_no_reservation_is_refused() {
        for (text, part) in [
            ("memory", "NAME=AMOUNT"),
            ("gpu=1", "cannot be reserved"),
            ("cpu=x", "no amount"),
            ("memory=-1Gi", "no amount"),
        ] {
            let said = text.parse::<Reserved>().expect_err(text);
            assert!(said.contains(part), "{said}");
        }
        let text = "cpu=100m,memory=1Gi";
        assert_eq!(text.parse::<Reserved>().expect("valid").to_string(), text);
    }
}
