//! Which address belongs to whom: host-local leases, remembered on disk, handed out round robin so that an address
//! just given back is the last to be given out again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{Attachment, Error, Published, names};

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
        range: Ipv4Net,
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

    /// Forgets the leases of another range: the instance has moved.
    pub fn keep_within(&mut self, range: Ipv4Net) {
        self.by_id
            .retain(|_, lease| range.contains(&lease.attachment.address));
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

    pub fn iter(&self) -> impl Iterator<Item = (&String, &Lease)> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range() -> Ipv4Net {
        "10.64.0.0/29".parse().unwrap()
    }

    #[test]
    fn addresses_go_round_and_come_back_last() {
        let mut leases = Leases::default();
        let take = |leases: &mut Leases, id: &str| {
            let (lease, new) = leases.lease("plim-000001", range(), id).unwrap();
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
        let full = leases.lease("plim-000001", range(), "g").unwrap_err();
        assert!(
            full.to_string().contains("10.64.0.0/29 (5 leased)"),
            "{full}"
        );
        let (again, new) = leases.lease("plim-000001", range(), "b").unwrap();
        assert_eq!((again.address.octets()[3], new), (3, false));
    }

    proptest! {
        #[test]
        fn no_address_has_two_owners(steps in prop::collection::vec((0..12u8, any::<bool>()), 0..200)) {
            let mut leases = Leases::default();
            for (id, take) in steps {
                let id = id.to_string();
                if take {
                    let _ = leases.lease("plim-000001", range(), &id);
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
