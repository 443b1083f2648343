//! What the controller remembers of each autoscaler between evaluations, by uid. It is rebuilt after a restart by
//! starting from nothing: the first decision then records the current size.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use autoscale::record::gist;
use autoscale::{Decision, State};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::novelty::Novelty;
use super::selectors::Selectors;
use crate::informer::revision_of;
use crate::objects;

/// Clocks that are set right by less than this have not jumped.
const JUMP: Duration = Duration::from_secs(60);

/// Time between equal warnings; it is upstream's sync period.
const QUIET: Duration = Duration::from_secs(15);
/// Equal warnings that are told apart per autoscaler.
const WARNINGS_MAX: usize = 32;

/// All autoscalers' memories.
#[derive(Clone, Default)]
pub struct Memory {
    entries: Arc<Mutex<HashMap<String, Entry>>>,
    /// What they select.
    pub selectors: Arc<Selectors>,
}

#[derive(Default)]
struct Entry {
    running: bool,
    spec: Option<HorizontalPodAutoscalerSpec>,
    state: State,
    /// By the wall clock, and by one that does not jump.
    decided_at: Option<(Timestamp, Instant)>,
    written: Option<Arc<HorizontalPodAutoscaler>>,
    status_at: Option<Instant>,
    warnings: HashMap<(String, String), Instant>,
    error: Option<String>,
    novelty: Novelty,
}

/// How a decision differs from those before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Its error is another one, or gone.
    pub another_error: bool,
    /// See [`Novelty`].
    pub worth_keeping: bool,
}

/// One evaluation's turn; dropping it allows the next.
pub struct Turn {
    memory: Memory,
    uid: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(entry) = self.memory.entries.lock().get_mut(&self.uid) {
            entry.running = false;
        }
    }
}

impl Memory {
    /// Takes the autoscaler's turn, or nothing if it is taken.
    pub fn begin(&self, autoscaler: &HorizontalPodAutoscaler) -> Option<Turn> {
        let uid = objects::uid(autoscaler).to_owned();
        let mut entries = self.entries.lock();
        let entry = entries.entry(uid.clone()).or_default();
        if entry.running {
            return None;
        }
        entry.running = true;
        entry.spec = Some(autoscaler.spec.clone());
        drop(entries);
        Some(Turn {
            memory: self.clone(),
            uid,
        })
    }

    /// Whether this specification was never evaluated. Generations do not tell: API servers before 1.37 do not
    /// count an autoscaler's.
    pub fn is_new(&self, autoscaler: &HorizontalPodAutoscaler) -> bool {
        let entries = self.entries.lock();
        let entry = entries.get(objects::uid(autoscaler));
        entry.is_none_or(|entry| entry.spec.as_ref() != Some(&autoscaler.spec))
    }

    /// Forgets one autoscaler.
    pub fn forget(&self, uid: &str) {
        self.entries.lock().remove(uid);
        self.selectors.forget(uid);
    }

    /// Forgets all that are not among `autoscalers`.
    pub fn keep_only(&self, autoscalers: &[Arc<HorizontalPodAutoscaler>]) {
        let uids: std::collections::HashSet<&str> = autoscalers
            .iter()
            .map(|autoscaler| objects::uid(&**autoscaler))
            .collect();
        self.entries
            .lock()
            .retain(|uid, _| uids.contains(uid.as_str()));
        self.selectors.keep_only(|uid| uids.contains(uid));
    }

    /// The newer of the cached object and the one that our last status write returned.
    pub fn newest(&self, cached: &Arc<HorizontalPodAutoscaler>) -> Arc<HorizontalPodAutoscaler> {
        let entries = self.entries.lock();
        let written = entries
            .get(objects::uid(&**cached))
            .and_then(|entry| entry.written.clone());
        written
            .filter(|written| revision_of(&**written) > revision_of(&**cached))
            .unwrap_or_else(|| cached.clone())
    }

