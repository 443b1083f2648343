//! Scrapes every pod that wants it: one task a pod, at a moment of the interval that is the pod's own.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::dropped::Failure;
use super::fetch::fetch;
use super::limits::Limits;
use super::objects::Pod;
use super::series::SeriesStore;
use super::target::{Target, target};
use super::tls;

/// A trouble that was not seen for so long is logged when it comes again.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// Everything that the tasks share.
#[derive(Clone)]
pub struct Shared {
    /// Where pages go.
    pub series: Arc<Mutex<SeriesStore>>,
    /// Its bounds.
    pub limits: Arc<Limits>,
    /// From when the series' times are counted.
    pub epoch: Instant,
    slots: Arc<Semaphore>,
    tls: Arc<rustls::ClientConfig>,
}

impl Shared {
    /// Nothing scraped yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            series: Arc::new(Mutex::new(SeriesStore::new(limits.clone()))),
            slots: Arc::new(Semaphore::new(limits.scrapes_max)),
            limits: Arc::new(limits),
            epoch: Instant::now(),
            tls: tls::config(),
        }
    }
}

type Name = (String, String);

/// The tasks of all pods; they end when it is dropped.
pub struct Scrapers {
    shared: Shared,
    pods: HashMap<Name, Running>,
}

struct Running {
    target: Target,
    _task: AbortOnDropHandle<()>,
}

impl Scrapers {
    /// No pods yet.
    pub fn new(shared: Shared) -> Self {
        Self {
            shared,
            pods: HashMap::new(),
        }
    }

    /// Takes in a pod's present state.
    pub fn set(&mut self, pod: &Pod) {
        let meta = &pod.metadata;
        let name = (
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        );
        let Some(target) = target(pod) else {
            return self.remove(&name.0, &name.1);
        };
        let target = match target {
            Ok(target) => target,
            Err(failure) => return self.refuse(name, &failure),
        };
        let before = self.pods.remove(&name);
        if let Some(before) = before {
            if before.target == target {
                self.pods.insert(name, before);
                return;
            }
            let same = Target {
                ready: target.ready,
                ..before.target.clone()
            };
            if same != target {
                self.shared.series.lock().remove(&name.0, &name.1);
            }
        }
        let generation = self.shared.series.lock().open(&name.0, &name.1);
        let work = scrape(
            self.shared.clone(),
            name.clone(),
            target.clone(),
            generation,
        );
        let task = AbortOnDropHandle::new(tokio::spawn(work));
        let running = Running {
            target,
            _task: task,
        };
        self.pods.insert(name, running);
    }

    /// A pod that cannot be scraped, because of what it says itself.
    fn refuse(&mut self, name: Name, failure: &Failure) {
        self.pods.remove(&name);
        let now = self.shared.epoch.elapsed();
        let mut series = self.shared.series.lock();
        let (namespace, pod) = (&*name.0, &*name.1);
        let known = series.select(Some(namespace), now, |_, name| name == pod);
        if known.is_empty() {
            tracing::warn!(namespace, pod, "not scraped: {failure}");
        }
        let generation = series.open(namespace, pod);
        series.fail(namespace, pod, generation, failure.reason(), now);
    }

    /// Forgets a pod.
    pub fn remove(&mut self, namespace: &str, pod: &str) {
        self.pods.remove(&(namespace.to_owned(), pod.to_owned()));
        self.shared.series.lock().remove(namespace, pod);
    }

    /// Forgets all pods but these.
    pub fn keep_only(&mut self, exists: impl Fn(&str, &str) -> bool) {
        let gone: Vec<Name> = {
            let series = self.shared.series.lock();
            let known = series.select(None, Duration::ZERO, |namespace, pod| {
                !exists(namespace, pod)
            });
            let names = known.iter();
            names
                .map(|pod| (pod.namespace.to_owned(), pod.name.to_owned()))
                .collect()
        };
        for (namespace, pod) in gone {
            self.remove(&namespace, &pod);
        }
    }
}

