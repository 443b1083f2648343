//! One change of a container, or of the set of names, at a time; different containers do not wait for each other.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Who may change what. What nobody holds or waits for takes no room.
#[derive(Default)]
pub struct Turns {
    known: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// How often each container is being restarted now.
    restarting: Arc<Mutex<HashMap<String, usize>>>,
    /// Containers whose sandbox is complete, with address and ports. As long as this daemon lives: what an earlier one left is
    /// made again.
    prepared: Mutex<HashSet<String>>,
}

/// While it is held, the container is being restarted.
pub struct Restarting {
    id: String,
    all: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for Restarting {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(times) = all.get_mut(&self.id) {
            *times -= 1;
            if *times == 0 {
                all.remove(&self.id);
            }
        }
    }
}

impl Turns {
    /// The turn to change one container; held until dropped. Never taken while [`Turns::names`] is.
    pub async fn of(&self, id: &str) -> OwnedMutexGuard<()> {
        self.take(id).await
    }

    /// The turn to give or change a name.
    pub async fn names(&self) -> OwnedMutexGuard<()> {
        self.take("").await
    }

    /// Somebody restarts the container: its end is none.
    pub fn restarting(&self, id: &str) -> Restarting {
        *self.restarting.lock().entry(id.to_owned()).or_insert(0) += 1;
        Restarting {
            id: id.to_owned(),
            all: self.restarting.clone(),
        }
    }

    /// Whether somebody restarts the container.
    pub fn is_restarting(&self, id: &str) -> bool {
        self.restarting.lock().contains_key(id)
    }

    /// The container's sandbox is complete.
    pub fn prepared(&self, id: &str) {
        self.prepared.lock().insert(id.to_owned());
    }

    /// It is no more, or it is being taken apart.
    pub fn unprepared(&self, id: &str) {
        self.prepared.lock().remove(id);
    }

    pub fn is_prepared(&self, id: &str) -> bool {
        self.prepared.lock().contains(id)
    }

    async fn take(&self, key: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut known = self.known.lock();
            known.retain(|_, turn| turn.strong_count() > 0);
            match known.get(key).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::default();
                    known.insert(key.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn one_at_a_time_for_each() {
        let turns = Turns::default();
        let first = turns.of("a").await;
        assert!(turns.of("a").now_or_never().is_none(), "the second waits");
        assert!(turns.of("b").now_or_never().is_some(), "another does not");
        drop(first);
        assert!(turns.of("a").now_or_never().is_some());
        assert!(turns.names().now_or_never().is_some());
        let two = (turns.restarting("a"), turns.restarting("a"));
        drop(two.0);
        assert!(turns.is_restarting("a") && !turns.is_restarting("b"));
        drop(two.1);
        assert!(!turns.is_restarting("a"));
        assert!(
            turns.known.lock().len() <= 3,
            "what is not held is forgotten"
        );
    }
}
