//! Sets of addresses as ranges: what selectors and address blocks with exceptions add up to.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Addresses as sorted ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressSet(Vec<(u32, u32)>);

impl AddressSet {
    /// Adds the addresses of a block.
    pub fn add(&mut self, block: Ipv4Net) {
        let first = u32::from(block.network());
        let last = u32::from(block.broadcast());
        self.add_range(first, last);
    }

    /// Adds one address.
    pub fn add_address(&mut self, address: Ipv4Addr) {
        self.add_range(address.into(), address.into());
    }

    /// Adds what another set has.
    pub fn extend(&mut self, other: &Self) {
        for (first, last) in &other.0 {
            self.add_range(*first, *last);
        }
    }

    /// Takes the addresses of a block out.
    pub fn remove(&mut self, block: Ipv4Net) {
        let first = u32::from(block.network());
        let last = u32::from(block.broadcast());
        let mut left = Vec::with_capacity(self.0.len() + 1);
        for (from, to) in self.0.drain(..) {
            if to < first || from > last {
                left.push((from, to));
                continue;
            }
            if from < first {
                left.push((from, first - 1));
            }
            if to > last {
                left.push((last + 1, to));
            }
        }
        self.0 = left;
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is no other.
    pub fn is_everything(&self) -> bool {
        self.0 == [(0, u32::MAX)]
    }

    /// Whether an address is one of them.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        self.0
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&address))
    }

    /// First and last address of each range, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> {
        self.0
            .iter()
            .map(|(from, to)| ((*from).into(), (*to).into()))
    }

    fn add_range(&mut self, first: u32, last: u32) {
        self.0.push((first, last));
        merge(&mut self.0, |last| last.checked_add(1));
    }
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
    use proptest::prelude::*;

    #[test]
    fn blocks_with_exceptions() {
        let text = |set: &AddressSet| -> Vec<String> {
            set.ranges()
                .map(|(from, to)| format!("{from}-{to}"))
                .collect()
        };
        let mut set = AddressSet::default();
        set.add("10.0.0.0/24".parse().unwrap());
        set.remove("10.0.0.64/26".parse().unwrap());
        assert_eq!(text(&set), ["10.0.0.0-10.0.0.63", "10.0.0.128-10.0.0.255"]);
        set.add_address("10.0.0.64".parse().unwrap());
        assert_eq!(text(&set), ["10.0.0.0-10.0.0.64", "10.0.0.128-10.0.0.255"]);
        set.add("0.0.0.0/0".parse().unwrap());
        assert!(set.is_everything());
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
                    set.add(block);
                    model.extend(all);
                } else {
                    set.remove(block);
                    for address in all { model.remove(&address); }
                }
            }
            for low in 0..64 {
                let address = Ipv4Addr::new(10, 0, 0, low);
                prop_assert_eq!(set.contains(address), model.contains(&u32::from(address)));
            }
            let ranges: Vec<_> = set.0.clone();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }
}