async fn scrape(shared: Shared, (namespace, pod): Name, target: Target, generation: u64) {
    let interval = shared.limits.interval;
    let mut failures = 0;
    let mut log = Log::default();
    // what is new is looked at soon; then at the pod's own moment
    loop {
        let Ok(slot) = shared.slots.acquire().await else {
            return;
        };
        let began = shared.epoch.elapsed();
        let outcome = fetch(&target, &shared.limits, &shared.tls).await;
        drop(slot);
        let now = shared.epoch.elapsed();
        let problem = match outcome {
            Ok(page) => {
                failures = 0;
                let mut series = shared.series.lock();
                let took = now.saturating_sub(began);
                let dropped = series.absorb(&namespace, &pod, generation, page, now, took);
                drop(series);
                let what = format!("{:?}", dropped.reasons());
                (!dropped.is_empty())
                    .then(|| (what, format!("samples of the page were dropped: {dropped}")))
            }
            Err(failure) => {
                failures += 1;
                let reason = failure.reason();
                let mut series = shared.series.lock();
                series.fail(&namespace, &pod, generation, reason, now);
                drop(series);
                // a pod that is not ready need not answer yet
                let starts = !target.ready && matches!(failure, Failure::Unreachable(_));
                (!starts).then(|| (reason.to_owned(), format!("the scrape failed: {failure}")))
            }
        };
        if let Some(line) = log.line(now, problem) {
            let (path, address) = (&target.path, target.address);
            tracing::warn!(namespace, pod, %address, path, "{line}");
        }
        let now = shared.epoch.elapsed();
        let pause = pause(interval, shared.limits.backoff_max, failures);
        tokio::time::sleep(until_turn(now, interval, pause, &target.uid)).await;
    }
}

/// The least time until the next scrape after so many failures in a row.
fn pause(interval: Duration, longest: Duration, failures: u32) -> Duration {
    let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
    interval.saturating_mul(doubled).min(longest.max(interval))
}

/// How long to wait for the pod's own moment of the interval, about `pause` from now: pods spread over the interval.
fn until_turn(now: Duration, interval: Duration, pause: Duration, uid: &str) -> Duration {
    let interval = interval.as_nanos().max(1);
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    let own = u128::from(hasher.finish()) % interval;
    // the next own moment, at least half an interval before `pause` is over
    let earliest = now.as_nanos() + pause.as_nanos().saturating_sub(interval);
    let next = earliest + 1 + (interval + own - (earliest + 1) % interval) % interval;
    Duration::from_nanos(u64::try_from(next - now.as_nanos()).unwrap_or(u64::MAX))
}

/// What is logged of one pod: a trouble when it begins, not each second.
#[derive(Default)]
struct Log {
    /// When each kind of trouble was last seen.
    seen: HashMap<String, Duration>,
}

impl Log {
    /// The line to write now, if any; `problem` is what kind of trouble, and its text.
    fn line(&mut self, now: Duration, problem: Option<(String, String)>) -> Option<String> {
        let (kind, text) = problem?;
        self.seen
            .retain(|_, at| now.saturating_sub(*at) < LOG_PAUSE);
        self.seen.insert(kind, now).is_none().then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_trouble_is_logged_once() {
        let mut log = Log::default();
        let mut lines = Vec::new();
        for second in 0..200u64 {
            let kind = match second {
                0..100 => Some("timeout"),
                100..110 => None,
                // one that changes each second is not logged each second either
                _ => Some(["status", "timeout"][second as usize % 2]),
            };
            let problem = kind.map(|kind| (kind.to_owned(), format!("{kind} at {second}")));
            lines.extend(log.line(SECOND * second as u32, problem));
        }
        assert_eq!(lines, ["timeout at 0", "status at 110"]);
        let again = Some(("timeout".to_owned(), "again".to_owned()));
        assert!(
            log.line(SECOND * 300, again).is_some(),
            "after a while without"
        );
    }

    #[test]
    fn failures_are_looked_at_less_often() {
        let pauses: Vec<u64> = (0..7)
            .map(|failures| pause(SECOND, SECOND * 8, failures).as_secs())
            .collect();
        assert_eq!(pauses, [1, 1, 2, 4, 8, 8, 8]);
    }

    #[test]
    fn each_pod_has_its_moment_each_second() {
        let mut moments = Vec::new();
        for pod in 0..200 {
            let uid = format!("uid-{pod}");
            let first = until_turn(Duration::from_millis(12_345), SECOND, SECOND, &uid);
            assert!(first <= SECOND && !first.is_zero(), "{first:?}");
            let moment = Duration::from_millis(12_345) + first;
            // from its moment on, a second later each time, also when the scrape itself took a while
            for took in [1, 300, 800] {
                let now = moment + Duration::from_millis(took);
                let next = now + until_turn(now, SECOND, SECOND, &uid);
                assert_eq!(next, moment + SECOND, "after {took} ms");
            }
            moments.push(moment.subsec_millis() / 100);
        }
        for tenth in 0..10 {
            let share = moments.iter().filter(|moment| **moment == tenth).count();
            assert!((5..50).contains(&share), "{share} of 200 in tenth {tenth}");
        }
        let late = until_turn(Duration::ZERO, SECOND, SECOND * 8, "uid");
        assert!((SECOND * 7..=SECOND * 8).contains(&late), "{late:?}");
    }
}
