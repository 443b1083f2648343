//! The bounded store of what pods expose: series by pod, their recent values, and how scraping them goes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use super::dropped::{Dropped, Reason};
use super::health;
use super::key::Key;
use super::limits::Limits;
use super::page::Page;
use super::points::Points;

/// All series. Bounded by [`Limits`] whatever the pods expose.
#[derive(Default)]
pub struct SeriesStore {
    limits: Limits,
    pods: BTreeMap<String, BTreeMap<String, PodSeries>>,
    series: usize,
    text_bytes: usize,
    generations: u64,
}

/// One pod's series.
#[derive(Default)]
pub struct PodSeries {
    series: BTreeMap<Key, Points>,
    health: BTreeMap<Key, Points>,
    scraped: Duration,
    generation: u64,
}

/// A pod with its address, as queries get it.
#[derive(Clone, Copy)]
pub struct Scraped<'a> {
    /// The pod's namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    series: &'a PodSeries,
    fresh: bool,
}

impl<'a> Scraped<'a> {
    /// Its series of a name; none if it was not scraped for too long.
    pub fn of(&self, name: &str) -> impl Iterator<Item = (&'a Key, &'a Points)> + use<'a> {
        let (map, told) = if health::is_ours(name) {
            (&self.series.health, true)
        } else {
            (&self.series.series, self.fresh)
        };
        let start = Key::start(name);
        let found = map
            .range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded))
            .take_while(move |(key, _)| starts(key, &start));
        found.filter(move |_| told)
    }

    /// The names of its series, each once.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut before = "";
        let all = self.series.series.keys().chain(self.series.health.keys());
        all.map(Key::name)
            .filter(move |name: &&'a str| std::mem::replace(&mut before, *name) != *name)
    }
}

fn starts(key: &Key, start: &str) -> bool {
    let text: &str = std::borrow::Borrow::borrow(key);
    text.starts_with(start)
}

impl SeriesStore {
    /// Empty, with these bounds.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Begins with a pod, or goes on with it; returns what its scrapes must show. Those begun before are not taken any more.
    pub fn open(&mut self, namespace: &str, pod: &str) -> u64 {
        self.generations += 1;
        let pods = self.pods.entry(namespace.to_owned()).or_default();
        pods.entry(pod.to_owned()).or_default().generation = self.generations;
        self.generations
    }

    /// Forgets a pod.
    pub fn remove(&mut self, namespace: &str, pod: &str) {
        let Some(pods) = self.pods.get_mut(namespace) else {
            return;
        };
        if let Some(gone) = pods.remove(pod) {
            self.series -= gone.series.len();
            self.text_bytes -= text_bytes(&gone.series);
        }
        if pods.is_empty() {
            self.pods.remove(namespace);
        }
    }

    /// Takes in a page. Series that it no longer has are forgotten. Returns everything of it that was dropped.
    pub fn absorb(
        &mut self,
        namespace: &str,
        pod: &str,
        generation: u64,
        page: Page,
        at: Duration,
        took: Duration,
    ) -> Dropped {
        let Page {
            samples,
            mut dropped,
            seen,
        } = page;
        let window = self.limits.window;
        let Some(entry) = entry(&mut self.pods, namespace, pod, generation) else {
            return dropped;
        };
        let mut before = std::mem::take(&mut entry.series);
        self.series -= before.len();
        self.text_bytes -= text_bytes(&before);
        // Those that are known come first: new series of one pod must not push out what is told already.
        let (known, new): (Vec<_>, Vec<_>) = samples
            .into_iter()
            .partition(|(key, _)| before.contains_key(key));
        for (key, value) in known.into_iter().chain(new) {
            let bytes = key.bytes();
            if self.series >= self.limits.series_max
                || self.text_bytes + bytes > self.limits.text_bytes_max
            {
                dropped.add(Reason::TotalLimit);
                continue;
            }
            self.series += 1;
            self.text_bytes += bytes;
            let mut points = before.remove(&key).unwrap_or_default();
            points.push(at, value, window);
            if key.name().ends_with("_total") && points.falls_too_often() {
                dropped.add(Reason::Backwards);
            }
            entry.series.insert(key, points);
        }
        entry.scraped = at;
        entry.set_health(health::answered(took, seen, &dropped), at, window);
        dropped
    }

