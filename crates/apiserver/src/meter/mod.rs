//! What the server counts about itself, for `/metrics`: requests by verb and resource, their durations, what is open.
//!
//! A request costs one look into a map that only grows when a combination of labels is new, and a few atomic additions.
//! Labels are words of this server and of kinds that it serves, never of clients; their combinations are bounded.

mod labels;
mod page;
mod process;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::RwLock;

pub(crate) use labels::Labels;
pub(crate) use page::{CONTENT_TYPE, page};

/// Combinations of labels that are told apart; what comes after them is counted by its verb alone.
const SERIES_MAX: usize = 4096;

/// Upper bounds of the durations that are told apart, in seconds (upstream's).
const BOUNDS_S: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

/// Everything that is counted.
#[derive(Default)]
pub(crate) struct Meter {
    series: RwLock<HashMap<Labels, Arc<Series>>>,
    reading: Arc<AtomicI64>,
    writing: Arc<AtomicI64>,
}

/// What is counted of requests with the same labels.
#[derive(Default)]
struct Series {
    /// How many were answered, by HTTP status.
    codes: RwLock<Vec<(u16, AtomicU64)>>,
    durations: Durations,
    /// Those that last and are open.
    open: AtomicI64,
    /// Events that watches sent.
    events: AtomicU64,
}

#[derive(Default)]
struct Durations {
    /// One more than there are bounds: the last is of what is longer than all.
    counts: [AtomicU64; BOUNDS_S.len() + 1],
    sum_us: AtomicU64,
}

impl Meter {
    /// A request was answered. One that lasts has no duration: nobody knows yet.
    pub fn answered(&self, labels: Labels, code: u16, took: Option<Duration>) {
        let series = self.series(labels);
        series.count(code);
        if let Some(took) = took {
            series.durations.add(took);
        }
    }

    /// Counts a request in flight until the result is dropped.
    pub fn in_flight(&self, writes: bool) -> InFlight {
        let gauge = if writes { &self.writing } else { &self.reading };
        gauge.fetch_add(1, Relaxed);
        InFlight(gauge.clone())
    }

    /// Counts a request that lasts until the last copy of the result is dropped.
    pub fn lasting(&self, labels: Labels) -> Lasting {
        let series = self.series(labels);
        series.open.fetch_add(1, Relaxed);
        Lasting(Arc::new(Open(series)))
    }

    fn series(&self, labels: Labels) -> Arc<Series> {
        let known = self.series.read().get(&labels).cloned();
        known.unwrap_or_else(|| {
            let mut all = self.series.write();
            let bounded = match all.len() < SERIES_MAX {
                true => labels,
                false => Labels {
                    verb: labels.verb,
                    ..Labels::default()
                },
            };
            all.entry(bounded).or_default().clone()
        })
    }
}

impl Series {
    fn count(&self, code: u16) {
        let add = |codes: &[(u16, AtomicU64)]| {
            let known = codes.iter().find(|(known, _)| *known == code);
            known
                .map(|(_, count)| count.fetch_add(1, Relaxed))
                .is_some()
        };
        if add(&self.codes.read()) {
            return;
        }
        let mut codes = self.codes.write();
        // Another one may have been first.
        if !add(&codes) {
            codes.push((code, AtomicU64::new(1)));
        }
    }
}

impl Durations {
    fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let at = BOUNDS_S.partition_point(|bound| *bound < seconds);
        self.counts[at].fetch_add(1, Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us, Relaxed);
    }
}

/// See [`Meter::in_flight`].
pub(crate) struct InFlight(Arc<AtomicI64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// See [`Meter::lasting`].
#[derive(Clone)]
pub(crate) struct Lasting(Arc<Open>);

struct Open(Arc<Series>);

impl Lasting {
    /// A watch sent an event.
    pub fn event(&self) {
        self.0.0.events.fetch_add(1, Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
