//! Why a pod had to go, in the kubelet's words, which people search for.

use super::rank::{Candidate, Part};
use super::signal::{Observations, Signal};
use super::threshold::{Amount, Threshold};

/// The message of a pod's eviction. `met`: the thresholds that are met; `signal` is the one that is dealt with.
pub fn eviction(
    pod: &Candidate,
    signal: Signal,
    met: &[Threshold],
    observed: &Observations,
) -> String {
    let resource = signal.resource();
    let mut message = format!("The node was low on resource: {resource}. ");
    let told = met.iter().find_map(|threshold| {
        let same = threshold.signal.resource() == resource;
        Some((threshold, observed.get(&threshold.signal).filter(|_| same)?))
    });
    if let Some((threshold, observed)) = told {
        let least = match &threshold.amount {
            Amount::Absolute(_, text) => text.clone(),
            share @ Amount::Percent(_) => quantity(share.of(observed.capacity), true),
        };
        let available = quantity(observed.available, signal.is_bytes());
        message += &format!("Threshold quantity: {least}, available: {available}. ");
    }
    for part in &pod.parts {
        let (used, requested, request) = match resource {
            "memory" => (
                part.usage.memory_bytes,
                part.memory_request_bytes,
                &part.memory_request,
            ),
            "ephemeral-storage" => (disk_of(part), part.disk_request_bytes, &part.disk_request),
            _ => continue,
        };
        if used > requested {
            let (name, used) = (&part.name, quantity(used, true));
            let request = if request.is_empty() { "0" } else { request };
            message += &format!(
                "Container {name} was using {used}, request is {request}, has larger consumption of {resource}. "
            );
        }
    }
    message
}

/// A container's own files and its log.
fn disk_of(part: &Part) -> i64 {
    part.usage.root_bytes.saturating_add(part.usage.local_bytes)
}

/// A number as Kubernetes writes quantities: with the largest suffix that loses nothing; `binary` for powers of 1024.
pub fn quantity(amount: i64, binary: bool) -> String {
    // as upstream: what is less than one step is written in the decimal way
    let (step, suffixes) = if binary && amount.unsigned_abs() >= 1024 {
        (1024, ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
    } else {
        (1000, ["", "k", "M", "G", "T", "P", "E"])
    };
    let (mut rest, mut power) = (amount, 0);
    while rest != 0 && rest % step == 0 && power + 1 < suffixes.len() {
        (rest, power) = (rest / step, power + 1);
    }
    format!("{rest}{}", suffixes[power])
}

#[cfg(test)]
mod tests {
    use super::super::rank::Usage;
    use super::super::signal::Observation;
    use super::super::threshold::Thresholds;
    use super::*;

    #[test]
    fn numbers_as_kubernetes_writes_them() {
        for (amount, binary, want) in [
            (0, true, "0"),
            (1000, true, "1k"),
            (1023, true, "1023"),
            (1024, true, "1Ki"),
            (100 << 20, true, "100Mi"),
            (12_345_678, true, "12345678"),
            (3 << 40, true, "3Ti"),
            (1 << 62, true, "4Ei"),
            (1500, false, "1500"),
            (2_000_000, false, "2M"),
            (-2048, true, "-2Ki"),
        ] {
            assert_eq!(quantity(amount, binary), want);
        }
    }

    #[test]
    fn the_words_are_upstreams() {
        let part = |name: &str, memory_bytes, request: &str, request_bytes| Part {
            name: name.into(),
            usage: Usage {
                memory_bytes,
                root_bytes: 5 << 20,
                local_bytes: 1 << 20,
                ..Usage::default()
            },
            memory_request: request.into(),
            memory_request_bytes: request_bytes,
            ..Part::default()
        };
        let pod = Candidate {
            parts: vec![
                part("big", 700 << 20, "100Mi", 100 << 20),
                part("small", 50 << 20, "100Mi", 100 << 20),
                part("free", 3000, "", 0),
            ],
            ..Candidate::default()
        };
        let met = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%"
            .parse::<Thresholds>()
            .expect("valid")
            .with(&Default::default());
        let row = |available, capacity| Observation {
            available,
            capacity,
        };
        let observed = [
            (Signal::Memory, row(50 << 20, 4 << 30)),
            (Signal::NodeFs, row(7 << 20, 1 << 30)),
            (Signal::NodeFsInodes, row(2000, 65_536)),
        ]
        .into();
        assert_eq!(
            eviction(&pod, Signal::Memory, &met, &observed),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
             Container big was using 700Mi, request is 100Mi, has larger consumption of memory. \
             Container free was using 3000, request is 0, has larger consumption of memory. "
        );
        let disk = eviction(&pod, Signal::NodeFs, &met, &observed);
        assert!(
            disk.starts_with(
                "The node was low on resource: ephemeral-storage. Threshold quantity: 107374182, available: 7Mi. \
                 Container big was using 6Mi, request is 0, has larger consumption of ephemeral-storage. "
            ),
            "{disk}"
        );
        assert_eq!(
            eviction(&pod, Signal::NodeFsInodes, &met, &observed),
            "The node was low on resource: inodes. Threshold quantity: 3276, available: 2k. "
        );
        assert_eq!(
            eviction(&pod, Signal::Pids, &[], &observed),
            "The node was low on resource: pids. "
        );
    }
}