    /// Takes in that a pod could not be scraped. Its series stay until they are stale.
    pub fn fail(
        &mut self,
        namespace: &str,
        pod: &str,
        generation: u64,
        reason: &'static str,
        at: Duration,
    ) {
        let Some(entry) = entry(&mut self.pods, namespace, pod, generation) else {
            return;
        };
        entry.set_health(health::failed(reason), at, self.limits.window);
        if at.saturating_sub(entry.scraped) > self.limits.stale {
            let stale = std::mem::take(&mut entry.series);
            self.series -= stale.len();
            self.text_bytes -= text_bytes(&stale);
        }
    }

    /// The wanted pods, of one namespace or of all.
    pub fn select(
        &self,
        namespace: Option<&str>,
        now: Duration,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Vec<Scraped<'_>> {
        let mut found = Vec::new();
        for (of, pods) in &self.pods {
            if namespace.is_some_and(|namespace| namespace != of) {
                continue;
            }
            for (name, series) in pods {
                if wanted(of, name) {
                    found.push(Scraped {
                        namespace: of,
                        name,
                        series,
                        fresh: now.saturating_sub(series.scraped) <= self.limits.stale,
                    });
                }
            }
        }
        found
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl PodSeries {
    fn set_health(&mut self, values: BTreeMap<Key, f64>, at: Duration, window: Duration) {
        let mut before = std::mem::take(&mut self.health);
        for (key, value) in values {
            let mut points = before.remove(&key).unwrap_or_default();
            points.push(at, value, window);
            self.health.insert(key, points);
        }
    }
}

fn entry<'a>(
    pods: &'a mut BTreeMap<String, BTreeMap<String, PodSeries>>,
    namespace: &str,
    pod: &str,
    generation: u64,
) -> Option<&'a mut PodSeries> {
    let entry = pods.get_mut(namespace)?.get_mut(pod)?;
    (entry.generation == generation).then_some(entry)
}

