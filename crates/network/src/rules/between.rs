//! What containers say to each other passes this machine, where policies are: a frame for another container's own hardware address
//! would go from port to port of the bridge and meet none of them. It is dropped.
//!
//! A table of the bridge family, loaded by nft. Bridged frames that the kernel hands to the other tables (br_netfilter) still have
//! the address that their sender gave them when they come here.

use crate::names;

/// Before br_netfilter, which translates destinations.
const PRIORITY: i32 = -300;

/// Makes the table what it should be, whatever it was. `ports`: what the names of the bridge's ports begin with; that they are asked
/// for, and not the bridge, spares the kernel a module that some do not have (NFT_BRIDGE_META).
pub(super) fn script(table: &str, ports: &str, mac: [u8; 6]) -> String {
    let mac = names::mac_text(mac);
    format!(
        "add table bridge {table}\n\
         flush table bridge {table}\n\
         add chain bridge {table} guard {{ type filter hook prerouting priority {PRIORITY}; policy accept; }}\n\
         add rule bridge {table} guard iifname \"{ports}*\" ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 ether daddr != {mac} drop\n"
    )
}

/// Removes the table, whether it is there or not.
pub(super) fn removal(table: &str) -> String {
    format!("add table bridge {table}\ndelete table bridge {table}\n")
}
