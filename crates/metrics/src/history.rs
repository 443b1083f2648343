//! The recent samples of one container or node, and the usage that follows from them.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

/// Most samples kept, whatever the interval.
const SAMPLES_MAX: usize = 128;
/// Readings further apart than this many windows say nothing of the present: the clock was set ahead, or nothing was read for
/// long.
const GAP_WINDOWS_MAX: u32 = 12;
/// A rate above this many cores is a lie of its source.
const CORES_MAX: f64 = 1e6;

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When it was taken.
    pub at: Timestamp,
    /// CPU time used since the start, in seconds.
    pub cpu_seconds: f64,
    /// Working set.
    pub memory_bytes: f64,
    /// When the container started, in seconds since 1970, if told.
    pub started_seconds: Option<f64>,
}

/// What is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// CPU in thousand-millionths of a core, averaged over the window.
    pub cpu_nanocores: i64,
    /// Working set at the end of the window.
    pub memory_bytes: i64,
    /// End of the window.
    pub at: Timestamp,
    /// Its true length.
    pub window: Duration,
}

/// Samples of one container or node, oldest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    points: VecDeque<Point>,
}

impl History {
    /// Adds a reading. A restart (a later start, or a counter that fell) starts anew; a reading that is not newer
    /// than the last says nothing and is dropped, unless the clock went back by more than `window`. After a jump ahead, or a long
    /// silence, it starts anew too: an average over the gap would hide what is used now.
    pub fn push(&mut self, point: Point, window: Duration) {
        let sane = |value: f64| value.is_finite() && value >= 0.0;
        if !sane(point.cpu_seconds) || !sane(point.memory_bytes) {
            return;
        }
        if let Some(last) = self.points.back() {
            let later_start = match (point.started_seconds, last.started_seconds) {
                (Some(now), Some(before)) => now > before,
                _ => false,
            };
            if later_start
                || point.cpu_seconds < last.cpu_seconds
                || before(point.at, last.at) > window
                || before(last.at, point.at) > window.saturating_mul(GAP_WINDOWS_MAX)
            {
                self.points.clear();
            } else if point.at <= last.at {
                return;
            }
        }
        self.points.push_back(point);
        // One sample beyond the window is kept: the rate is taken from it.
        while self.points.len() > SAMPLES_MAX
            || self
                .points
                .get(1)
                .is_some_and(|next| before(next.at, point.at) >= window)
        {
            self.points.pop_front();
        }
    }

    /// Usage over about `window`: from the youngest sample that is at least as old, or the oldest there is. None
    /// with fewer than two samples.
    pub fn usage(&self) -> Option<Usage> {
        let (first, last) = (self.points.front()?, self.points.back()?);
        let window = before(first.at, last.at);
        if window.is_zero() {
            return None;
        }
        let cores = (last.cpu_seconds - first.cpu_seconds) / window.as_secs_f64();
        if !(0.0..CORES_MAX).contains(&cores) {
            return None;
        }
        Some(Usage {
            cpu_nanocores: (cores * 1e9).round() as i64,
            memory_bytes: last.memory_bytes.min(1e18) as i64,
            at: last.at,
            window,
        })
    }

    /// When the last reading was taken.
    #[cfg(test)]
    pub fn last(&self) -> Option<Timestamp> {
        self.points.back().map(|point| point.at)
    }
}

