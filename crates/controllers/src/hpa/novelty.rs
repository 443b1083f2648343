//! Which decisions are worth keeping: those that differ from the one before, and not too many of them.
//!
//! A change of size always is. Another error, condition or limit is too (`autoscale::record::gist`), but load that
//! trembles around a threshold may turn such a one round every second: then a few are kept as examples.

use std::time::Duration;

use tokio::time::Instant;

/// Time between two equal ones: upstream's sync period, more often it would not have looked.
const AGAIN: Duration = Duration::from_secs(15);
/// So many without a change of size are kept ...
const MAX: usize = 6;
/// ... in so much time.
const WINDOW: Duration = Duration::from_secs(300);

/// What was kept of one autoscaler lately.
#[derive(Default)]
pub struct Novelty {
    last: Option<String>,
    recent: Vec<(String, Instant)>,
}

impl Novelty {
    /// Whether a decision of this gist is to be kept; remembers it if so.
    pub fn is_new(&mut self, gist: &str, rescaled: bool, now: Instant) -> bool {
        if !rescaled {
            if self.last.as_deref() == Some(gist) {
                return false;
            }
            self.recent
                .retain(|(_, at)| now.saturating_duration_since(*at) < WINDOW);
            let too_soon = self.recent.iter().any(|(kept, at)| {
                kept.as_str() == gist && now.saturating_duration_since(*at) < AGAIN
            });
            if too_soon || self.recent.len() >= MAX {
                return false;
            }
            self.recent.push((gist.to_owned(), now));
        }
        self.last = Some(gist.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_kept_and_what_trembles_is_not() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut novelty = Novelty::default();
        assert!(novelty.is_new("well", false, at(0)), "the first");
        assert!(!novelty.is_new("well", false, at(1)), "the same");
        assert!(novelty.is_new("well", true, at(2)), "a change of size");
        assert!(novelty.is_new("well", true, at(3)), "another one");
        assert!(novelty.is_new("limited", false, at(4)), "another gist");
        assert!(!novelty.is_new("well", false, at(5)), "back too soon");
        assert!(novelty.is_new("well", false, at(15)), "back later");

        let mut trembling = Novelty::default();
        let kept = (0..3600)
            .filter(|second| {
                let gist = if second % 2 == 0 { "high" } else { "low" };
                trembling.is_new(gist, false, at(*second))
            })
            .count();
        assert!((12..=MAX * 13).contains(&kept), "{kept} in an hour");
    }

    #[test]
    fn errors_that_never_repeat_are_bounded() {
        let start = Instant::now();
        let mut novelty = Novelty::default();
        let kept = (0..300u64)
            .filter(|n| {
                novelty.is_new(
                    &format!("error {n}"),
                    false,
                    start + Duration::from_secs(*n),
                )
            })
            .count();
        assert_eq!(kept, MAX);
        assert!(novelty.is_new("error 300", true, start + Duration::from_secs(299)));
    }
}
