//! The node's conditions of pressure, and the events that tell of their changes, in upstream's words.
//!
//! Follows the kubelet's `pkg/kubelet/nodestatus/setters.go`.

use std::collections::BTreeSet;

use super::signal::Pressure;

/// One condition as it is reported.
pub struct Told {
    pub kind: &'static str,
    pub holds: bool,
    pub reason: &'static str,
    pub message: &'static str,
}

/// All three, in upstream's order.
pub fn conditions(holding: &BTreeSet<Pressure>) -> [Told; 3] {
    [Pressure::Memory, Pressure::Disk, Pressure::Pids].map(|pressure| {
        let holds = holding.contains(&pressure);
        let (reason, message) = words(pressure, holds);
        Told {
            kind: pressure.kind(),
            holds,
            reason,
            message,
        }
    })
}

/// Reasons of the events about what has changed.
pub fn changes(before: &BTreeSet<Pressure>, now: &BTreeSet<Pressure>) -> Vec<&'static str> {
    let changed = before.symmetric_difference(now);
    changed
        .map(|pressure| match (pressure, now.contains(pressure)) {
            (Pressure::Memory, true) => "NodeHasInsufficientMemory",
            (Pressure::Memory, false) => "NodeHasSufficientMemory",
            (Pressure::Disk, true) => "NodeHasDiskPressure",
            (Pressure::Disk, false) => "NodeHasNoDiskPressure",
            (Pressure::Pids, true) => "NodeHasInsufficientPID",
            (Pressure::Pids, false) => "NodeHasSufficientPID",
        })
        .collect()
}

fn words(pressure: Pressure, holds: bool) -> (&'static str, &'static str) {
    match (pressure, holds) {
        (Pressure::Memory, true) => (
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
        ),
        (Pressure::Memory, false) => (
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        (Pressure::Disk, true) => ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        (Pressure::Disk, false) => ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        (Pressure::Pids, true) => (
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
        ),
        (Pressure::Pids, false) => (
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_is_told_and_what_changes() {
        let none = BTreeSet::new();
        let disk = BTreeSet::from([Pressure::Disk]);
        let told: Vec<(&str, bool, &str)> = conditions(&disk)
            .iter()
            .map(|told| (told.kind, told.holds, told.reason))
            .collect();
        assert_eq!(
            told,
            [
                ("MemoryPressure", false, "KubeletHasSufficientMemory"),
                ("DiskPressure", true, "KubeletHasDiskPressure"),
                ("PIDPressure", false, "KubeletHasSufficientPID"),
            ]
        );
        assert_eq!(changes(&none, &disk), ["NodeHasDiskPressure"]);
        assert_eq!(
            changes(&disk, &BTreeSet::from([Pressure::Pids])),
            ["NodeHasNoDiskPressure", "NodeHasInsufficientPID"]
        );
        assert!(changes(&disk, &disk).is_empty());
    }
}
