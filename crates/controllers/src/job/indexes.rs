//! A set of completion indexes, written as upstream's status has it: `0,2-4`.

use std::collections::BTreeSet;
use std::fmt;

/// Ordered intervals without gaps of nothing between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(i32, i32)>);

impl Indexes {
    /// Reads a status; what is no index, or not below `completions`, is left out.
    pub fn parse(text: &str, completions: i32) -> Self {
        let mut set = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) else {
                continue;
            };
            set.add(first.max(0), last.min(completions - 1));
        }
        set
    }

    /// These and more.
    pub fn with(&self, more: impl IntoIterator<Item = i32>) -> Self {
        let mut set = self.clone();
        let ordered: BTreeSet<i32> = more.into_iter().collect();
        for index in ordered {
            set.add(index, index);
        }
        set
    }

    /// These and those of another set.
    pub fn union(&self, other: &Self) -> Self {
        let mut set = self.clone();
        for (first, last) in &other.0 {
            set.add(*first, *last);
        }
        set
    }

    /// How many there are.
    pub fn count(&self) -> i32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether the index is one of them.
    pub fn has(&self, index: i32) -> bool {
        let place = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(place).is_some_and(|(first, _)| *first <= index)
    }

    /// How many of `wanted` are among these.
    pub fn shared(&self, wanted: &Self) -> i32 {
        let mut count = 0;
        for (first, last) in &wanted.0 {
            let begin = self.0.partition_point(|(_, end)| end < first);
            let overlapping = self.0[begin..]
                .iter()
                .take_while(|(begin, _)| begin <= last);
            count += overlapping
                .map(|(begin, end)| end.min(last) - begin.max(first) + 1)
                .sum::<i32>();
        }
        count
    }

    /// The first `count` indexes below `completions` that are not among these.
    pub fn missing(&self, count: usize, completions: i32) -> Vec<i32> {
        let mut found = Vec::new();
        let mut candidate = 0;
        let end = (completions, completions);
        for (first, last) in self.0.iter().chain([&end]) {
            let room = count - found.len();
            found.extend((candidate..(*first).min(completions)).take(room));
            candidate = candidate.max(last.saturating_add(1));
        }
        found
    }

    fn add(&mut self, first: i32, last: i32) {
        if first > last {
            return;
        }
        // Intervals that overlap the new one or touch it become one with it.
        let begin = self
            .0
            .partition_point(|(_, end)| end.saturating_add(1) < first);
        let after = self
            .0
            .partition_point(|(start, _)| *start <= last.saturating_add(1));
        let (mut low, mut high) = (first, last);
        for (start, end) in &self.0[begin..after] {
            low = low.min(*start);
            high = high.max(*end);
        }
        self.0.splice(begin..after, [(low, high)]);
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn indexes_are_written_as_upstream_writes_them() {
        for (text, completions, expected) in [
            ("", 10, ""),
            ("0", 10, "0"),
            ("0,1", 10, "0,1"),
            ("0,1,2", 10, "0-2"),
            ("0-3,5,7,8", 10, "0-3,5,7,8"),
            ("0-9", 5, "0-4"),
            ("3,7-9", 8, "3,7"),
            ("x,2,a-b,4", 10, "2,4"),
        ] {
            assert_eq!(
                Indexes::parse(text, completions).to_string(),
                expected,
                "{text}"
            );
        }
        let set = Indexes::parse("1,4-6", 10);
        assert_eq!(set.with([2, 3, 9]).to_string(), "1-6,9");
        assert_eq!(set.count(), 4);
        assert_eq!(set.missing(4, 10), [0, 2, 3, 7]);
        assert_eq!(set.missing(10, 10), [0, 2, 3, 7, 8, 9]);
        assert_eq!(set.missing(10, 3), [0, 2]);
        assert_eq!(set.missing(0, 10), Vec::<i32>::new());
        assert_eq!(set.shared(&Indexes::parse("0-4,6", 10)), 3);
    }

    proptest! {
        #[test]
        fn they_are_sets(a in prop::collection::btree_set(0..40_i32, 0..20), b in prop::collection::btree_set(0..40_i32, 0..20), count in 0..50_usize) {
            let (first, second) = (Indexes::default().with(a.clone()), Indexes::default().with(b.clone()));
            let both = first.union(&second);
            let expected: BTreeSet<i32> = a.union(&b).copied().collect();
            prop_assert_eq!(both.count() as usize, expected.len());
            for index in 0..41 {
                prop_assert_eq!(both.has(index), expected.contains(&index));
            }
            prop_assert_eq!(&Indexes::parse(&both.to_string(), 40), &both);
            prop_assert_eq!(first.shared(&second) as usize, a.intersection(&b).count());
            let missing: Vec<i32> = (0..40).filter(|index| !expected.contains(index)).take(count).collect();
            prop_assert_eq!(both.missing(count, 40), missing);
        }
    }
}
