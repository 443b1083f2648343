//! What one endpoint, and all of them together, may cost.

use std::time::Duration;

/// Bounds of scraping; what is beyond is refused or dropped, counted and told.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time between two scrapes of one pod.
    pub interval: Duration,
    /// Longest that one scrape may take, less than the interval.
    pub timeout: Duration,
    /// Longest pause between two scrapes of a pod that fails; it doubles from the interval.
    pub backoff_max: Duration,
    /// Scrapes under way at once.
    pub scrapes_max: usize,
    /// Longest page; a longer one is refused as a whole.
    pub page_bytes_max: usize,
    /// Longest line of a page.
    pub line_bytes_max: usize,
    /// Longest name of a metric or label.
    pub name_bytes_max: usize,
    /// Longest value of a label.
    pub value_bytes_max: usize,
    /// Most labels of one series.
    pub labels_max: usize,
    /// Most series of one pod.
    pub series_per_pod_max: usize,
    /// Most series in all.
    pub series_max: usize,
    /// Most bytes of all names and labels.
    pub text_bytes_max: usize,
    /// Over how long rates, averages and quantiles are taken.
    pub window: Duration,
    /// Age from which a pod's values are no longer told, because it cannot be scraped.
    pub stale: Duration,
    /// Most metric names that discovery lists; others are answered all the same.
    pub listed_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(800),
            backoff_max: Duration::from_secs(8),
            scrapes_max: 64,
            page_bytes_max: 2 * 1024 * 1024,
            line_bytes_max: 4096,
            name_bytes_max: 256,
            value_bytes_max: 1024,
            labels_max: 32,
            series_per_pod_max: 2000,
            series_max: 50_000,
            text_bytes_max: 16 * 1024 * 1024,
            window: Duration::from_secs(10),
            stale: Duration::from_secs(10),
            listed_max: 300,
        }
    }
}
