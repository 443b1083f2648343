//! Where decisions go after they were made: a log line, the sink, and a short form on the autoscaler itself.

use std::collections::VecDeque;

use autoscale::{Decision, Inputs};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Annotation of an autoscaler that carries its last change of size and the reason in a sentence.
pub const LAST_DECISION: &str = "plimsoll.dev/last-decision";
/// Longest reason in the annotation, in characters.
const REASON_MAX: usize = 1000;

/// A decision with what it was made from: enough to explain it, and to make it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// The autoscaler's uid.
    pub uid: String,
    /// What it was made from.
    pub inputs: Inputs,
    /// What was concluded.
    pub decision: Decision,
}

/// Takes every decision that differs: a change of size, or another error, condition or limit than before.
pub trait DecisionSink: Send + Sync + 'static {
    /// Takes one; must not block.
    fn record(&self, record: DecisionRecord);
}

/// The last decisions, in memory.
pub struct RecentDecisions {
    records: Mutex<VecDeque<DecisionRecord>>,
    limit: usize,
}

impl RecentDecisions {
    /// Keeps the last `limit`.
    pub fn new(limit: usize) -> Self {
        Self {
            records: Mutex::default(),
            limit,
        }
    }

    /// What is kept, oldest first.
    pub fn all(&self) -> Vec<DecisionRecord> {
        self.records.lock().iter().cloned().collect()
    }
}

impl DecisionSink for RecentDecisions {
    fn record(&self, record: DecisionRecord) {
        let mut records = self.records.lock();
        if records.len() >= self.limit {
            records.pop_front();
        }
        records.push_back(record);
    }
}

/// The annotation's text for a change of size; nothing for other decisions.
pub fn annotation(decision: &Decision) -> Option<String> {
    let rescale = decision.rescale.as_ref()?;
    let reason: String = decision.summary().chars().take(REASON_MAX).collect();
    let value = serde_json::json!({
        "time": decision.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "from": rescale.from,
        "to": rescale.to,
        "reason": reason,
    });
    Some(value.to_string())
}