fn text_bytes(series: &BTreeMap<Key, Points>) -> usize {
    series.keys().map(Key::bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::super::page::Reader;
    use super::*;
    use proptest::prelude::*;

    fn limits() -> Limits {
        Limits {
            series_per_pod_max: 4,
            series_max: 6,
            ..Limits::default()
        }
    }

    fn page(text: &str, limits: &Limits) -> Page {
        let mut reader = Reader::new(limits);
        reader.feed(text.as_bytes()).expect("short enough");
        reader.finish()
    }

    struct Fixture {
        store: SeriesStore,
        generations: BTreeMap<String, u64>,
    }

    impl Fixture {
        fn new(pods: &[&str]) -> Self {
            let mut store = SeriesStore::new(limits());
            let open = |pod: &&str| ((*pod).to_owned(), store.open("default", pod));
            let generations = pods.iter().map(open).collect();
            Self { store, generations }
        }

        fn scraped(&mut self, pod: &str, second: u64, text: &str) -> Dropped {
            let at = Duration::from_secs(second);
            let page = page(text, &limits());
            let generation = self.generations[pod];
            self.store
                .absorb("default", pod, generation, page, at, Duration::ZERO)
        }

        fn failed(&mut self, pod: &str, second: u64) {
            let at = Duration::from_secs(second);
            let generation = self.generations[pod];
            self.store.fail("default", pod, generation, "timeout", at);
        }

        /// Latest values of a name as `pod=value`.
        fn told(&self, name: &str, second: u64) -> Vec<String> {
            let pods = self
                .store
                .select(Some("default"), Duration::from_secs(second), |_, _| true);
            let each = pods.iter().flat_map(|pod| {
                pod.of(name).filter_map(move |(key, points)| {
                    let labels: Vec<&str> = key.labels().map(|(_, value)| value).collect();
                    let value = points.latest()?.value;
                    Some(format!("{}{labels:?}={value}", pod.name))
                })
            });
            each.collect()
        }
    }

    #[test]
    fn series_come_and_go_with_the_pages() {
        let mut fixture = Fixture::new(&["a", "b"]);
        fixture.scraped("a", 0, "m{x=\"1\"} 1\nm{x=\"2\"} 2\nmm 3\n");
        fixture.scraped("b", 0, "m 4\n");
        assert_eq!(fixture.told("m", 0), ["a[\"1\"]=1", "a[\"2\"]=2", "b[]=4"]);
        fixture.scraped("a", 1, "m{x=\"2\"} 5\n");
        assert_eq!(fixture.told("m", 1), ["a[\"2\"]=5", "b[]=4"]);
        assert_eq!(fixture.told("mm", 1), [""; 0]);
        assert_eq!(fixture.store.series, 2);
        fixture.store.remove("default", "a");
        fixture.scraped("a", 2, "m 9\n");
        assert_eq!(
            fixture.told("m", 2),
            ["b[]=4"],
            "a pod that went stays gone"
        );
        fixture.store.remove("default", "b");
        assert_eq!((fixture.store.series, fixture.store.text_bytes), (0, 0));
    }

    #[test]
    fn a_pod_that_cannot_be_scraped_is_told_and_then_forgotten() {
        let mut fixture = Fixture::new(&["a"]);
        fixture.scraped("a", 0, "m 1\n");
        assert_eq!(fixture.told("up", 0), ["a[]=1"]);
        fixture.failed("a", 9);
        assert_eq!(fixture.told("m", 9), ["a[]=1"]);
        assert_eq!(fixture.told("up", 9), ["a[]=0"]);
        assert_eq!(fixture.told("scrape_failed", 9), ["a[\"timeout\"]=1"]);
        assert_eq!(fixture.told("m", 11), [""; 0], "stale");
        fixture.failed("a", 12);
        assert_eq!(fixture.store.series, 0);
        fixture.scraped("a", 13, "m 1\n");
        assert_eq!(fixture.told("m", 13), ["a[]=1"]);
        assert_eq!(fixture.told("scrape_failed", 13), [""; 0]);
    }

    #[test]
    fn what_is_known_is_not_pushed_out_by_what_is_new() {
        let mut fixture = Fixture::new(&["a", "b"]);
        fixture.scraped("a", 0, "m 1\n");
        fixture.scraped("b", 0, "k1 1\nk2 1\nk3 1\nk4 1\n");
        let dropped = fixture.scraped("a", 1, "a1 1\na2 1\na3 1\nm 2\n");
        assert_eq!(dropped.to_string(), "2 total_limit");
        assert_eq!(fixture.told("m", 1), ["a[]=2"]);
        assert_eq!(
            fixture.told("scrape_samples_dropped", 1),
            ["a[\"total_limit\"]=2"]
        );
        assert_eq!(
            fixture.told("scrape_samples_scraped", 1),
            ["a[]=4", "b[]=4"]
        );
    }

    #[test]
    fn a_counter_that_goes_backwards_is_told() {
        let mut fixture = Fixture::new(&["a"]);
        for second in 0..5 {
            fixture.scraped("a", second, &format!("m_total {}\n", 100 - second));
        }
        assert_eq!(
            fixture.told("scrape_samples_dropped", 5),
            ["a[\"backwards\"]=1"]
        );
    }

    proptest! {
        #[test]
        fn whatever_is_exposed_the_store_is_bounded_and_its_count_true(
            pages in proptest::collection::vec((0usize..3, "([a-e]{1,2}(\\{x=\"[0-3]\"\\})? [0-9]\n){0,8}", any::<bool>()), 0..40),
        ) {
            let mut fixture = Fixture::new(&["a", "b", "c"]);
            for (second, (pod, text, works)) in pages.into_iter().enumerate() {
                let pod = ["a", "b", "c"][pod];
                if works {
                    fixture.scraped(pod, second as u64, &text);
                } else {
                    fixture.failed(pod, second as u64);
                }
                let store = &fixture.store;
                let all: Vec<&PodSeries> = store.pods.values().flat_map(BTreeMap::values).collect();
                prop_assert_eq!(store.series, all.iter().map(|pod| pod.series.len()).sum::<usize>());
                prop_assert_eq!(store.text_bytes, all.iter().map(|pod| text_bytes(&pod.series)).sum::<usize>());
                prop_assert!(store.series <= 6);
                prop_assert!(all.iter().all(|pod| pod.series.len() <= 4));
            }
        }
    }
}
