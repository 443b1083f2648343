//! Which address belongs to whom: host-local leases, remembered on disk, handed out round robin so that an address
//! just given back is the last to be given out again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::{Attachment, Error, Ipv6Attachment, Published, names};

/// All leases of an instance, as they are on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Leases {
    /// The address given out last.
    cursor: Option<Ipv4Addr>,
    by_id: BTreeMap<String, Lease>,
}

/// What one id has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub attachment: Attachment,
    #[serde(default)]
    pub published: Vec<Published>,
}

impl Leases {
    /// The lease of `id`, made if there is none. `true` when it is new.
    pub fn lease(
        &mut self,
        instance: &str,
        (range, ipv6): (Ipv4Net, Option<Ipv6Net>),
        id: &str,
    ) -> Result<(Attachment, bool), Error> {
        if let Some(lease) = self.by_id.get(id) {
            return Ok((lease.attachment.clone(), false));
        }
        let address = self.free_address(range)?;
        let taken: BTreeSet<&str> = self
            .by_id
            .values()
            .map(|lease| lease.attachment.host_interface.as_str())
            .collect();
        let host_interface = (0..)
            .map(|salt| names::host_interface(instance, id, salt))
            .find(|name| !taken.contains(name.as_str()))
            .unwrap_or_default();
        let attachment = Attachment {
            address,
            prefix_len: range.prefix_len(),
            gateway: gateway(range),
            mac: names::mac_text(names::mac(instance, address)),
            host_interface,
            ipv6: ipv6.map(|ipv6| Ipv6Attachment {
                address: counterpart(range, ipv6, address),
                prefix_len: ipv6.prefix_len(),
                gateway: ipv6_gateway(ipv6),
            }),
        };
        self.cursor = Some(address);
        self.by_id.insert(
            id.to_owned(),
            Lease {
                attachment: attachment.clone(),
                published: Vec::new(),
            },
        );
        Ok((attachment, true))
    }

    /// Forgets the leases of another range: the instance has moved. Who has an IPv6 address of another range, or of none
    /// that there is now, keeps the IPv4 address alone.
    pub fn keep_within(&mut self, range: Ipv4Net, ipv6: Option<Ipv6Net>) {
        self.by_id
            .retain(|_, lease| range.contains(&lease.attachment.address));
        for lease in self.by_id.values_mut() {
            let own = &mut lease.attachment.ipv6;
            *own = own.filter(|own| ipv6.is_some_and(|range| range.contains(&own.address)));
            let kept = own.is_some();
            lease.published.retain(|port| kept || port.target.is_ipv4());
        }
    }

    /// Gives the address of `id` back.
    pub fn release(&mut self, id: &str) -> Option<Lease> {
        self.by_id.remove(id)
    }

    pub fn get(&self, id: &str) -> Option<&Lease> {
        self.by_id.get(id)
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Lease> {
        self.by_id.get_mut(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&String, &Lease)> + Clone {
        self.by_id.iter()
    }

    fn free_address(&self, range: Ipv4Net) -> Result<Ipv4Addr, Error> {
        let leased: BTreeSet<Ipv4Addr> = self
            .by_id
            .values()
            .map(|lease| lease.attachment.address)
            .collect();
        let first = u32::from(gateway(range)) + 1;
        let last = u32::from(range.broadcast()).saturating_sub(1);
        let start = match self.cursor.map(u32::from) {
            Some(cursor) if (first..last).contains(&cursor) => cursor + 1,
            _ => first,
        };
        (start..=last)
            .chain(first..start)
            .map(Ipv4Addr::from)
            .find(|address| !leased.contains(address))
            .ok_or_else(|| Error::AddressesExhausted {
                range: range.to_string(),
                leased: leased.len(),
            })
    }
}

/// The first host address of a range.
pub(crate) fn gateway(range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()) + 1)
}