/// How long `a` is before `b`; zero if it is not.
fn before(a: Timestamp, b: Timestamp) -> Duration {
    b.duration_since(a).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(5);

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).expect("a time")
    }

    fn point(ms: i64, cpu_seconds: f64) -> Point {
        Point {
            at: at(ms),
            cpu_seconds,
            memory_bytes: 1000.0,
            started_seconds: Some(1.0),
        }
    }

    fn history(points: &[Point]) -> History {
        let mut history = History::default();
        points.iter().for_each(|point| history.push(*point, WINDOW));
        history
    }

    #[test]
    fn one_sample_is_no_rate() {
        assert_eq!(history(&[]).usage(), None);
        assert_eq!(history(&[point(0, 1.0)]).usage(), None);
        assert_eq!(
            history(&[point(0, 1.0), point(0, 2.0)]).usage(),
            None,
            "the same time twice"
        );
    }

    #[test]
    fn the_window_is_what_was_measured() {
        let usage = history(&[point(0, 1.0), point(2000, 2.0)])
            .usage()
            .expect("two samples");
        assert_eq!(
            (usage.cpu_nanocores, usage.window, usage.at),
            (500_000_000, Duration::from_secs(2), at(2000))
        );
        let seconds: Vec<Point> = (0..60).map(|n| point(n * 1000, n as f64 * 0.25)).collect();
        let usage = history(&seconds).usage().expect("many samples");
        assert_eq!((usage.cpu_nanocores, usage.window), (250_000_000, WINDOW));
        assert!(
            history(&seconds).points.len() <= 7,
            "what lies before the window is dropped"
        );
    }

    #[test]
    fn a_step_shows_in_the_first_second() {
        let mut points: Vec<Point> = (0..10).map(|n| point(n * 1000, n as f64 * 0.1)).collect();
        points.push(point(10_000, 0.9 + 1.0));
        let usage = history(&points).usage().expect("many samples");
        assert_eq!(
            usage.cpu_nanocores, 280_000_000,
            "0.1 cores for four seconds and 1 for the fifth"
        );
    }

    #[test]
    fn a_restart_starts_anew() {
        let later = Point {
            started_seconds: Some(2.0),
            ..point(2000, 9.0)
        };
        assert_eq!(
            history(&[point(0, 1.0), point(1000, 2.0), later]).usage(),
            None
        );
        assert_eq!(
            history(&[point(0, 1.0), point(1000, 2.0), point(2000, 0.5)]).usage(),
            None,
            "the counter fell"
        );
    }

    #[test]
    fn what_a_source_must_not_say_is_dropped() {
        let lies = [f64::NAN, f64::INFINITY, -1.0];
        for lie in lies {
            let memory = Point {
                memory_bytes: lie,
                ..point(2000, 2.5)
            };
            let usage =
                history(&[point(0, 1.0), point(1000, 2.0), point(2000, lie), memory]).usage();
            assert_eq!(usage.map(|usage| usage.at), Some(at(1000)), "{lie}");
        }
        assert_eq!(
            history(&[point(0, 1.0), point(1000, 1e300)]).usage(),
            None,
            "more cores than there can be"
        );
        let backwards = history(&[point(0, 1.0), point(10_000, 2.0), point(9000, 3.0)]);
        assert_eq!(backwards.last(), Some(at(10_000)));
        let jumped = history(&[
            point(100_000, 1.0),
            point(101_000, 2.0),
            point(0, 3.0),
            point(1000, 4.0),
        ]);
        assert_eq!(
            jumped.usage().map(|usage| usage.at),
            Some(at(1000)),
            "a clock set back is followed"
        );
    }

    #[test]
    fn a_clock_set_ahead_does_not_make_a_busy_container_idle() {
        let mut points: Vec<Point> = (0..10).map(|n| point(n * 1000, n as f64)).collect();
        points.push(point(86_400_000, 10.0));
        assert_eq!(history(&points).usage(), None, "not yet known");
        points.push(point(86_401_000, 11.0));
        let usage = history(&points).usage().expect("two samples");
        assert_eq!(
            (usage.cpu_nanocores, usage.at),
            (1_000_000_000, at(86_401_000))
        );
    }

    proptest! {
        #[test]
        fn whatever_comes_memory_and_rate_are_bounded(
            points in proptest::collection::vec((0i64..600_000, any::<f64>(), any::<f64>()), 0..400),
        ) {
            let mut history = History::default();
            for (ms, cpu_seconds, memory_bytes) in points {
                history.push(Point { at: at(ms), cpu_seconds, memory_bytes, started_seconds: None }, WINDOW);
                prop_assert!(history.points.len() <= SAMPLES_MAX);
                if let Some(usage) = history.usage() {
                    prop_assert!(usage.cpu_nanocores >= 0 && usage.memory_bytes >= 0 && !usage.window.is_zero());
                }
            }
        }
    }
}
