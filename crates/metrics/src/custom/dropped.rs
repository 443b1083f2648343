//! Why a sample, or a whole page, was not taken.

use std::collections::BTreeMap;
use std::fmt;

/// Why a sample was dropped. The texts are values of the label `reason` of `scrape_samples_dropped`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is no sample.
    Malformed,
    /// Its line, name or a label's value is too long.
    TooLong,
    /// It has too many labels.
    TooManyLabels,
    /// It is NaN or infinite.
    NotFinite,
    /// The page has the series twice.
    Duplicate,
    /// It has a name that tells how scraping went.
    Reserved,
    /// The pod has too many series.
    PodLimit,
    /// All pods together have too many series.
    TotalLimit,
    /// It fell too often to be a counter.
    Backwards,
}

impl Reason {
    /// The label's value.
    pub fn text(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLong => "too_long",
            Self::TooManyLabels => "too_many_labels",
            Self::NotFinite => "not_finite",
            Self::Duplicate => "duplicate",
            Self::Reserved => "reserved",
            Self::PodLimit => "pod_limit",
            Self::TotalLimit => "total_limit",
            Self::Backwards => "backwards",
        }
    }
}

/// How many samples of a page were dropped, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped(BTreeMap<Reason, u64>);

impl Dropped {
    /// Counts one.
    pub fn add(&mut self, reason: Reason) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// Reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        self.0.iter().map(|(reason, count)| (*reason, *count))
    }

    /// Whether nothing was dropped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The reasons without their counts, which move from page to page.
    pub fn reasons(&self) -> Vec<Reason> {
        self.0.keys().copied().collect()
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .iter()
            .map(|(reason, count)| format!("{count} {}", reason.text()))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

/// Why a page could not be had. The short texts are values of the label `reason` of `scrape_failed`.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The pod's annotations do not say where to scrape.
    #[error("{0}")]
    Annotation(String),
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Unreachable(#[source] std::io::Error),
    /// What answers does not speak TLS, or not well.
    #[error("TLS failed: {0}")]
    Tls(#[source] std::io::Error),
    /// No whole page in time.
    #[error("no whole page within {0} ms")]
    Timeout(u128),
    /// What answers does not speak HTTP, or broke off.
    #[error("the answer is no HTTP or broke off: {0}")]
    Broken(#[source] hyper::Error),
    /// Another status than 200.
    #[error("the answer is HTTP {0}")]
    Status(u16),
    /// It leads out of the pod's own port, or on and on.
    #[error("the answer is HTTP {code} and leads to {to:?}, which is not followed")]
    Redirect {
        /// The status.
        code: u16,
        /// What it names as its place.
        to: String,
    },
    /// The page is too long.
    #[error("the page is longer than {0} bytes")]
    TooLarge(usize),
}

impl Failure {
    /// The label's value.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Annotation(_) => "annotation",
            Self::Unreachable(_) => "unreachable",
            Self::Tls(_) => "tls",
            Self::Timeout(_) => "timeout",
            Self::Broken(_) => "broken",
            Self::Status(_) | Self::Redirect { .. } => "status",
            Self::TooLarge(_) => "too_large",
        }
    }
}
