//! The bridge of an instance and the interfaces on it, as a whole: made, cleaned up, removed.

use crate::leases::{self, Leases};
use crate::link::Links;
use crate::{Config, Error, names};

/// Makes the bridge with its addresses and routes, or completes the one that is there.
pub(crate) async fn open(links: &Links, config: &Config, mtu: u32) -> Result<(), Error> {
    links.add_bridge(&config.bridge, mac(config), mtu).await?;
    let bridge = links.get(&config.bridge).await?;
    if bridge.mac != mac(config) {
        return Err(Error::Foreign {
            object: format!("the interface {}", config.bridge),
            hint: "remove it, or give the instance another name".into(),
        });
    }
    let gateway = leases::gateway(config.pod_cidr);
    links.set_up(&bridge).await?;
    links
        .add_address(&bridge, gateway, config.pod_cidr.prefix_len(), true)
        .await?;
    // Packets to service addresses are translated on the way; what is not must not wander off to the default route,
    // and a machine without one must be able to connect at all.
    links
        .add_link_route(&bridge, config.service_cidr, Some(gateway))
        .await
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
        let bridge = link.name == config.bridge && link.mac == mac(config);
        if bridge || link.name.starts_with(&prefix) {
            links.remove(&link.name).await?;
        }
    }
    Ok(())
}

fn mac(config: &Config) -> [u8; 6] {
    names::mac(&config.instance, leases::gateway(config.pod_cidr))
}
