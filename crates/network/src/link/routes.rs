//! What the routes of a namespace say: which ranges are used, which addresses are its own, how large a packet may be.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use super::Links;
use crate::{Error, system};

/// Shorter prefixes are a default route in parts.
const PREFIX_LEN_MIN: u8 = 8;

/// The table of this machine's own addresses, and the one that routes are in unless something else is said.
const TABLE_LOCAL: u32 = 255;
pub(crate) const TABLE_MAIN: u32 = 254;

/// A range that a route leads to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Used {
    pub range: IpNet,
    /// Index of the interface, if it is one.
    pub interface: Option<u32>,
    /// Number of the routing table.
    pub table: u32,
}

impl Used {
    /// Whether the most specific route wins: true of the two tables that every machine has.
    pub fn in_usual_table(&self) -> bool {
        matches!(self.table, TABLE_LOCAL | TABLE_MAIN)
    }
}

impl Links {
    /// MTU of the link with the default route; 1500 at most, and without one.
    pub async fn uplink_mtu(&self) -> Result<u32, Error> {
        const ETHERNET_MTU: u32 = 1500;
        /// With less a link has no IPv6 (RFC 8200); packets that are too large for the uplink are told so.
        const MTU_MIN: u32 = 1280;
        let default = self
            .routes(RouteMessageBuilder::<Ipv4Addr>::new().build())
            .await?
            .into_iter()
            .find(|route| route.header.destination_prefix_length == 0);
        let index = default.and_then(|route| {
            route
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                })
        });
        let Some(index) = index else {
            return Ok(ETHERNET_MTU);
        };
        let links = self.all().await?;
        let uplink = links.iter().find(|link| link.index == index);
        Ok(uplink.map_or(ETHERNET_MTU, |link| link.mtu.clamp(MTU_MIN, ETHERNET_MTU)))
    }

    /// Addresses of this namespace.
    pub async fn addresses(&self) -> Result<BTreeSet<IpAddr>, Error> {
        let local = self.used().await?;
        let single = local
            .iter()
            .filter(|used| used.range.prefix_len() == used.range.max_prefix_len());
        Ok(single
            .filter(|used| used.table == TABLE_LOCAL)
            .map(|used| used.range.addr())
            .collect())
    }

    /// The ranges that routes of this namespace use, in all tables; addresses are in the local one. Default routes, also
    /// such as VPNs halve them, are left out.
    pub async fn used(&self) -> Result<Vec<Used>, Error> {
        let mut ranges = Vec::new();
        let mut routes = self
            .routes(RouteMessageBuilder::<Ipv4Addr>::new().build())
            .await?;
        if system::knows_ipv6() {
            let all = RouteMessageBuilder::<Ipv6Addr>::new().build();
            routes.append(&mut self.routes(all).await?);
        }
        for route in routes {
            let mut table = u32::from(route.header.table);
            let (mut to, mut interface) = (None, None);
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(ip)) => to = Some((*ip).into()),
                    RouteAttribute::Destination(RouteAddress::Inet6(ip)) => to = Some((*ip).into()),
                    RouteAttribute::Oif(index) => interface = Some(*index),
                    RouteAttribute::Table(number) => table = *number,
                    _ => {}
                }
            }
            let prefix_len = route.header.destination_prefix_length;
            let range = to.and_then(|ip| IpNet::new(ip, prefix_len).ok());
            if let Some(range) = range.filter(|_| prefix_len >= PREFIX_LEN_MIN) {
                ranges.push(Used {
                    range: range.trunc(),
                    interface,
                    table,
                });
            }
        }
        Ok(ranges)
    }

    async fn routes(&self, like: RouteMessage) -> Result<Vec<RouteMessage>, Error> {
        self.handle
            .route()
            .get(like)
            .execute()
            .try_collect()
            .await
            .map_err(|error| Error::link("cannot list routes", error))
    }
}
