//! Which address ranges a new instance takes: derived from its seed, away from everything that the machine uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::link::{Links, Used};
use crate::{Error, Ipv6Ranges, dns, names};

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
pub fn choose_ranges(instance_seed: u32, taken: &[IpNet]) -> Result<(Ipv4Net, Ipv4Net), Error> {
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

/// Chooses the IPv6 ranges of a new instance: two nets of a unique local /48 (RFC 4193) whose 40 bits derive from the
/// seed, a /64 for pods and a /112 for services. Deterministic in its arguments; overlaps nothing in `taken`.
pub fn choose_ipv6_ranges(instance_seed: u32, taken: &[IpNet]) -> Result<Ipv6Ranges, Error> {
    for salt in 0..SITES_MAX {
        let hash = names::fnv(format!("{instance_seed} {salt}").as_bytes()) & 0xff_ffff_ffff;
        let site = (0xfd << 120) | (u128::from(hash) << 80);
        let net = |number: u128, prefix_len: u8| {
            Ipv6Net::new_assert(Ipv6Addr::from(site | (number << 64)), prefix_len)
        };
        let ranges = Ipv6Ranges {
            pod_cidr: net(1, 64),
            service_cidr: net(2, 112),
        };
        let ours = [ranges.pod_cidr, ranges.service_cidr].map(IpNet::V6);
        let free = |ours: &IpNet| !taken.iter().any(|range| overlap(range, ours));
        if ours.iter().all(free) {
            return Ok(ranges);
        }
    }
    Err(Error::NoRange(
        "this machine's routes cover all unique local addresses (see `ip -6 route`): give IPv6 ranges with --pod-cidr6 and --service-cidr6, or go without by --ipv6 false".into(),
    ))
}

/// Sites that are tried; more than one only where somebody has routes to the first.
const SITES_MAX: u32 = 64;

/// The ranges that this machine uses: its addresses, its routes (without default routes) and its DNS resolvers.
pub async fn taken_ranges() -> Result<Vec<IpNet>, Error> {
    let used = Links::open()?.used().await?;
    let mut taken: Vec<IpNet> = used.iter().map(|used| used.range).collect();
    let machine = crate::Options::default();
    for file in [machine.resolv_conf, machine.resolved_conf] {
        let resolvers = dns::resolvers(&file);
        taken.extend(resolvers.iter().map(|resolver| IpNet::from(resolver.ip())));
    }
    Ok(taken)
}

/// The addresses by which other machines may ask this one.
///
/// # Errors
/// When the kernel does not tell them.
pub async fn machine_addresses() -> Result<Vec<IpAddr>, Error> {
    let all = Links::open()?.addresses().await?;
    let reached = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    Ok(all.into_iter().filter(reached).collect())
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
pub(crate) fn clash(range: &IpNet, other: &Used) -> Option<Clash> {
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
    taken: &[IpNet],
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
            if !taken.iter().any(|range| overlap(range, &candidate.into())) {
                return Ok(candidate);
            }
        }
    }
    Err(Error::NoRange(format!(
        "every candidate for {what} overlaps an address or route of this machine (see `ip route`): give one with --pod-cidr and --service-cidr"
    )))
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn ranges_are_stable_and_differ_between_instances() {
        let (pods, services) = choose_ranges(7, &[]).unwrap();
        assert_eq!((pods, services), choose_ranges(7, &[]).unwrap());
        assert_ne!(choose_ranges(8, &[]).unwrap().0, pods);
        assert_eq!((pods.prefix_len(), services.prefix_len()), (23, 20));
        assert!(!overlap(&pods.into(), &services.into()));
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
    fn unique_local_ranges_derive_from_the_seed_and_give_way() {
        let ranges = choose_ipv6_ranges(7, &[]).unwrap();
        assert_eq!(
            ranges,
            choose_ipv6_ranges(7, &nets(&["10.0.0.0/8"])).unwrap()
        );
        assert_ne!(ranges, choose_ipv6_ranges(8, &[]).unwrap());
        assert_eq!(ranges.pod_cidr.network().octets()[0], 0xfd);
        assert_eq!(
            (
                ranges.pod_cidr.prefix_len(),
                ranges.service_cidr.prefix_len()
            ),
            (64, 112)
        );
        let other = choose_ipv6_ranges(7, &[ranges.service_cidr.into()]).unwrap();
        assert_ne!(ranges.pod_cidr, other.pod_cidr, "both move together");
        let error = choose_ipv6_ranges(7, &nets(&["fc00::/7"])).unwrap_err();
        assert!(error.to_string().contains("--ipv6 false"), "{error}");
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
            let taken: Vec<IpNet> = taken
                .into_iter()
                .map(|(low, len)| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(0x0a40_0000 + (u32::from(low) << 6)), len)))
                .collect();
            if let Ok((pods, services)) = choose_ranges(seed, &taken) {
                for range in &taken {
                    prop_assert!(!overlap(range, &pods.into()) && !overlap(range, &services.into()));
                }
            }
        }
    }
}