    /// The state for a decision at `now`. A clock that jumped, back or ahead, makes all that is remembered meaningless: it
    /// would be of the future, or forgotten at once. Starting anew keeps the current size.
    pub fn state(&self, uid: &str, now: Timestamp) -> State {
        let entries = self.entries.lock();
        entries
            .get(uid)
            .filter(|entry| {
                entry
                    .decided_at
                    .is_none_or(|before| !has_jumped(before, now))
            })
            .map(|entry| entry.state.clone())
            .unwrap_or_default()
    }

    /// Remembers a decision's state and error, and tells how it differs from the ones before.
    pub fn decided(&self, uid: &str, decision: &Decision) -> News {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(uid) else {
            return News::default();
        };
        let now = Instant::now();
        entry.state = decision.state.clone();
        entry.decided_at = Some((decision.at, now));
        let another_error = entry.error != decision.error;
        entry.error.clone_from(&decision.error);
        let (gist, rescaled) = (gist(decision), decision.rescale.is_some());
        News {
            another_error,
            worth_keeping: entry.novelty.is_new(&gist, rescaled, now),
        }
    }

    /// Whether a status in which only measured values changed may be written again, at this pace.
    pub fn status_is_due(&self, uid: &str, pace: Duration) -> bool {
        let entries = self.entries.lock();
        let at = entries.get(uid).and_then(|entry| entry.status_at);
        at.is_none_or(|at| at.elapsed() >= pace)
    }

    /// Remembers a written status.
    pub fn status_written(&self, uid: &str, autoscaler: HorizontalPodAutoscaler) {
        if let Some(entry) = self.entries.lock().get_mut(uid) {
            entry.written = Some(Arc::new(autoscaler));
            entry.status_at = Some(Instant::now());
        }
    }

    /// Whether a warning may be emitted: equal ones once per 15 s, as often as upstream comes by.
    pub fn may_warn(&self, uid: &str, reason: &str, message: &str) -> bool {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(uid) else {
            return true;
        };
        entry.warnings.retain(|_, at| at.elapsed() < QUIET);
        let key = (reason.to_owned(), message.to_owned());
        if entry.warnings.contains_key(&key) || entry.warnings.len() >= WARNINGS_MAX {
            return false;
        }
        entry.warnings.insert(key, Instant::now());
        true
    }
}

/// Whether the wall clock went back, or a minute further ahead than time has passed.
fn has_jumped((at, when): (Timestamp, Instant), now: Timestamp) -> bool {
    let passed = when.elapsed().saturating_add(JUMP);
    now < at || Duration::try_from(now.duration_since(at)).is_ok_and(|shown| shown > passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_does_not_outlive_a_jump_of_the_clock() {
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).expect("a time");
        let decided = (at(0), Instant::now());
        tokio::time::advance(Duration::from_secs(300)).await;
        for (second, jumped) in [
            (300, false),
            (310, false),
            (299, false),
            (0, false),
            (-1, true),
            (-86_400, true),
        ] {
            assert_eq!(has_jumped(decided, at(second)), jumped, "{second}");
        }
        for (second, jumped) in [(360, false), (361, true), (86_700, true)] {
            assert_eq!(has_jumped(decided, at(second)), jumped, "{second}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_is_due_at_its_pace() {
        let (memory, autoscaler) = (Memory::default(), HorizontalPodAutoscaler::default());
        let (quick, slow) = (Duration::from_secs(2), Duration::from_secs(15));
        let turn = memory.begin(&autoscaler).expect("nobody has it");
        assert!(memory.begin(&autoscaler).is_none());
        assert!(memory.status_is_due("", slow), "never written");
        memory.status_written("", autoscaler.clone());
        let mut seen = Vec::new();
        for second in 1..=15 {
            tokio::time::advance(Duration::from_secs(1)).await;
            seen.push((
                second,
                memory.status_is_due("", quick),
                memory.status_is_due("", slow),
            ));
        }
        assert_eq!(seen[0], (1, false, false));
        assert_eq!(seen[1], (2, true, false));
        assert_eq!(seen[13], (14, true, false));
        assert_eq!(seen[14], (15, true, true));
        drop(turn);
        assert!(memory.begin(&autoscaler).is_some());
    }
}
