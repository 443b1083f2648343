//! The uids that workers still have to look at, each at most once at a time.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A queue without duplicates: a uid that is added while a worker has it comes back when the worker is done.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    order: VecDeque<String>,
    waiting: HashSet<String>,
    busy: HashSet<String>,
}

impl Queue {
    /// Adds uids.
    pub fn add(&self, uids: impl IntoIterator<Item = String>) {
        let mut state = self.state.lock();
        for uid in uids {
            if state.waiting.insert(uid.clone()) && !state.busy.contains(&uid) {
                state.order.push_back(uid);
                self.arrived.notify_one();
            }
        }
    }

    /// The next uid; [`Queue::done`] must follow.
    pub async fn next(&self) -> String {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut state = self.state.lock();
                if let Some(uid) = state.order.pop_front() {
                    state.waiting.remove(&uid);
                    state.busy.insert(uid.clone());
                    if !state.order.is_empty() {
                        // One permit can stand for several arrivals.
                        self.arrived.notify_one();
                    }
                    return uid;
                }
            }
            arrived.await;
        }
    }

    /// The worker is done with this uid.
    pub fn done(&self, uid: &str) {
        let mut state = self.state.lock();
        state.busy.remove(uid);
        if state.waiting.contains(uid) {
            state.order.push_back(uid.to_owned());
            self.arrived.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_uid_is_never_with_two_workers_and_never_lost() {
        let queue = Queue::default();
        queue.add(["a".to_owned(), "b".to_owned(), "a".to_owned()]);
        assert_eq!(queue.next().await, "a");
        queue.add(["a".to_owned()]);
        assert_eq!(queue.next().await, "b");
        assert!(queue.next().now_or_never().is_none());
        queue.done("a");
        assert_eq!(queue.next().await, "a");
        queue.done("a");
        queue.done("b");
        assert!(queue.next().now_or_never().is_none());
    }
}
