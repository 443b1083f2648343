//! Links, addresses and routes through rtnetlink, in one network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};

use crate::Error;

mod routes;

#[cfg(test)]
pub(crate) use routes::TABLE_MAIN;
pub(crate) use routes::Used;

/// A netlink socket, and with it one network namespace.
pub(crate) struct Links {
    pub(super) handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

/// A link as far as this room looks at it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    pub mac: Vec<u8>,
    pub mtu: u32,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Links {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|error| Error::link("cannot open a netlink socket", error))?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// The link called `name`, if there is one.
    pub async fn find(&self, name: &str) -> Result<Option<Link>, Error> {
        let mut found = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        match found.try_next().await {
            Ok(link) => Ok(link.map(Link::from)),
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(Error::link(format!("cannot look up link {name}"), error)),
        }
    }

    /// The link called `name`, which must be there.
    pub async fn get(&self, name: &str) -> Result<Link, Error> {
        let found = self.find(name).await?;
        found.ok_or_else(|| Error::link(format!("cannot look up link {name}"), "it has gone"))
    }

    /// All links.
    pub async fn all(&self) -> Result<Vec<Link>, Error> {
        self.handle
            .link()
            .get()
            .execute()
            .map_ok(Link::from)
            .try_collect()
            .await
            .map_err(|error| Error::link("cannot list links", error))
    }

    /// Makes a bridge with a hardware address of its own (otherwise it would take that of a port, and change it).
    pub async fn add_bridge(&self, name: &str, mac: [u8; 6], mtu: u32) -> Result<(), Error> {
        let message = LinkBridge::new(name).address(mac.to_vec()).mtu(mtu).build();
        ignore(
            self.handle.link().add(message).execute().await,
            libc::EEXIST,
        )
        .map_err(|error| Error::link(format!("cannot make the bridge {name}"), error))
    }

