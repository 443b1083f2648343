//! Events are kept for a while only: this ends those that were not heard of again (upstream: `--event-ttl`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use store::{Expect, Store};
use tokio_util::sync::CancellationToken;

use crate::object::{self, text};

const PREFIX: &str = "/registry/events/";
/// How often old events are looked for.
const INTERVAL: Duration = Duration::from_secs(60);
/// How many events are read at a time.
const PAGE: usize = 500;

/// Which events stay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// Those heard of within this time,
    pub ttl: Duration,
    /// and of these at most so many: each is held in memory, and a busy hour has tens of thousands.
    pub most: usize,
}

/// Removes old events until `shutdown`.
pub(crate) async fn run(store: Arc<dyn Store>, keep: Keep, shutdown: CancellationToken) {
    let interval = INTERVAL.min(keep.ttl.max(Duration::from_secs(1)));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        if let Err(error) = sweep(store.as_ref(), keep, Timestamp::now()).await {
            tracing::warn!(%error, "could not remove old events");
        }
    }
}

/// Removes the events last heard of longer than `keep.ttl` before `now`, and the oldest of those that are too many;
/// returns how many.
async fn sweep(store: &dyn Store, keep: Keep, now: Timestamp) -> Result<usize, store::Error> {
    let (mut old, mut young) = (Vec::new(), Vec::new());
    let mut after = None;
    loop {
        let page = store.range(PREFIX, after.as_deref(), PAGE, None).await?;
        for kv in &page.items {
            let event = object::parse(&kv.value, kv.mod_revision);
            let is_old = last_heard(&event)
                .is_some_and(|at| now.duration_since(at).unsigned_abs() > keep.ttl && at < now);
            let list = if is_old { &mut old } else { &mut young };
            list.push((kv.mod_revision, kv.key.clone()));
        }
        after = page.items.last().map(|kv| kv.key.clone());
        if !page.more {
            break;
        }
    }
    // who is heard of is written
    young.sort_unstable();
    let surplus = young.len().saturating_sub(keep.most);
    let mut removed = 0;
    for (revision, key) in old.into_iter().chain(young.into_iter().take(surplus)) {
        // An event that changes meanwhile has been heard of again.
        let gone = store.delete(&key, Expect::Revision(revision)).await;
        removed += usize::from(gone.is_ok());
    }
    Ok(removed)
}

/// The latest moment an event speaks of.
fn last_heard(event: &Value) -> Option<Timestamp> {
    let paths: [&[&str]; 5] = [
        &["metadata", "creationTimestamp"],
        &["firstTimestamp"],
        &["lastTimestamp"],
        &["eventTime"],
        &["series", "lastObservedTime"],
    ];
    paths
        .iter()
        .filter_map(|path| text(event, path).parse().ok())
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn only_what_is_old_or_too_much_goes() {
        let store = store::EmbeddedStore::in_memory().expect("a store");
        let events = [
            (
                "old",
                json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}),
            ),
            (
                "repeated",
                json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "lastTimestamp": "2026-01-01T01:30:00Z"}),
            ),
            (
                "series",
                json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "series": {"lastObservedTime": "2026-01-01T01:30:00.000000Z"}}),
            ),
            ("timeless", json!({"metadata": {}})),
        ];
        for (name, event) in &events {
            store
                .put(
                    &format!("{PREFIX}ns/{name}"),
                    object::encode(event),
                    Expect::Absent,
                )
                .await
                .expect("stored");
        }
        let now = "2026-01-01T02:00:00Z".parse().expect("a time");
        let keep = |most| Keep {
            ttl: Duration::from_secs(3600),
            most,
        };
        let left = async || {
            let page = store.range(PREFIX, None, 0, None).await.expect("a page");
            let names = page.items.iter().map(|kv| kv.key.rsplit('/').next());
            names
                .map(|name| name.unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(sweep(&store, keep(10), now).await.expect("swept"), 1);
        assert_eq!(left().await, ["repeated", "series", "timeless"]);
        // of too many, those go that were written the longest ago
        store
            .put(
                &format!("{PREFIX}ns/repeated"),
                object::encode(&json!({"metadata": {}, "count": 2})),
                Expect::Any,
            )
            .await
            .expect("stored");
        assert_eq!(sweep(&store, keep(2), now).await.expect("swept"), 1);
        assert_eq!(left().await, ["repeated", "timeless"]);
    }
}
