//! What each autoscaler selects, found by the labels of a pod: two that select the same pods must both keep their hands off.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use autoscale::hpa::OtherAutoscaler;
use autoscale::selector::Selector;
use parking_lot::Mutex;

/// A label in a namespace: `(namespace, key, value)`.
type Place = (String, String, String);

/// The selectors of all autoscalers, by uid. Asking costs as much as the pods have labels, however many autoscalers
/// there are: a thousand of them ask once a second.
#[derive(Default)]
pub struct Selectors {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    /// Those that want one label to have one value, by that label.
    anchored: HashMap<Place, BTreeSet<String>>,
    /// Those that can select pods without a certain label, by namespace.
    loose: HashMap<String, BTreeSet<String>>,
}

struct Entry {
    namespace: String,
    name: String,
    text: String,
    selector: Selector,
}

impl Entry {
    fn place(&self) -> Option<Place> {
        let (key, value) = self.selector.required_label()?;
        Some((self.namespace.clone(), key.to_owned(), value.to_owned()))
    }
}

impl Selectors {
    /// Remembers what an autoscaler selects. An empty text or one that is no selector selects nothing.
    pub fn remember(&self, uid: &str, namespace: &str, name: &str, text: &str) {
        let mut inner = self.inner.lock();
        let same = |entry: &Entry| {
            (&*entry.namespace, &*entry.name, &*entry.text) == (namespace, name, text)
        };
        if inner.entries.get(uid).is_some_and(same) {
            return;
        }
        inner.forget(uid);
        let Some(selector) = Some(text)
            .filter(|text| !text.is_empty())
            .and_then(|text| Selector::parse(text).ok())
        else {
            return;
        };
        inner.insert(
            uid,
            Entry {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                text: text.to_owned(),
                selector,
            },
        );
    }

    /// Forgets one autoscaler.
    pub fn forget(&self, uid: &str) {
        self.inner.lock().forget(uid);
    }

    /// Forgets all whose uid `kept` does not confirm.
    pub fn keep_only(&self, kept: impl Fn(&str) -> bool) {
        let mut inner = self.inner.lock();
        let gone: Vec<String> = inner
            .entries
            .keys()
            .filter(|uid| !kept(uid))
            .cloned()
            .collect();
        gone.iter().for_each(|uid| inner.forget(uid));
    }

    /// The other autoscalers of the namespace that select a pod with one of these sets of labels, by uid.
    pub fn others<'a>(
        &self,
        uid: &str,
        namespace: &str,
        pods: impl IntoIterator<Item = &'a BTreeMap<String, String>>,
    ) -> Vec<OtherAutoscaler> {
        let inner = self.inner.lock();
        let mut found = BTreeSet::new();
        for labels in pods {
            let anchored = labels.iter().filter_map(|(key, value)| {
                let place = (namespace.to_owned(), key.clone(), value.clone());
                inner.anchored.get(&place)
            });
            let candidates = anchored.chain(inner.loose.get(namespace)).flatten();
            found.extend(candidates.filter(|other| {
                other.as_str() != uid && inner.entries[*other].selector.matches(labels)
            }));
        }
        found
            .into_iter()
            .map(|other| OtherAutoscaler {
                name: inner.entries[other].name.clone(),
                selector: inner.entries[other].text.clone(),
            })
            .collect()
    }
}

impl Inner {
    fn insert(&mut self, uid: &str, entry: Entry) {
        let bucket = match entry.place() {
            Some(place) => self.anchored.entry(place).or_default(),
            None => self.loose.entry(entry.namespace.clone()).or_default(),
        };
        bucket.insert(uid.to_owned());
        self.entries.insert(uid.to_owned(), entry);
    }

    fn forget(&mut self, uid: &str) {
        let Some(entry) = self.entries.remove(uid) else {
            return;
        };
        match entry.place() {
            Some(place) => drop_from(&mut self.anchored, &place, uid),
            None => drop_from(&mut self.loose, &entry.namespace, uid),
        }
    }
}

