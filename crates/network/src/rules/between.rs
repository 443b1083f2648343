//! What containers say to each other passes this machine, where policies are: a frame for another container's own hardware address
//! would go from port to port of the bridge and meet none of them. It is dropped. So is what comes under an address that is not that
//! of its port: policies hold addresses, and nobody gets out of them by taking another's, or one that nobody has.
//!
//! A table of the bridge family, loaded by nft; which port has which addresses is said to the kernel as it changes. Bridged frames
//! that the kernel hands to the other tables (br_netfilter) still have the address that their sender gave them when they come here.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use crate::{Family, names};

/// Before br_netfilter, which translates destinations.
const PRIORITY: i32 = -300;
/// NFPROTO_BRIDGE
pub(super) const FAMILY: u8 = 7;

/// The addresses of the bridge's ports, by name.
pub(crate) type Places = BTreeMap<String, Vec<IpAddr>>;

/// The set of ports with their addresses of a family.
pub(super) fn set(family: Family) -> &'static str {
    match family {
        Family::V4 => "ports4",
        Family::V6 => "ports6",
    }
}

/// A port and an address as the kernel has them in that set: a name of 16 bytes, and the address.
pub(super) fn key(port: &str, address: IpAddr) -> Vec<u8> {
    const NAME_BYTES: usize = 16;
    let mut key = port.as_bytes().to_vec();
    key.resize(NAME_BYTES, 0);
    match address {
        IpAddr::V4(address) => key.extend(address.octets()),
        IpAddr::V6(address) => key.extend(address.octets()),
    }
    key
}

/// Makes the table what it should be, whatever it was. `ports`: what the names of the bridge's ports begin with; that they are asked
/// for, and not the bridge, spares the kernel a module that some do not have (NFT_BRIDGE_META).
pub(super) fn script(table: &str, ports: &str, mac: [u8; 6], places: &Places) -> String {
    let mac = names::mac_text(mac);
    let mut out = format!("add table bridge {table}\n");
    for family in Family::ALL {
        let (set, address) = (set(family), family.address_type());
        let _ = write!(
            out,
            "add set bridge {table} {set} {{ type ifname . {address}; }}\nflush set bridge {table} {set}\n"
        );
    }
    let _ = write!(
        out,
        "add chain bridge {table} guard {{ type filter hook prerouting priority {PRIORITY}; policy accept; }}\n\
         flush chain bridge {table} guard\n"
    );
    for (port, addresses) in places {
        for address in addresses {
            let set = set(Family::of(*address));
            let _ = writeln!(
                out,
                "add element bridge {table} {set} {{ \"{port}\" . {address} }}"
            );
        }
    }
    for rule in [
        format!("ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 ether daddr != {mac} drop"),
        "iifname . ip saddr != @ports4 drop".into(),
        "iifname . arp saddr ip != @ports4 drop".into(),
        // who has no address yet asks for neighbours, and goes nowhere
        "ip6 saddr != :: iifname . ip6 saddr != @ports6 drop".into(),
    ] {
        let _ = writeln!(
            out,
            "add rule bridge {table} guard iifname \"{ports}*\" {rule}"
        );
    }
    out
}

/// Removes the table, whether it is there or not.
pub(super) fn removal(table: &str) -> String {
    format!("add table bridge {table}\ndelete table bridge {table}\n")
}
