//! Names of custom kinds as the table's names are: texts that live as long as the program.
//!
//! A row's names are `&'static str`, and the whole server copies them about freely. Giving custom kinds the same kind of
//! name keeps that, at a price that is bounded: each distinct name once in a process, and of all together no more than
//! [`BYTES_MAX`]. Making the same definition again and again costs nothing.

use std::collections::HashSet;

use parking_lot::Mutex;

/// Room for the names of some ten thousand definitions.
const BYTES_MAX: usize = 4 << 20;
/// What a set's entry costs besides its text.
const OVERHEAD_BYTES: usize = 32;

static NAMES: Mutex<Option<Names>> = Mutex::new(None);

#[derive(Default)]
struct Names {
    known: HashSet<&'static str>,
    bytes: usize,
}

impl Names {
    fn get(&mut self, text: &str) -> Option<&'static str> {
        if let Some(known) = self.known.get(text) {
            return Some(known);
        }
        let bytes = text.len() + OVERHEAD_BYTES;
        if self.bytes + bytes > BYTES_MAX {
            return None;
        }
        self.bytes += bytes;
        let kept: &'static str = Box::leak(text.into());
        self.known.insert(kept);
        Some(kept)
    }
}

/// The text for as long as the program runs. `None` when there have been too many different ones.
pub(crate) fn intern(text: &str) -> Option<&'static str> {
    NAMES.lock().get_or_insert_default().get(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_all_are_bounded() {
        let mut names = Names::default();
        let one = names.get("widgets").expect("room");
        assert!(std::ptr::eq(one, names.get("widgets").expect("known")));
        assert!(names.get(&"x".repeat(BYTES_MAX)).is_none());
        assert!(names.get("gadgets").is_some());
    }
}
