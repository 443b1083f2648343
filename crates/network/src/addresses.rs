//! Sets of addresses as ranges: what selectors and address blocks with exceptions add up to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::Family;

/// Addresses of both families as sorted ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl AddressSet {
    /// Adds the addresses of a block.
    pub fn add(&mut self, block: IpNet) {
        match block {
            IpNet::V4(block) => add(
                &mut self.v4,
                (block.network().into(), block.broadcast().into()),
            ),
            IpNet::V6(block) => add(
                &mut self.v6,
                (block.network().into(), block.broadcast().into()),
            ),
        }
    }

    /// Adds one address.
    pub fn add_address(&mut self, address: IpAddr) {
        self.add(address.into());
    }

    /// Adds what another set has.
    pub fn extend(&mut self, other: &Self) {
        other.v4.iter().for_each(|range| add(&mut self.v4, *range));
        other.v6.iter().for_each(|range| add(&mut self.v6, *range));
    }

    /// Takes the addresses of a block out.
    pub fn remove(&mut self, block: IpNet) {
        match block {
            IpNet::V4(block) => remove(
                &mut self.v4,
                (block.network().into(), block.broadcast().into()),
            ),
            IpNet::V6(block) => remove(
                &mut self.v6,
                (block.network().into(), block.broadcast().into()),
            ),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether there is none of a family.
    pub fn has_none(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4.is_empty(),
            Family::V6 => self.v6.is_empty(),
        }
    }

    /// Whether every address of a family is one of them.
    pub fn has_all(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4 == [(0, u32::MAX)],
            Family::V6 => self.v6 == [(0, u128::MAX)],
        }
    }

    /// Whether an address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        fn within<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
            ranges
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&address))
        }
        match address {
            IpAddr::V4(address) => within(&self.v4, address.into()),
            IpAddr::V6(address) => within(&self.v6, address.into()),
        }
    }

    /// First and last address of each range of a family, in order.
    pub fn ranges(&self, family: Family) -> Vec<(IpAddr, IpAddr)> {
        let v4 = |number: u32| IpAddr::V4(Ipv4Addr::from(number));
        let v6 = |number: u128| IpAddr::V6(Ipv6Addr::from(number));
        match family {
            Family::V4 => self.v4.iter().map(|(a, b)| (v4(*a), v4(*b))).collect(),
            Family::V6 => self.v6.iter().map(|(a, b)| (v6(*a), v6(*b))).collect(),
        }
    }
}

/// A number of an address.
trait Number: Ord + Copy {
    fn next(self) -> Option<Self>;
    fn before(self) -> Self;
}

macro_rules! number {
    ($($of:ty),*) => {$(
        impl Number for $of {
            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
            fn before(self) -> Self {
                self.saturating_sub(1)
            }
        }
    )*};
}
number!(u32, u128);

fn add<T: Number>(ranges: &mut Vec<(T, T)>, range: (T, T)) {
    ranges.push(range);
    merge(ranges, T::next);
}

fn remove<T: Number>(ranges: &mut Vec<(T, T)>, (first, last): (T, T)) {
    let mut left = Vec::with_capacity(ranges.len() + 1);
    for (from, to) in ranges.drain(..) {
        if to < first || from > last {
            left.push((from, to));
            continue;
        }
        if from < first {
            left.push((from, first.before()));
        }
        if let Some(next) = last.next().filter(|next| to >= *next) {
            left.push((next, to));
        }
    }
    *ranges = left;
}

/// Sorts inclusive ranges and joins those that overlap or touch. `next`: the number after one, if there is one.
pub(crate) fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>, next: impl Fn(T) -> Option<T>) {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges.drain(..) {
        match merged.last_mut() {
            Some((_, end)) if next(*end).is_none_or(|next| from <= next) => *end = (*end).max(to),
            _ => merged.push((from, to)),
        }
    }
    *ranges = merged;
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::Ipv4Net;
    use proptest::prelude::*;

    #[test]
    fn blocks_with_exceptions() {
        let text = |set: &AddressSet| -> Vec<String> {
            set.ranges(Family::V4)
                .iter()
                .map(|(from, to)| format!("{from}-{to}"))
                .collect()
        };
        let mut set = AddressSet::default();
        set.add("10.0.0.0/24".parse().unwrap());
        set.remove("10.0.0.64/26".parse().unwrap());
        assert_eq!(text(&set), ["10.0.0.0-10.0.0.63", "10.0.0.128-10.0.0.255"]);
        // The other family is apart.
        set.add("fd00::/126".parse().unwrap());
        set.remove("fd00::1/128".parse().unwrap());
        let last = set.ranges(Family::V6).pop().map(|range| range.0);
        assert_eq!(last, Some("fd00::2".parse().unwrap()));
        set.remove("::/0".parse().unwrap());
        assert!(set.has_none(Family::V6) && !set.has_none(Family::V4));
        set.add_address("10.0.0.64".parse().unwrap());
        assert_eq!(text(&set), ["10.0.0.0-10.0.0.64", "10.0.0.128-10.0.0.255"]);
        set.add("0.0.0.0/0".parse().unwrap());
        assert!(set.has_all(Family::V4) && !set.has_all(Family::V6));
        set.add("::/0".parse().unwrap());
        assert!(set.has_all(Family::V6));
        set.remove("::/0".parse().unwrap());
        set.remove("0.0.0.0/1".parse().unwrap());
        set.remove("128.0.0.0/1".parse().unwrap());
        assert!(set.is_empty());
    }

    proptest! {
        #[test]
        fn it_is_the_set_that_its_history_says(
            steps in prop::collection::vec((any::<bool>(), 0u8..32, 27u8..=32), 0..20),
        ) {
            let mut set = AddressSet::default();
            let mut model = std::collections::BTreeSet::new();
            for (add, low, length) in steps {
                let block = Ipv4Net::new(Ipv4Addr::new(10, 0, 0, low), length).unwrap();
                let all = u32::from(block.network())..=u32::from(block.broadcast());
                if add {
                    set.add(block.into());
                    model.extend(all);
                } else {
                    set.remove(block.into());
                    for address in all { model.remove(&address); }
                }
            }
            for low in 0..64 {
                let address = Ipv4Addr::new(10, 0, 0, low);
                prop_assert_eq!(set.contains(address.into()), model.contains(&u32::from(address)));
            }
            let ranges: Vec<_> = set.v4.clone();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }
}
