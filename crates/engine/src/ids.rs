//! Ranges of user and group ids for sandboxes with a user namespace of their own: which are taken, and which comes next.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Ids of one sandbox: all that programs count on (KEP-127).
pub const COUNT: u32 = 1 << 16;
/// What is set aside for containers by agreement (systemd's list of ids), in ranges of [`COUNT`].
const FIRST: u32 = 0x0008_0000 / COUNT;
const LAST: u32 = 0x6FFF_0000 / COUNT;

/// Ids that somebody uses: the first, and how many.
pub type Used = (u64, u64);

/// The first id of a range that nobody uses, searched from a place that `id` tells; none when all are taken.
pub fn choose(id: &str, used: &[Used]) -> Option<u32> {
    let mut taken = BTreeSet::new();
    for (first, count) in used.iter().filter(|(_, count)| *count > 0) {
        let last = first.saturating_add(count - 1) / u64::from(COUNT);
        let from = (first / u64::from(COUNT)).max(u64::from(FIRST));
        taken.extend(from..=last.min(u64::from(LAST)));
    }
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let slots = u64::from(LAST - FIRST + 1);
    let start = hasher.finish() % slots;
    let slot = (0..slots)
        .map(|step| u64::from(FIRST) + (start + step) % slots)
        .find(|slot| !taken.contains(slot))?;
    Some(slot as u32 * COUNT)
}

/// What others use on this machine: ids that were given to users (subuid(5)), and those of every process that has a user namespace.
pub fn used_by_others() -> Vec<Used> {
    let mut used = Vec::new();
    for path in ["/etc/subuid", "/etc/subgid"] {
        used.extend(delegated(&fs::read_to_string(path).unwrap_or_default()));
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        for name in ["uid_map", "gid_map"] {
            // Gone meanwhile, or no process.
            let text = fs::read_to_string(process.path().join(name)).unwrap_or_default();
            used.extend(mapped(&text));
        }
    }
    used.sort_unstable();
    used.dedup();
    used
}

/// `name:first:count` in each line.
fn delegated(text: &str) -> Vec<Used> {
    let range = |line: &str| {
        let mut fields = line.split(':').skip(1);
        Some((
            fields.next()?.trim().parse().ok()?,
            fields.next()?.trim().parse().ok()?,
        ))
    };
    text.lines().filter_map(range).collect()
}

/// `inside outside count` in each line; what is the same on both sides is no range of anybody's own.
fn mapped(text: &str) -> Vec<Used> {
    let range = |line: &str| {
        let numbers: Vec<u64> = line
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        match numbers[..] {
            [inside, outside, count] if inside != outside => Some((outside, count)),
            _ => None,
        }
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_of_others_are_understood() {
        assert_eq!(
            delegated("me:100000:65536\n# x\nbad:1\nyou:165536:65536\n"),
            [(100_000, 65_536), (165_536, 65_536)]
        );
        assert_eq!(mapped("         0          0 4294967295\n"), []);
        assert_eq!(
            mapped("0 1000 1\n1 100000 65536\nx\n"),
            [(1000, 1), (100_000, 65_536)]
        );
    }

    #[test]
    fn the_last_range_is_found_and_then_there_is_none() {
        let all = (
            u64::from(FIRST * COUNT),
            u64::from((LAST - FIRST + 1) * COUNT),
        );
        assert_eq!(choose("a", &[all]), None);
        let but_one = (all.0 + u64::from(COUNT), all.1 - u64::from(COUNT));
        assert_eq!(choose("a", &[but_one]), Some(FIRST * COUNT));
        assert_ne!(
            choose("a", &[]),
            choose("b", &[]),
            "spread, so that instances seldom meet"
        );
        assert_eq!(
            choose("a", &[]),
            choose("a", &[(0, 0), (5, u64::MAX - 4)].map(|(a, _)| (a, 0)))
        );
    }

    proptest! {
        #[test]
        fn a_range_is_never_given_twice(ids in prop::collection::vec("[a-z0-9]{1,12}", 1..60), others in prop::collection::vec((any::<u32>(), 0_u32..200_000), 0..20)) {
            let mut used: Vec<Used> = others.iter().map(|(first, count)| (u64::from(*first), u64::from(*count))).collect();
            for id in ids {
                let first = u64::from(choose(&id, &used).expect("there are many"));
                prop_assert_eq!(first % u64::from(COUNT), 0);
                prop_assert!(first >= 0x0008_0000 && first + u64::from(COUNT) <= 0x7000_0000);
                for (other, count) in &used {
                    prop_assert!(*count == 0 || first + u64::from(COUNT) <= *other || other + count <= first);
                }
                used.push((first, u64::from(COUNT)));
            }
        }
    }
}
