//! The recent values of one series, and what follows from them: rate, average, latest.
//!
//! **Rate** is the increase divided by the time between the first and the last value of the window. Counter resets are
//! handled as Prometheus' `rate` handles them: a counter that fell began anew at zero. Unlike there, nothing is extrapolated
//! to the window's ends: with a value each second the ends are a second away at most, and what was measured can be checked
//! by hand. A counter that falls again and again is none, and has no rate.
//!
//! Times are of a monotonic clock, so that a wall clock that is set changes nothing.

use std::collections::VecDeque;
use std::time::Duration;

/// Most values kept, whatever the interval.
const POINTS_MAX: usize = 64;
/// A counter that fell more often than this within the window is none.
const RESETS_MAX: usize = 2;

/// A rate over less than this says more of chance than of the load: a new pod's second page may follow at once on its first.
const SPAN_MIN: Duration = Duration::from_millis(500);

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at: Duration,
    value: f64,
}

/// Values of one series, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Points(VecDeque<Point>);

/// Something told about a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    /// The value.
    pub value: f64,
    /// When its last part was measured.
    pub at: Duration,
    /// True length of the window; zero for a value of one moment.
    pub window: Duration,
}

impl Points {
    /// Adds a value. One that is not newer than the last is dropped. After a silence longer than `window` it starts anew:
    /// an average over the gap would hide what is now.
    pub fn push(&mut self, at: Duration, value: f64, window: Duration) {
        debug_assert!(value.is_finite(), "pages hold finite values only");
        if let Some(last) = self.0.back() {
            if at <= last.at {
                return;
            }
            if at - last.at > window {
                self.0.clear();
            }
        }
        self.0.push_back(Point { at, value });
        // One value at or before the window's beginning is kept: the rate is taken from it.
        while self.0.len() > POINTS_MAX
            || self
                .0
                .get(1)
                .is_some_and(|next| at.saturating_sub(next.at) >= window)
        {
            self.0.pop_front();
        }
    }

    /// The last value.
    pub fn latest(&self) -> Option<Told> {
        let last = self.0.back()?;
        Some(Told {
            value: last.value,
            at: last.at,
            window: Duration::ZERO,
        })
    }

