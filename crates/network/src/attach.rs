//! The interface of one attachment, on both of its sides.

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use crate::link::Links;
use crate::{Attachment, Config, Error, names, netns, system};

/// What a namespace's interface is called inside.
const INSIDE: &str = "eth0";

/// Makes the interface of a lease and what it needs on both sides. Everything is done again harmlessly.
pub(crate) async fn connect(
    (links, config, mtu): (&Links, &Config, u32),
    namespace: &File,
    path: &Path,
    attachment: &Attachment,
) -> Result<(), Error> {
    let inside = netns::within(namespace, path, Links::open).await??;
    let wanted_mac = names::mac(&config.instance, attachment.address);
    let host = &attachment.host_interface;
    let there = inside.find(INSIDE).await?;
    if there.as_ref().is_some_and(|link| link.mac != wanted_mac) {
        return Err(Error::Foreign {
            object: format!("{INSIDE} in {}", path.display()),
            hint: "attach a namespace without interfaces of its own".into(),
        });
    }
    if there.is_none() || links.find(host).await?.is_none() {
        links.remove(host).await?;
        links
            .add_veth(host, INSIDE, wanted_mac, mtu, namespace)
            .await?;
    }
    let set_ipv6 = match attachment.ipv6 {
        Some(_) => system::enable_routed_ipv6,
        None => system::disable_ipv6,
    };
    netns::within(namespace, path, move || set_ipv6(INSIDE)).await??;
    // A port of the bridge has no business of its own.
    system::disable_ipv6(host)?;
    let bridge = links.get(&config.bridge).await?;
    let outer = links.get(host).await?;
    links.join_bridge(&outer, bridge.index).await?;

    let lo = inside.get("lo").await?;
    inside.set_up(&lo).await?;
    let eth0 = inside.get(INSIDE).await?;
    // No route to the pod range itself: neighbours are reached through the gateway, so that translation of service
    // addresses sees both directions whether or not bridged frames pass netfilter (br_netfilter) on this machine.
    inside
        .add_address(
            &eth0,
            attachment.address.into(),
            attachment.prefix_len,
            false,
        )
        .await?;
    inside.set_up(&eth0).await?;
    let gateway = IpAddr::V4(attachment.gateway);
    inside
        .add_link_route(&eth0, IpNet::from(gateway), None)
        .await?;
    inside.add_default_route(&eth0, gateway).await?;
    let Some(ipv6) = attachment.ipv6 else {
        return Ok(());
    };
    inside
        .add_address(&eth0, ipv6.address.into(), ipv6.prefix_len, false)
        .await?;
    let gateway = IpAddr::V6(ipv6.gateway);
    // Without an address of the link it could ask only while it has something to send.
    inside
        .add_neighbour(&eth0, gateway, crate::bridge::mac(config))
        .await?;
    inside
        .add_link_route(&eth0, IpNet::from(gateway), None)
        .await?;
    inside.add_default_route(&eth0, gateway).await
}
