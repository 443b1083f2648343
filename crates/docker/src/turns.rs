//! One change of a container, or of the set of names, at a time; different containers do not wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Who may change what. What nobody holds or waits for takes no room.
#[derive(Default)]
pub struct Turns {
    known: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
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
        assert!(
            turns.known.lock().len() <= 3,
            "what is not held is forgotten"
        );
    }
}
