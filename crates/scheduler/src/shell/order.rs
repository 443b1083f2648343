//! What is written about one pod is written in the order in which it was decided.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Turns of writes, by pod.
#[derive(Clone, Default)]
pub(super) struct Order(Arc<Mutex<Last>>);

#[derive(Default)]
struct Last {
    /// The newest turn of each pod, by uid, and what ends with it.
    turns: HashMap<String, (u64, CancellationToken)>,
    taken: u64,
}

/// A place behind all writes of the pod that were decided before; over when dropped.
pub(super) struct Turn {
    order: Order,
    uid: String,
    number: u64,
    before: Option<CancellationToken>,
    over: CancellationToken,
}

impl Order {
    /// The next turn of the pod; to be taken when the write is decided, not when it is about to be done.
    pub fn turn(&self, uid: &str) -> Turn {
        let over = CancellationToken::new();
        let mut last = self.0.lock();
        last.taken += 1;
        let number = last.taken;
        let before = last.turns.insert(uid.to_owned(), (number, over.clone()));
        drop(last);
        Turn {
            order: self.clone(),
            uid: uid.to_owned(),
            number,
            before: before.map(|(_, over)| over),
            over,
        }
    }
}

impl Turn {
    /// Waits until those before are over.
    pub async fn come(&self) {
        if let Some(before) = &self.before {
            before.cancelled().await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut last = self.order.0.lock();
        if last
            .turns
            .get(&self.uid)
            .is_some_and(|(number, _)| *number == self.number)
        {
            last.turns.remove(&self.uid);
        }
        drop(last);
        self.over.cancel();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn turns_of_one_pod_come_one_after_the_other() {
        let order = Order::default();
        let [first, second, third] = ["a", "a", "a"].map(|uid| order.turn(uid));
        let other = order.turn("b");
        assert!(other.come().now_or_never().is_some());
        assert!(first.come().now_or_never().is_some());
        assert!(second.come().now_or_never().is_none());
        drop(first);
        assert!(second.come().now_or_never().is_some());
        assert!(third.come().now_or_never().is_none());
        drop(second);
        assert!(third.come().now_or_never().is_some());
        drop((third, other));
        assert!(order.0.lock().turns.is_empty());
        assert!(order.turn("a").come().now_or_never().is_some());
    }
}