fn drop_from<K: std::hash::Hash + Eq>(
    buckets: &mut HashMap<K, BTreeSet<String>>,
    key: &K,
    uid: &str,
) {
    if let Some(bucket) = buckets.get_mut(key) {
        bucket.remove(uid);
        if bucket.is_empty() {
            buckets.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn names(selectors: &Selectors, uid: &str, pods: &[BTreeMap<String, String>]) -> Vec<String> {
        let found = selectors.others(uid, "default", pods);
        found.into_iter().map(|other| other.name).collect()
    }

    #[test]
    fn those_that_select_the_same_pods_are_found_in_their_namespace() {
        let selectors = Selectors::default();
        for (uid, namespace, text) in [
            ("a", "default", "app=web"),
            ("b", "default", "app=web,tier=front"),
            ("c", "default", "app in (web,api)"),
            ("d", "default", "!old"),
            ("e", "default", "app=api"),
            ("f", "other", "app=web"),
            ("g", "default", ""),
            ("h", "default", "app=(("),
        ] {
            selectors.remember(uid, namespace, uid, text);
        }
        let web = labels(&[("app", "web")]);
        let front = labels(&[("app", "web"), ("tier", "front"), ("old", "1")]);
        assert_eq!(names(&selectors, "a", from_ref(&web)), ["c", "d"]);
        assert_eq!(names(&selectors, "a", from_ref(&front)), ["b", "c"]);
        assert_eq!(names(&selectors, "b", &[web, front]), ["a", "c", "d"]);
        assert_eq!(names(&selectors, "a", &[]), [""; 0]);
    }

    #[test]
    fn what_is_remembered_follows_the_autoscalers() {
        let selectors = Selectors::default();
        let web = [labels(&[("app", "web")])];
        selectors.remember("a", "default", "a", "app=web");
        selectors.remember("b", "default", "b", "app=web");
        assert_eq!(names(&selectors, "a", &web), ["b"]);
        selectors.remember("b", "default", "b", "app=api");
        assert_eq!(names(&selectors, "a", &web), [""; 0]);
        selectors.remember("b", "default", "b", "app");
        assert_eq!(names(&selectors, "a", &web), ["b"]);
        selectors.remember("b", "default", "b", "");
        assert_eq!(names(&selectors, "a", &web), [""; 0], "selects nothing now");
        selectors.remember("b", "default", "b", "app=web");
        selectors.keep_only(|uid| uid == "a");
        assert_eq!(names(&selectors, "a", &web), [""; 0]);
        selectors.forget("a");
        let inner = selectors.inner.lock();
        assert!(inner.entries.is_empty() && inner.anchored.is_empty() && inner.loose.is_empty());
    }

    proptest! {
        /// The index leaves nobody out and adds nobody.
        #[test]
        fn the_index_finds_what_asking_each_would(
            texts in proptest::collection::vec("(a|b|!a|a=x|b=y|a in \\(x,y\\)|a!=x|b=x,a=y|a notin \\(y\\))", 1..12),
            pods in proptest::collection::vec(proptest::collection::btree_map("[ab]", "[xy]", 0..3), 0..4),
        ) {
            let selectors = Selectors::default();
            for (uid, text) in texts.iter().enumerate() {
                selectors.remember(&uid.to_string(), "default", &uid.to_string(), text);
            }
            let mut found = names(&selectors, "0", &pods);
            let mut wanted: Vec<String> = (1..texts.len())
                .filter(|uid| {
                    let selector = Selector::parse(&texts[*uid]).expect("a selector");
                    pods.iter().any(|pod| selector.matches(pod))
                })
                .map(|uid| uid.to_string())
                .collect();
            found.sort();
            wanted.sort();
            prop_assert_eq!(found, wanted);
        }
    }
}
