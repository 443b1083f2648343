//! The bridge of an instance and the interfaces on it, as a whole: made, cleaned up, removed.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::leases::{self, Leases};
use crate::link::{Link, Links};
use crate::ranges::{Clash, clash};
use crate::{Config, Error, names, system};

/// Makes the bridge with its addresses and routes, or completes the one that is there.
pub(crate) async fn open(links: &Links, config: &Config, mtu: u32) -> Result<(), Error> {
    let there = links.find(&config.bridge).await?;
    if there.is_some_and(|bridge| bridge.mac != mac(config) && is_ours(config, &bridge.mac)) {
        tracing::info!("the instance has moved to another range of addresses");
        links.remove(&config.bridge).await?;
    }
    links.add_bridge(&config.bridge, mac(config), mtu).await?;
    let bridge = links.get(&config.bridge).await?;
    if bridge.mac != mac(config) {
        return Err(Error::Foreign {
            object: format!("the interface {}", config.bridge),
            hint: "remove it, or give the instance another name".into(),
        });
    }
    let gateway = leases::gateway(config.pod_cidr);
    prepare_ipv6(links, config, &bridge).await?;
    links.set_up(&bridge).await?;
    links
        .add_address(&bridge, gateway.into(), config.pod_cidr.prefix_len(), true)
        .await?;
    // Packets to service addresses are translated on the way; what is not must not wander off to the default route,
    // and a machine without one must be able to connect at all.
    links
        .add_link_route(&bridge, config.service_cidr.into(), Some(gateway.into()))
        .await?;
    let Some(ranges) = config.ipv6 else {
        return Ok(());
    };
    let gateway = IpAddr::V6(leases::ipv6_gateway(ranges.pod_cidr));
    links
        .add_address(&bridge, gateway, ranges.pod_cidr.prefix_len(), true)
        .await?;
    links
        .add_link_route(&bridge, ranges.service_cidr.into(), Some(gateway))
        .await
}

async fn prepare_ipv6(links: &Links, config: &Config, bridge: &Link) -> Result<(), Error> {
    let Some(ranges) = config.ipv6 else {
        return system::disable_ipv6(&config.bridge);
    };
    let gateway = leases::ipv6_gateway(ranges.pod_cidr);
    let there = links.global_ipv6(bridge).await?;
    if there.iter().any(|address| *address != gateway) {
        tracing::info!("the instance has moved to another range of IPv6 addresses");
        // Takes addresses and routes of the old one away.
        system::disable_ipv6(&config.bridge)?;
    }
    system::enable_ipv6(&config.bridge)
}

/// Refuses ranges that another interface of this machine has taken since they were chosen, and says so where it is not
/// certain that nothing works.
pub(crate) async fn check_ranges(links: &Links, config: &Config) -> Result<(), Error> {
    let all = links.all().await?;
    let bridge = all.iter().find(|link| link.name == config.bridge);
    let bridge = bridge.map(|link| link.index);
    let name_of = |index: Option<u32>| {
        let link = all.iter().find(|link| Some(link.index) == index);
        link.map_or("no interface", |link| link.name.as_str())
    };
    let of =
        |what: &'static str, ranges: Vec<IpNet>| ranges.into_iter().map(move |range| (what, range));
    let pods = of("pod", config.pod_cidrs());
    let ranges: Vec<_> = pods.chain(of("service", config.service_cidrs())).collect();
    for used in links.used().await? {
        if used.interface.is_some() && used.interface == bridge {
            continue;
        }
        for (what, range) in &ranges {
            let other = format!("{} on {}", used.range, name_of(used.interface));
            match clash(range, &used) {
                None => {}
                Some(Clash::Takes) => {
                    return Err(Error::RangeTaken {
                        what,
                        range: range.to_string(),
                        other,
                    });
                }
                Some(Clash::Covers) => tracing::warn!(
                    "the {what} range {range} lies within {other}: machines there that have addresses of {range} are not reached from here"
                ),
                Some(Clash::Depends) => tracing::warn!(
                    "the {what} range {range} overlaps {other} in routing table {}: if containers are not reached, look at `ip rule`",
                    used.table
                ),
            }
        }
    }
    Ok(())
}

/// Removes interfaces of this instance that no lease explains: made by a process that died before it was done.
pub(crate) async fn remove_orphans(
    links: &Links,
    config: &Config,
    leases: &Leases,
) -> Result<(), Error> {
    let prefix = names::interface_prefix(&config.instance);
    for link in links.all().await? {
        let known = leases
            .iter()
            .any(|(_, lease)| lease.attachment.host_interface == link.name);
        if link.name.starts_with(&prefix) && !known {
            tracing::info!(
                interface = link.name,
                "removing an interface without a lease"
            );
            links.remove(&link.name).await?;
        }
    }
    Ok(())
}

/// Removes every interface of this instance and the bridge. A bridge of that name that is not ours stays.
pub(crate) async fn remove(links: &Links, config: &Config) -> Result<(), Error> {
    let prefix = names::interface_prefix(&config.instance);
    for link in links.all().await? {
        let bridge = link.name == config.bridge && is_ours(config, &link.mac);
        if bridge || link.name.starts_with(&prefix) {
            links.remove(&link.name).await?;
        }
    }
    Ok(())
}

/// Whether a hardware address is one that a bridge of this instance has, whatever its range.
fn is_ours(config: &Config, mac: &[u8]) -> bool {
    let any = names::mac(&config.instance, std::net::Ipv4Addr::UNSPECIFIED);
    mac.get(..2) == any.get(..2)
}

/// The bridge's hardware address.
pub(crate) fn mac(config: &Config) -> [u8; 6] {
    names::mac(&config.instance, leases::gateway(config.pod_cidr))
}
