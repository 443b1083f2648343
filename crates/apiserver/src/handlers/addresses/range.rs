//! A range from which service addresses come, of one family.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rand::Rng as _;

use super::families;
use crate::Error;

/// Upstream keeps the low part of the range for addresses that people choose; dynamic ones come from above it.
const STATIC_BAND_MAX: u128 = 256;

/// Addresses of a range, in bits: more are not looked through.
const RANGE_BITS: std::ops::RangeInclusive<u8> = 4..=24;

/// Addresses of one family.
pub struct Range {
    pub net: IpNet,
    base: u128,
    /// Addresses in the range, the first and the last included, which are not handed out.
    size: u128,
}

impl Range {
    /// Checks one range of the configuration.
    pub fn new(value: &str, ipv6: bool) -> Result<Self, Error> {
        let fail = |reason: String| Error::ServiceCidr {
            value: value.to_owned(),
            reason,
        };
        let net: IpNet = value
            .parse()
            .map_err(|_| fail("it is no range of addresses, such as 10.96.0.0/16".into()))?;
        if net.addr().is_ipv6() != ipv6 {
            let wanted = if ipv6 { "IPv6" } else { "IPv4" };
            return Err(fail(format!("the address is not {wanted}")));
        }
        let (length, bits) = (net.prefix_len(), net.max_prefix_len());
        if !RANGE_BITS.contains(&(bits - length)) {
            return Err(fail(format!(
                "the prefix length must be between {} and {}",
                bits - RANGE_BITS.end(),
                bits - RANGE_BITS.start()
            )));
        }
        Ok(Self {
            net: net.trunc(),
            base: number(net.network()),
            size: 1 << (bits - length),
        })
    }

    pub fn family(&self) -> &'static str {
        if self.net.addr().is_ipv6() {
            families::IPV6
        } else {
            families::IPV4
        }
    }

    pub fn at(&self, offset: u128) -> IpAddr {
        let number = self.base + offset;
        match self.net {
            // The base is that of a range of IPv4, and the offset within it.
            IpNet::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
            IpNet::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }

    pub fn may_have(&self, address: IpAddr) -> bool {
        let offset = number(address).wrapping_sub(self.base);
        self.net.contains(&address) && offset != 0 && offset != self.size - 1
    }

    pub fn free(&self, taken: &HashSet<IpAddr>) -> Option<IpAddr> {
        let band = (self.size / 16).clamp(1, STATIC_BAND_MAX);
        let usable = |from: u128, to: u128| {
            let count = to.checked_sub(from).filter(|c| *c > 0)?;
            let start = rand::rng().random_range(0..count);
            (0..count)
                .map(|n| self.at(from + (start + n) % count))
                .find(|a| !taken.contains(a))
        };
        usable(band + 1, self.size - 1).or_else(|| usable(2, band + 1))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}
