//! Remembers what a controller wrote itself, so that it does not decide from a cache that does not show it yet.

use std::collections::HashMap;

use kube::Resource;
use parking_lot::Mutex;

use crate::informer::revision_of;
use crate::objects;

/// Objects that were deleted before the cache showed the write are forgotten with all others at this number.
const KEYS_MAX: usize = 10_000;

/// The newest resourceVersion written by object.
#[derive(Debug, Default)]
pub struct OwnWrites {
    by_uid: Mutex<HashMap<String, u64>>,
}

impl OwnWrites {
    /// `written` is the server's answer to a write.
    pub fn wrote<K: Resource>(&self, written: &K) {
        let mut by_uid = self.by_uid.lock();
        if by_uid.len() >= KEYS_MAX {
            by_uid.clear();
        }
        by_uid.insert(objects::uid(written).to_owned(), revision_of(written));
    }

    /// `cached` is older than what was written: the event that brings the newer version is on its way.
    pub fn is_behind<K: Resource>(&self, cached: &K) -> bool {
        let mut by_uid = self.by_uid.lock();
        let behind = by_uid
            .get(objects::uid(cached))
            .is_some_and(|written| revision_of(cached) < *written);
        if !behind {
            by_uid.remove(objects::uid(cached));
        }
        behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn object(uid: &str, version: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.uid = Some(uid.to_owned());
        object.metadata.resource_version = Some(version.to_owned());
        object
    }

    #[test]
    fn a_cached_version_older_than_our_own_is_behind() {
        let writes = OwnWrites::default();
        assert!(!writes.is_behind(&object("a", "1")));
        writes.wrote(&object("a", "5"));
        assert!(writes.is_behind(&object("a", "4")));
        assert!(!writes.is_behind(&object("b", "4")));
        assert!(!writes.is_behind(&object("a", "5")));
        assert!(
            !writes.is_behind(&object("a", "4")),
            "caught up once is enough"
        );
    }
}
