//! Series that tell how the scraping of a pod goes, asked for like any other metric.
//!
//! `up`, `scrape_duration_seconds` and `scrape_samples_scraped` are Prometheus'; ours are `scrape_samples_dropped{reason}`, how
//! many samples of the last page were not taken, and `scrape_failed{reason}`, 1 while the pod cannot be scraped.

use std::collections::BTreeMap;
use std::time::Duration;

use super::dropped::Dropped;
use super::key::Key;

/// Whether a name belongs to this module; a pod's own series of that name are dropped.
pub fn is_ours(name: &str) -> bool {
    matches!(
        name,
        "up" | "scrape_duration_seconds"
            | "scrape_samples_scraped"
            | "scrape_samples_dropped"
            | "scrape_failed"
    )
}

/// How a scrape went that gave a page.
pub fn answered(took: Duration, seen: u64, dropped: &Dropped) -> BTreeMap<Key, f64> {
    let mut values = BTreeMap::from([
        (Key::of("up", []), 1.0),
        (Key::of("scrape_duration_seconds", []), took.as_secs_f64()),
        (Key::of("scrape_samples_scraped", []), seen as f64),
    ]);
    values.extend(dropped.iter().map(|(reason, count)| {
        let key = Key::of("scrape_samples_dropped", [("reason", reason.text())]);
        (key, count as f64)
    }));
    values
}

/// How a scrape went that gave none.
pub fn failed(reason: &'static str) -> BTreeMap<Key, f64> {
    BTreeMap::from([
        (Key::of("up", []), 0.0),
        (Key::of("scrape_failed", [("reason", reason)]), 1.0),
    ])
}
