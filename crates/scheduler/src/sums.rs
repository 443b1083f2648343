//! Amounts as nodes and decisions keep them: what every pod asks for lies together, because each decision looks at it on hundreds
//! of nodes.

use std::collections::BTreeMap;

use crate::requests::Amounts;

/// The resources that lie together, in upstream's order.
pub const BUILT_IN: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// How many pods a node takes.
const PODS: &str = "pods";

/// Amounts by resource, in the units of [`Amounts`]; zero of what is not named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Of [`BUILT_IN`].
    pub built_in: [i64; 3],
    /// A number of pods.
    pub pods: i64,
    /// All others; none of them is zero.
    pub others: BTreeMap<String, i64>,
}

impl From<Amounts> for Sums {
    fn from(amounts: Amounts) -> Self {
        let mut sums = Self::default();
        for (name, amount) in amounts {
            match BUILT_IN.iter().position(|one| *one == name) {
                Some(at) => sums.built_in[at] = amount,
                None if name == PODS => sums.pods = amount,
                None if amount == 0 => {}
                None => drop(sums.others.insert(name, amount)),
            }
        }
        sums
    }
}

impl Sums {
    /// Of a resource by its name.
    pub fn get(&self, name: &str) -> i64 {
        match BUILT_IN.iter().position(|one| *one == name) {
            Some(at) => self.built_in[at],
            None if name == PODS => self.pods,
            None => self.others.get(name).copied().unwrap_or(0),
        }
    }

    /// Adds `more`, saturating.
    pub fn add(&mut self, more: &Self) {
        self.change(more, i64::saturating_add);
    }

    /// Takes `less` away, saturating.
    pub fn subtract(&mut self, less: &Self) {
        self.change(less, i64::saturating_sub);
    }

    fn change(&mut self, by: &Self, how: impl Fn(i64, i64) -> i64) {
        for (sum, by) in self.built_in.iter_mut().zip(by.built_in) {
            *sum = how(*sum, by);
        }
        self.pods = how(self.pods, by.pods);
        for (name, by) in &by.others {
            let sum = how(self.others.get(name).copied().unwrap_or(0), *by);
            match sum {
                0 => drop(self.others.remove(name)),
                sum => drop(self.others.insert(name.clone(), sum)),
            }
        }
    }

    /// There is less of some resource than in `other`.
    pub fn is_less_anywhere(&self, other: &Self) -> bool {
        let mut built_in = self.built_in.iter().zip(other.built_in);
        let mut others = other.others.keys().chain(self.others.keys());
        built_in.any(|(one, other)| *one < other)
            || self.pods < other.pods
            || others.any(|name| self.get(name) < other.get(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sums(amounts: &[(&str, i64)]) -> Sums {
        let amounts = amounts
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), *amount));
        Sums::from(amounts.collect::<Amounts>())
    }

    #[test]
    fn every_resource_is_found_by_its_name() {
        let given = [
            ("cpu", 1),
            ("memory", 2),
            ("ephemeral-storage", 3),
            ("pods", 4),
            ("x/y", 5),
        ];
        let sums = sums(&given);
        for (name, amount) in given {
            assert_eq!(sums.get(name), amount, "{name}");
        }
        assert_eq!(sums.get("other"), 0);
    }

    #[test]
    fn less_of_one_is_less_though_there_is_more_of_another() {
        let both = sums(&[("cpu", 1), ("x", 1)]);
        for (other, expected) in [
            (sums(&[("cpu", 1), ("x", 1)]), false),
            (sums(&[("cpu", 2)]), true),
            (sums(&[("x", 2)]), true),
            (sums(&[("y", 1)]), true),
            (sums(&[]), false),
        ] {
            assert_eq!(both.is_less_anywhere(&other), expected, "{other:?}");
        }
        assert!(sums(&[]).is_less_anywhere(&both));
    }

    proptest! {
        #[test]
        fn what_is_added_can_be_taken_again(a in 0..i64::MAX / 2, b in 1..i64::MAX / 2) {
            let before = sums(&[("x", a), ("cpu", a)]);
            let more = sums(&[("x", b), ("y", b), ("cpu", b), ("pods", b)]);
            let mut total = before.clone();
            total.add(&more);
            prop_assert_eq!(total.get("x"), a + b);
            prop_assert_eq!(total.get("cpu"), a + b);
            total.subtract(&more);
            prop_assert_eq!(total, before);
        }
    }
}
