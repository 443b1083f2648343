//! Whether a cache shows what was last written for a key.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kube::Resource;
use parking_lot::Mutex;

use crate::informer::{Cached, Informer, revision_of};

/// How long a cache that is behind our own writes is waited for.
pub const CACHE_WAIT: Duration = Duration::from_secs(5);

/// The newest resourceVersion written for each key, until the cache shows it.
#[derive(Default)]
pub struct OwnVersions(Mutex<HashMap<String, (u64, Instant)>>);

impl OwnVersions {
    /// `object` was written for `key`.
    pub fn wrote<K: Resource>(&self, key: &str, object: &K) {
        let version = (revision_of(object), Instant::now());
        self.0.lock().insert(key.to_owned(), version);
    }

    /// The cache does not show yet what was written for `key`; deciding by it would do the same again.
    pub fn is_behind<K: Cached>(&self, cache: &Informer<K>, key: &str) -> bool {
        let mut written = self.0.lock();
        let Some((version, at)) = written.get(key) else {
            return false;
        };
        let behind = cache.progress().0 < *version && at.elapsed() < CACHE_WAIT;
        if !behind {
            written.remove(key);
        }
        behind
    }
}