    /// Makes a pair of interfaces: `host` here, `peer` in the namespace `namespace` from the first moment.
    pub async fn add_veth(
        &self,
        host: &str,
        peer: &str,
        mac: [u8; 6],
        mtu: u32,
        namespace: &std::fs::File,
    ) -> Result<(), Error> {
        use std::os::fd::AsRawFd;
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer)
            .address(mac.to_vec())
            .mtu(mtu)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(host)
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(|error| Error::link(format!("cannot make the interface {host}"), error))
    }

    /// Puts a link on a bridge, sets it up, and lets frames go back through the port they came from. What others on the
    /// bridge send to everybody or to many does not come here: nobody's rules would see it. What this machine sends does.
    pub async fn join_bridge(&self, link: &Link, bridge: u32) -> Result<(), Error> {
        let failed = |error| {
            Error::link(
                format!("cannot put the interface {} on the bridge", link.name),
                error,
            )
        };
        let message = LinkMessageBuilder::<LinkUnspec>::new()
            .index(link.index)
            .controller(bridge)
            .up()
            .build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(failed)?;
        let port = LinkBridgePort::new(link.index)
            .hairpin(true)
            .bcast_flood(false)
            .mcast_flood(false)
            .build();
        self.handle
            .link()
            .set_port(port)
            .execute()
            .await
            .map_err(failed)
    }

    /// Sets a link up.
    pub async fn set_up(&self, link: &Link) -> Result<(), Error> {
        let message = LinkMessageBuilder::<LinkUnspec>::new()
            .index(link.index)
            .up()
            .build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(|error| Error::link(format!("cannot set {} up", link.name), error))
    }

    /// Removes a link; one that is gone is removed already.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let Some(link) = self.find(name).await? else {
            return Ok(());
        };
        ignore(
            self.handle.link().del(link.index).execute().await,
            libc::ENODEV,
        )
        .map_err(|error| Error::link(format!("cannot remove link {name}"), error))
    }

    /// Gives a link an address. `connected`: the kernel adds the route to its range.
    pub async fn add_address(
        &self,
        link: &Link,
        address: IpAddr,
        prefix_len: u8,
        connected: bool,
    ) -> Result<(), Error> {
        let mut request = self.handle.address().add(link.index, address, prefix_len);
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Noprefixroute, !connected);
        // Nobody else has it: it can be used at once.
        flags.set(AddressFlags::Nodad, address.is_ipv6());
        if !flags.is_empty() {
            let attributes = &mut request.message_mut().attributes;
            attributes.push(AddressAttribute::Flags(flags));
        }
        ignore(request.execute().await, libc::EEXIST).map_err(|error| {
            Error::link(
                format!("cannot give {} the address {address}", link.name),
                error,
            )
        })
    }

    /// Adds or replaces a route to a range that is on the link itself.
    pub async fn add_link_route(
        &self,
        link: &Link,
        range: IpNet,
        source: Option<IpAddr>,
    ) -> Result<(), Error> {
        let route = match range {
            IpNet::V4(range) => {
                let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(range.network(), range.prefix_len())
                    .output_interface(link.index)
                    .scope(RouteScope::Link)
                    .protocol(RouteProtocol::Static);
                if let Some(IpAddr::V4(source)) = source {
                    route = route.pref_source(source);
                }
                route.build()
            }
            IpNet::V6(range) => {
                let mut route = RouteMessageBuilder::<Ipv6Addr>::new()
                    .destination_prefix(range.network(), range.prefix_len())
                    .output_interface(link.index)
                    .protocol(RouteProtocol::Static);
                if let Some(IpAddr::V6(source)) = source {
                    route = route.pref_source(source);
                }
                route.build()
            }
        };
        self.add_route(route, || format!("cannot route {range} to {}", link.name))
            .await
    }

    /// Adds or replaces the default route.
    pub async fn add_default_route(&self, link: &Link, gateway: IpAddr) -> Result<(), Error> {
        let route = match gateway {
            IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new()
                .gateway(gateway)
                .output_interface(link.index)
                .build(),
            IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
                .gateway(gateway)
                .output_interface(link.index)
                .build(),
        };
        self.add_route(route, || {
            format!("cannot set the default route by {gateway}")
        })
        .await
    }

    async fn add_route(
        &self,
        route: RouteMessage,
        what: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        self.handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(|error| Error::link(what(), error))
    }

    /// Tells a link once and for all where a neighbour is.
    pub async fn add_neighbour(
        &self,
        link: &Link,
        address: IpAddr,
        mac: [u8; 6],
    ) -> Result<(), Error> {
        self.handle
            .neighbours()
            .add(link.index, address)
            .link_layer_address(&mac)
            .state(NeighbourState::Permanent)
            .replace()
            .execute()
            .await
            .map_err(|error| {
                Error::link(
                    format!("cannot tell {} where {address} is", link.name),
                    error,
                )
            })
    }

    /// The addresses of a link that others than its neighbours can use.
    pub async fn global_ipv6(&self, link: &Link) -> Result<Vec<Ipv6Addr>, Error> {
        let listed = self.handle.address().get();
        let mut listed = listed.set_link_index_filter(link.index).execute();
        let mut found = Vec::new();
        while let Some(message) = listed.try_next().await.map_err(|error| {
            Error::link(format!("cannot list addresses of {}", link.name), error)
        })? {
            for attribute in &message.attributes {
                match attribute {
                    AddressAttribute::Address(IpAddr::V6(address))
                        if !address.is_unicast_link_local() =>
                    {
                        found.push(*address)
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Link {
            index: message.header.index,
            name: String::new(),
            mac: Vec::new(),
            mtu: 0,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(mac) => link.mac = mac,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                _ => {}
            }
        }
        link
    }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => io::Error::from(message.clone()).raw_os_error(),
        _ => None,
    }
}

fn ignore(result: Result<(), rtnetlink::Error>, harmless: i32) -> Result<(), rtnetlink::Error> {
    match result {
        Err(error) if errno(&error) == Some(harmless) => Ok(()),
        other => other,
    }
}
