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

/// Removes old events until `shutdown`.
pub(crate) async fn run(store: Arc<dyn Store>, ttl: Duration, shutdown: CancellationToken) {
    let interval = INTERVAL.min(ttl.max(Duration::from_secs(1)));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        if let Err(error) = sweep(store.as_ref(), ttl, Timestamp::now()).await {
            tracing::warn!(%error, "could not remove old events");
        }
    }
}

/// Removes the events last heard of longer than `ttl` before `now`; returns how many.
async fn sweep(store: &dyn Store, ttl: Duration, now: Timestamp) -> Result<usize, store::Error> {
    let mut removed = 0;
    let mut after = None;
    loop {
        let page = store.range(PREFIX, after.as_deref(), PAGE, None).await?;
        for kv in &page.items {
            let event = object::parse(&kv.value, kv.mod_revision);
            let old = last_heard(&event)
                .is_some_and(|at| now.duration_since(at).unsigned_abs() > ttl && at < now);
            // An event that changes meanwhile has been heard of again.
            if old
                && store
                    .delete(&kv.key, Expect::Revision(kv.mod_revision))
                    .await
                    .is_ok()
            {
                removed += 1;
            }
        }
        after = page.items.last().map(|kv| kv.key.clone());
        if !page.more {
            return Ok(removed);
        }
    }
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
    async fn only_what_is_old_goes() {
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
        assert_eq!(
            sweep(&store, Duration::from_secs(3600), now)
                .await
                .expect("swept"),
            1
        );
        let left = store
            .range(PREFIX, None, 0, None)
            .await
            .expect("a page")
            .items;
        let names: Vec<_> = left
            .iter()
            .map(|kv| kv.key.rsplit('/').next().unwrap_or_default())
            .collect();
        assert_eq!(names, ["repeated", "series", "timeless"]);
    }
}
