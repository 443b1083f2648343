//! Names and hardware addresses, all derived from the instance, so that they are found again after a crash.

use std::net::Ipv4Addr;

/// Longest interface name that Linux takes (IFNAMSIZ without the terminator).
pub(crate) const INTERFACE_NAME_BYTES_MAX: usize = 15;

/// The nftables table of an instance: its name with `_` for what nft would not take.
pub(crate) fn table(instance: &str) -> String {
    instance
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

/// Whether a table is that of an instance (this one or another).
pub(crate) fn is_table(name: &str) -> bool {
    name.strip_prefix("plim_").is_some_and(|digits| {
        digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// What the host-side interfaces of an instance start with: nine characters.
pub(crate) fn interface_prefix(instance: &str) -> String {
    match instance.strip_prefix("plim-") {
        Some(digits) if digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
            format!("plv{}", digits.to_ascii_lowercase())
        }
        _ => format!("plv{:06x}", fnv(instance.as_bytes()) & 0xff_ffff),
    }
}

/// The host-side interface of `id`: 15 characters. `salt` tells apart ids whose hashes meet.
pub(crate) fn host_interface(instance: &str, id: &str, salt: u32) -> String {
    let hash = fnv(format!("{id}\0{salt}").as_bytes());
    format!("{}{:06x}", interface_prefix(instance), hash & 0xff_ffff)
}

/// A locally administered unicast hardware address that depends on instance and IP address alone, so that a neighbour's
/// cache stays right when an address is leased again.
pub(crate) fn mac(instance: &str, address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, (fnv(instance.as_bytes()) & 0xff) as u8, a, b, c, d]
}

/// `02:1a:0a:40:00:02`
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// FNV-1a, 64 bits: stable across versions, unlike the standard library's hasher.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_fit_and_carry_the_instance() {
        for (instance, prefix) in [("plim-0a1b2c", "plv0a1b2c"), ("plim-0A1B2C", "plv0a1b2c")] {
            assert_eq!(interface_prefix(instance), prefix);
        }
        for instance in ["plim-0a1b2c", "plimtest-a-rather-long-name", ""] {
            let name = host_interface(instance, "pod", 0);
            assert_eq!(name.len(), INTERFACE_NAME_BYTES_MAX, "{name}");
            assert!(name.starts_with(&interface_prefix(instance)));
            assert_ne!(name, host_interface(instance, "pod", 1));
        }
    }

    #[test]
    fn hardware_addresses_are_unicast_local_and_stable() {
        let mac = mac("plim-0a1b2c", Ipv4Addr::new(10, 64, 0, 2));
        assert_eq!(mac[0] & 0b11, 0b10);
        assert_eq!(&mac[2..], &[10, 64, 0, 2]);
        assert_eq!(mac_text([2, 0x1a, 10, 64, 0, 2]), "02:1a:0a:40:00:02");
    }
}
