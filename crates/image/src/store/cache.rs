//! The build cache: what a step with this history gave last time.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Result of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CacheRecord {
    /// Layer it added, if any.
    pub layer: Option<String>,
    /// When it really ran; goes into the image, so that a build from the cache gives the same id.
    pub created: String,
    #[serde(default)]
    used: u64,
}

impl CacheRecord {
    pub fn new(layer: Option<String>, created: String) -> Self {
        CacheRecord {
            layer,
            created,
            used: 0,
        }
    }
}

/// Bounded; the longest unused records go first.
#[derive(Default)]
pub(crate) struct Cache {
    records: HashMap<String, CacheRecord>,
    limit: usize,
    clock: u64,
    dirty: bool,
}

impl Cache {
    /// Reads the file. A damaged or missing one is an empty cache: it can only cost time.
    pub fn read(path: &Path, limit: usize) -> Cache {
        let records: HashMap<String, CacheRecord> = std::fs::read(path)
            .ok()
            .and_then(|b| serde_json::from_slice(&b).ok())
            .unwrap_or_default();
        let clock = records.values().map(|r| r.used).max().unwrap_or(0);
        Cache {
            records,
            limit,
            clock,
            dirty: false,
        }
    }

    /// Writes the file if something changed. Not synced, for the same reason.
    pub fn write(&mut self, path: &Path) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let temporary = path.with_extension("json.new");
        let written = serde_json::to_vec(&self.records)
            .map_err(std::io::Error::other)
            .and_then(|bytes| std::fs::write(&temporary, bytes))
            .and_then(|()| std::fs::rename(&temporary, path));
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "build cache not written");
        }
    }

    pub fn get(&mut self, key: &str) -> Option<CacheRecord> {
        self.clock += 1;
        let record = self.records.get_mut(key)?;
        record.used = self.clock;
        self.dirty = true;
        Some(record.clone())
    }

    pub fn put(&mut self, key: &str, record: CacheRecord) {
        self.clock += 1;
        self.dirty = true;
        self.records.insert(
            key.to_owned(),
            CacheRecord {
                used: self.clock,
                ..record
            },
        );
        if self.records.len() > self.limit {
            let oldest = self
                .records
                .iter()
                .min_by_key(|(_, r)| r.used)
                .map(|(k, _)| k.clone());
            oldest.map(|key| self.records.remove(&key));
        }
    }

    pub fn layers(&self) -> impl Iterator<Item = &str> {
        self.records.values().filter_map(|r| r.layer.as_deref())
    }

    /// Forgets the records of these layers.
    pub fn forget(&mut self, gone: impl Fn(&String) -> bool) {
        self.records
            .retain(|_, r| !r.layer.as_ref().is_some_and(&gone));
        self.dirty = true;
    }

    pub fn forget_all(&mut self) {
        self.records.clear();
        self.dirty = true;
    }
}