/// The same of an IPv6 range.
pub(crate) fn ipv6_gateway(range: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(range.network()) + 1)
}

/// The IPv6 address at the same place of its range: who has one has the other, and nothing more is to be remembered.
fn counterpart(range: Ipv4Net, ipv6: Ipv6Net, address: Ipv4Addr) -> Ipv6Addr {
    let place = u32::from(address) - u32::from(range.network());
    Ipv6Addr::from(u128::from(ipv6.network()) + u128::from(place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range() -> Ipv4Net {
        "10.64.0.0/29".parse().unwrap()
    }

    fn both() -> (Ipv4Net, Option<Ipv6Net>) {
        (range(), Some("fd00:0:0:1::/64".parse().unwrap()))
    }

    #[test]
    fn an_ipv6_address_goes_with_the_ipv4_address() {
        let mut leases = Leases::default();
        let (lease, _) = leases.lease("plim-000001", both(), "a").unwrap();
        let ipv6 = lease.ipv6.unwrap();
        assert_eq!(ipv6.address, "fd00:0:0:1::2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(ipv6.gateway, "fd00:0:0:1::1".parse::<Ipv6Addr>().unwrap());
        let (other, _) = leases.lease("plim-000001", (range(), None), "b").unwrap();
        assert_eq!(other.ipv6, None);
        // Records of before are read; what has moved or is off loses its address alone.
        let old = r#"{"address":"10.64.0.4","prefix_len":29,"gateway":"10.64.0.1","mac":"","host_interface":"x"}"#;
        assert_eq!(serde_json::from_str::<Attachment>(old).unwrap().ipv6, None);
        leases.keep_within(range(), both().1);
        assert!(leases.get("a").unwrap().attachment.ipv6.is_some());
        leases.keep_within(range(), Some("fd00:0:0:2::/64".parse().unwrap()));
        let kept = &leases.get("a").unwrap().attachment;
        assert_eq!((kept.address, kept.ipv6), (lease.address, None));
    }

    #[test]
    fn addresses_go_round_and_come_back_last() {
        let mut leases = Leases::default();
        let take = |leases: &mut Leases, id: &str| {
            let (lease, new) = leases.lease("plim-000001", both(), id).unwrap();
            assert!(new);
            lease.address.octets()[3]
        };
        assert_eq!(take(&mut leases, "a"), 2);
        assert_eq!(take(&mut leases, "b"), 3);
        leases.release("a");
        assert_eq!(take(&mut leases, "c"), 4, "a fresh one is preferred");
        assert_eq!(take(&mut leases, "d"), 5);
        assert_eq!(take(&mut leases, "e"), 6);
        assert_eq!(take(&mut leases, "f"), 2, "then the one given back");
        let full = leases.lease("plim-000001", both(), "g").unwrap_err();
        assert!(
            full.to_string().contains("10.64.0.0/29 (5 leased)"),
            "{full}"
        );
        let (again, new) = leases.lease("plim-000001", both(), "b").unwrap();
        assert_eq!((again.address.octets()[3], new), (3, false));
    }

    proptest! {
        #[test]
        fn no_address_has_two_owners(steps in prop::collection::vec((0..12u8, any::<bool>()), 0..200)) {
            let mut leases = Leases::default();
            for (id, take) in steps {
                let id = id.to_string();
                if take {
                    let _ = leases.lease("plim-000001", both(), &id);
                } else {
                    leases.release(&id);
                }
                let addresses: BTreeSet<_> = leases.iter().map(|(_, l)| l.attachment.address).collect();
                let names: BTreeSet<_> = leases.iter().map(|(_, l)| l.attachment.host_interface.clone()).collect();
                prop_assert_eq!(addresses.len(), leases.iter().count());
                prop_assert_eq!(names.len(), leases.iter().count());
                prop_assert!(addresses.iter().all(|a| range().contains(a) && *a != gateway(range()) && *a != range().broadcast()));
            }
        }
    }
}
