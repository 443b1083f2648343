//! What the last reconcile of an owner of pods wrote and the cache has not shown yet.
//!
//! Upstream counts events; here the cache is compared with what was written, so that a missed or merged event cannot
//! leave a count wrong: a creation is visible when the cache has reached its resourceVersion, a deletion when the pod
//! is gone or terminating.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use crate::informer::{Informer, revision_of};
use crate::objects;
use crate::shared::owned_by;

/// After this long the cache is believed again, whatever it shows.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// The cache is behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Behind;

#[derive(Debug)]
struct Expected {
    created: HashMap<String, u64>,
    deleted: Vec<String>,
    lists: u64,
    since: Instant,
}

/// Expectations by the owner's uid.
#[derive(Debug, Default)]
pub struct Expectations {
    by_owner: Mutex<HashMap<String, Expected>>,
}

impl Expectations {
    /// Remembers pods that were just created for, or deleted from, this owner.
    pub fn wrote(&self, owner: &str, cache: &Informer<Pod>, created: &[Pod], deleted: Vec<String>) {
        if created.is_empty() && deleted.is_empty() {
            return;
        }
        let expected = Expected {
            created: created
                .iter()
                .map(|pod| (objects::uid(pod).to_owned(), revision_of(pod)))
                .collect(),
            deleted,
            lists: cache.progress().1,
            since: Instant::now(),
        };
        let mut by_owner = self.by_owner.lock();
        // Owners that were deleted meanwhile are never asked about again.
        by_owner.retain(|_, known| known.since.elapsed() <= TIMEOUT);
        by_owner.insert(owner.to_owned(), expected);
    }

    /// Whether the cache shows everything that was written for this owner.
    pub fn satisfied(&self, owner: &str, cache: &Informer<Pod>) -> Result<(), Behind> {
        let mut by_owner = self.by_owner.lock();
        let Some(expected) = by_owner.get(owner) else {
            return Ok(());
        };
        let (revision, lists) = cache.progress();
        let pods = cache.by_index(&owned_by(owner));
        let find = |uid: &str| pods.iter().find(|pod| objects::uid(&***pod) == uid);
        let created = expected
            .created
            .iter()
            .all(|(uid, version)| (*version > 0 && revision >= *version) || find(uid).is_some());
        let deleted = expected
            .deleted
            .iter()
            .all(|uid| find(uid).is_none_or(|pod| objects::is_terminating(&**pod)));
        // A list that was under way during the write may lack it: only the one after it counts.
        let relisted = lists > expected.lists + 1;
        if (created && deleted) || relisted || expected.since.elapsed() > TIMEOUT {
            by_owner.remove(owner);
            return Ok(());
        }
        Err(Behind)
    }
}
