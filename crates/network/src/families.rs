//! What an instance has of each address family: gateways and tables.

use std::net::IpAddr;

use crate::rules::text::Layout;
use crate::{Config, Family, leases, names};

/// The bridge's addresses, IPv4 first.
pub(crate) fn gateways(config: &Config) -> Vec<IpAddr> {
    let ipv6 = config
        .ipv6
        .map(|ranges| IpAddr::V6(leases::ipv6_gateway(ranges.pod_cidr)));
    let ipv4 = IpAddr::V4(leases::gateway(config.pod_cidr));
    std::iter::once(ipv4).chain(ipv6).collect()
}

/// The tables of an instance, one of each family that it has.
pub(crate) fn layouts(config: &Config, dns_port: u16) -> Vec<Layout> {
    let ranges = config.pod_cidrs().into_iter().zip(config.service_cidrs());
    ranges
        .zip(gateways(config))
        .map(|((pod_cidr, service_cidr), gateway)| Layout {
            family: Family::of(gateway),
            table: names::table(&config.instance),
            bridge: config.bridge.clone(),
            pod_cidr,
            service_cidr,
            gateway,
            // The cluster's DNS is asked by IPv4, which every pod has.
            dns: gateway.is_ipv4().then_some((config.dns_ip, dns_port)),
        })
        .collect()
}
