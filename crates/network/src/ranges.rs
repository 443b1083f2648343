//! Which address ranges a new instance takes: derived from its seed, away from everything that the machine uses.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use crate::link::{Links, Used};
use crate::{Error, dns};

/// Where pod ranges come from, in order of preference; and the length of one.
const POD_POOLS: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(10, 64, 0, 0), 11),
    (Ipv4Addr::new(172, 24, 0, 0), 14),
    (Ipv4Addr::new(192, 168, 128, 0), 18),
];
const POD_PREFIX_LEN: u8 = 23;

/// Where service ranges come from. kubeadm's default, 10.96.0.0/12, is left alone: another cluster's service addresses
/// show in no routing table.
const SERVICE_POOLS: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(10, 112, 0, 0), 12),
    (Ipv4Addr::new(172, 28, 0, 0), 14),
    (Ipv4Addr::new(192, 168, 192, 0), 18),
];
const SERVICE_PREFIX_LEN: u8 = 20;

/// Chooses `(pod_cidr, service_cidr)` for a new instance: a /23 for pods (room for 110 and their successors) and a
/// /20 for services. Deterministic in its arguments; overlaps nothing in `taken`.
pub fn choose_ranges(instance_seed: u32, taken: &[Ipv4Net]) -> Result<(Ipv4Net, Ipv4Net), Error> {
    let pods = choose(instance_seed, taken, &POD_POOLS, POD_PREFIX_LEN, "pods")?;
    let services = choose(
        instance_seed,
        taken,
        &SERVICE_POOLS,
        SERVICE_PREFIX_LEN,
        "services",
    )?;
    Ok((pods, services))
}

/// The ranges that this machine uses: its addresses, its routes (without the default route) and its DNS resolvers.
pub async fn taken_ranges() -> Result<Vec<Ipv4Net>, Error> {
    let used = Links::open()?.used().await?;
    let mut taken: Vec<Ipv4Net> = used.iter().map(|used| used.range).collect();
    let machine = crate::Options::default();
    for file in [machine.resolv_conf, machine.resolved_conf] {
        taken.extend(dns::resolvers(&file).into_iter().filter_map(
            |resolver| match resolver.ip() {
                IpAddr::V4(address) => Some(Ipv4Net::from(address)),
                IpAddr::V6(_) => None,
            },
        ));
    }
    Ok(taken)
}

/// How somebody else's route gets in the way of a range of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clash {
    /// What is meant for us would go there, or cannot be told apart.
    Takes,
    /// A wider range: what is meant for us still comes here, but those in it that have our addresses are out of reach.
    Covers,
    /// A range that another routing table leads to, and the machine's routing policy says which one counts.
    Depends,
}

/// Whether and how a route that is not ours gets in the way of `range`.
pub(crate) fn clash(range: &Ipv4Net, other: &Used) -> Option<Clash> {
    if !overlap(range, &other.range) {
        None
    } else if !other.in_usual_table() {
        Some(Clash::Depends)
    } else if other.range.prefix_len() < range.prefix_len() {
        Some(Clash::Covers)
    } else {
        Some(Clash::Takes)
    }
}

fn choose(
    seed: u32,
    taken: &[Ipv4Net],
    pools: &[(Ipv4Addr, u8)],
    prefix_len: u8,
    what: &str,
) -> Result<Ipv4Net, Error> {
    // Mixed, because instances made one after the other may have neighbouring seeds.
    let hash = (u64::from(seed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    for (start, pool_prefix_len) in pools {
        let count = 1u32 << (prefix_len - pool_prefix_len);
        let first = (hash % u64::from(count)) as u32;
        for step in 0..count {
            let offset = ((first + step) % count) << (32 - prefix_len);
            let candidate =
                Ipv4Net::new_assert(Ipv4Addr::from(u32::from(*start) + offset), prefix_len);
            if !taken.iter().any(|range| overlap(range, &candidate)) {
                return Ok(candidate);
            }
        }
    }
    Err(Error::NoRange(format!(
        "every candidate for {what} overlaps an address or route of this machine (see `ip route`): give one with --pod-cidr and --service-cidr"
    )))
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets(list: &[&str]) -> Vec<Ipv4Net> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn ranges_are_stable_and_differ_between_instances() {
        let (pods, services) = choose_ranges(7, &[]).unwrap();
        assert_eq!((pods, services), choose_ranges(7, &[]).unwrap());
        assert_ne!(choose_ranges(8, &[]).unwrap().0, pods);
        assert_eq!((pods.prefix_len(), services.prefix_len()), (23, 20));
        assert!(!overlap(&pods, &services));
    }

    #[test]
    fn a_full_pool_falls_to_the_next_and_a_full_world_is_an_error() {
        let (pods, services) = choose_ranges(7, &nets(&["10.0.0.0/8"])).unwrap();
        assert!(pods.to_string().starts_with("172.2"), "{pods}");
        assert!(services.to_string().starts_with("172."), "{services}");
        let error = choose_ranges(7, &nets(&["0.0.0.0/0"])).unwrap_err();
        assert!(error.to_string().contains("--pod-cidr"), "{error}");
    }

    #[test]
    fn routes_clash_by_their_length_and_table() {
        use crate::link::TABLE_MAIN;
        let range = "10.64.2.0/23".parse().unwrap();
        for (other, table, expected) in [
            ("10.64.4.0/23", TABLE_MAIN, None),
            ("10.64.2.0/23", TABLE_MAIN, Some(Clash::Takes)),
            ("10.64.3.0/24", TABLE_MAIN, Some(Clash::Takes)),
            ("10.64.3.7/32", 255, Some(Clash::Takes)),
            ("10.0.0.0/8", TABLE_MAIN, Some(Clash::Covers)),
            ("10.0.0.0/8", 52, Some(Clash::Depends)),
            ("10.64.3.0/24", 52, Some(Clash::Depends)),
            ("10.65.0.0/16", 52, None),
        ] {
            let used = Used {
                range: other.parse().unwrap(),
                interface: None,
                table,
            };
            assert_eq!(clash(&range, &used), expected, "{other} in {table}");
        }
    }

    proptest! {
        #[test]
        fn nothing_taken_is_taken_again(seed: u32, taken in prop::collection::vec((any::<u16>(), 12..30u8), 0..30)) {
            let taken: Vec<Ipv4Net> = taken
                .into_iter()
                .map(|(low, len)| Ipv4Net::new_assert(Ipv4Addr::from(0x0a40_0000 + (u32::from(low) << 6)), len))
                .collect();
            if let Ok((pods, services)) = choose_ranges(seed, &taken) {
                for range in &taken {
                    prop_assert!(!overlap(range, &pods) && !overlap(range, &services));
                }
            }
        }
    }
}