    /// The mean of the window's values.
    pub fn average(&self) -> Option<Told> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let count = self.0.len() as f64;
        Some(Told {
            // divided first: the sum could leave the range
            value: self.0.iter().map(|point| point.value / count).sum(),
            at: last.at,
            window: last.at - first.at,
        })
    }

    /// By how much the counter grew within the window. None with fewer than two values, and for what is no counter.
    pub fn increase(&self) -> Option<Told> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        if self.0.len() < 2
            || self.falls_too_often()
            || self.0.iter().any(|point| point.value < 0.0)
        {
            return None;
        }
        let steps = self.0.iter().zip(self.0.iter().skip(1));
        let grown: f64 = steps
            .map(|(before, after)| {
                if after.value < before.value {
                    after.value
                } else {
                    after.value - before.value
                }
            })
            .sum();
        grown.is_finite().then_some(Told {
            value: grown,
            at: last.at,
            window: last.at - first.at,
        })
    }

    /// Increase a second. None before half a second is known.
    pub fn rate(&self) -> Option<Told> {
        let increase = self.increase().filter(|told| told.window >= SPAN_MIN)?;
        let value = increase.value / increase.window.as_secs_f64();
        value.is_finite().then_some(Told { value, ..increase })
    }

    /// Whether this is no counter.
    pub fn falls_too_often(&self) -> bool {
        let steps = self.0.iter().zip(self.0.iter().skip(1));
        steps
            .filter(|(before, after)| after.value < before.value)
            .count()
            > RESETS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn points(values: &[(u64, f64)]) -> Points {
        let mut points = Points::default();
        for (at, value) in values {
            points.push(Duration::from_secs(*at), *value, WINDOW);
        }
        points
    }

    #[test]
    fn rates_of_counters() {
        let steady: Vec<(u64, f64)> = (0..60).map(|n| (n, n as f64 * 3.0)).collect();
        for (name, values, rate) in [
            ("nothing", vec![], None),
            ("one value", vec![(0, 5.0)], None),
            ("two values", vec![(0, 5.0), (2, 9.0)], Some((2.0, 2))),
            ("steady", steady, Some((3.0, 10))),
            ("idle", vec![(0, 7.0), (5, 7.0)], Some((0.0, 5))),
            (
                "a reset begins at zero",
                vec![(0, 100.0), (1, 110.0), (2, 4.0), (4, 6.0)],
                Some(((10.0 + 4.0 + 2.0) / 4.0, 4)),
            ),
            (
                "two resets",
                vec![(0, 5.0), (1, 1.0), (2, 3.0), (3, 0.0), (4, 2.0)],
                Some((5.0 / 4.0, 4)),
            ),
            (
                "no counter falls each time",
                vec![(0, 9.0), (1, 7.0), (2, 5.0), (3, 3.0)],
                None,
            ),
            ("no counter is negative", vec![(0, -5.0), (1, 3.0)], None),
            (
                "what lies before the window has left",
                vec![(0, 0.0), (1, 1000.0), (11, 1000.0), (12, 1001.0)],
                Some((1.0 / 11.0, 11)),
            ),
            (
                "a silence starts anew",
                vec![(0, 0.0), (1, 1.0), (12, 900.0)],
                None,
            ),
            ("the same time again", vec![(3, 1.0), (3, 9.0)], None),
            (
                "a clock that goes back",
                vec![(3, 1.0), (4, 2.0), (2, 9.0)],
                Some((1.0, 1)),
            ),
            (
                "too large",
                vec![(0, 0.0), (1, f64::MAX), (2, 0.0), (3, f64::MAX)],
                None,
            ),
        ] {
            let told = points(&values).rate();
            assert_eq!(
                told.map(|told| (told.value, told.window.as_secs())),
                rate,
                "{name}"
            );
        }
    }

    #[test]
    fn a_moment_is_no_rate() {
        let mut points = Points::default();
        for (ms, value) in [(0, 0.0), (20, 1.0)] {
            points.push(Duration::from_millis(ms), value, WINDOW);
        }
        assert_eq!(points.rate(), None, "not fifty a second");
        points.push(Duration::from_millis(1020), 2.0, WINDOW);
        assert!(points.rate().is_some_and(|told| told.value < 2.0));
    }

    #[test]
    fn averages_and_latest_values() {
        let gauge = points(&[(0, 1.0), (1, 5.0), (2, 3.0)]);
        assert_eq!(gauge.latest().map(|told| told.value), Some(3.0));
        let average = gauge.average().expect("values");
        assert_eq!((average.value, average.window.as_secs()), (3.0, 2));
        assert_eq!(
            points(&[(0, 4.0)]).average().map(|told| told.value),
            Some(4.0)
        );
        assert_eq!(points(&[]).average(), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_bounded_and_finite(
            values in proptest::collection::vec((0u64..2_000_000, -1e300f64..1e300), 0..300),
        ) {
            let mut points = Points::default();
            for (ms, value) in values {
                points.push(Duration::from_millis(ms), value, WINDOW);
                prop_assert!(points.0.len() <= POINTS_MAX);
                for told in [points.latest(), points.average(), points.rate(), points.increase()].into_iter().flatten() {
                    prop_assert!(told.value.is_finite());
                    prop_assert!(told.window <= WINDOW * 2);
                }
                prop_assert!(points.rate().is_none_or(|told| told.value >= 0.0));
            }
        }

        #[test]
        fn a_counter_with_a_restart_has_the_rate_of_its_increments(
            steps in proptest::collection::vec(0u32..1000, 2..10), restart in 0usize..10,
        ) {
            let mut points = Points::default();
            let (mut value, mut grown) = (500.0, 0.0);
            points.push(Duration::ZERO, value, WINDOW);
            for (n, step) in steps.iter().enumerate() {
                // a restart that is noticed: the new process has counted less than the old one
                if n == restart && f64::from(*step) < value {
                    value = 0.0;
                }
                value += f64::from(*step);
                grown += f64::from(*step);
                points.push(Duration::from_secs(n as u64 + 1), value, WINDOW);
            }
            let told = points.increase().expect("a counter");
            prop_assert!((told.value - grown).abs() < 1e-6, "{} instead of {grown}", told.value);
        }
    }
}
