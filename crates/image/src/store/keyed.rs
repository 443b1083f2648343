//! One lock per key, so that the same layer is fetched or unpacked once while others go on.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Locks by name; a name costs nothing when nobody holds it.
#[derive(Default)]
pub(crate) struct Keyed {
    locks: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Keyed {
    fn slot(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock();
        if let Some(lock) = locks.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(key.to_owned(), Arc::downgrade(&lock));
        lock
    }

    /// Waits for the key.
    pub async fn lock(&self, key: &str) -> OwnedMutexGuard<()> {
        self.slot(key).lock_owned().await
    }
}
