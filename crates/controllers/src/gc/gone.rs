//! Objects whose end was seen: their kind may go a moment later, and then nobody could be asked about them any more.

use std::collections::{HashSet, VecDeque};

/// So many are remembered, the last ones.
const MAX: usize = 10_000;

/// Uids, in the order in which they went.
#[derive(Debug, Default)]
pub struct Gone {
    uids: HashSet<String>,
    order: VecDeque<String>,
}

impl Gone {
    /// Remembers one.
    pub fn insert(&mut self, uid: String) {
        if !self.uids.insert(uid.clone()) {
            return;
        }
        self.order.push_back(uid);
        if self.order.len() > MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }

    /// Whether this one is known to have gone.
    pub fn contains(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered() {
        let mut gone = Gone::default();
        for n in 0..=MAX {
            gone.insert(n.to_string());
            gone.insert(n.to_string());
        }
        assert_eq!((gone.uids.len(), gone.order.len()), (MAX, MAX));
        assert!(!gone.contains("0") && gone.contains("1") && gone.contains(&MAX.to_string()));
    }
}
