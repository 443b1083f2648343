//! Deletes Events some time after they were last seen, so that their number stays bounded.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::error::is_not_found;
use crate::objects;

const EVERY: Duration = Duration::from_secs(60);
const PAGE: u32 = 500;

/// Runs until `shutdown`; events last seen more than `ttl` ago go.
pub async fn run(client: Client, ttl: Duration, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY.min(ttl)) => {}
        }
        if let Err(error) = sweep(&client, ttl).await {
            tracing::warn!(%error, "old events not deleted, trying again");
        }
    }
}

async fn sweep(client: &Client, ttl: Duration) -> Result<(), kube::Error> {
    let all: Api<Event> = Api::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = all.list(&page).await?;
        let now = Timestamp::now();
        for event in list.items.iter().filter(|event| is_old(event, ttl, now)) {
            let api: Api<Event> = Api::namespaced(client.clone(), objects::namespace(event));
            match api
                .delete(objects::name(event), &DeleteParams::default())
                .await
            {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(error),
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = ListParams::default().limit(PAGE).continue_token(&token),
            None => return Ok(()),
        }
    }
}

fn is_old(event: &Event, ttl: Duration, now: Timestamp) -> bool {
    let times = [
        event
            .series
            .as_ref()
            .and_then(|series| series.last_observed_time.as_ref())
            .map(|time| time.0),
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0),
    ];
    times
        .into_iter()
        .flatten()
        .max()
        .is_some_and(|seen| Duration::try_from(now.duration_since(seen)).is_ok_and(|age| age > ttl))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_sight_counts() {
        let now = "2026-01-01T02:00:00Z".parse().unwrap();
        let table = [
            (
                json!({"creationTimestamp": "2026-01-01T00:30:00Z"}),
                json!(null),
                true,
            ),
            (
                json!({"creationTimestamp": "2026-01-01T00:30:00Z"}),
                json!("2026-01-01T01:30:00Z"),
                false,
            ),
            (
                json!({"creationTimestamp": "2026-01-01T01:30:00Z"}),
                json!(null),
                false,
            ),
            (
                json!({"creationTimestamp": "2026-01-01T03:00:00Z"}),
                json!(null),
                false,
            ),
            (json!({}), json!(null), false),
        ];
        for (metadata, last, old) in table {
            let event: Event = serde_json::from_value(json!({
                "metadata": metadata, "involvedObject": {}, "lastTimestamp": last,
            }))
            .unwrap();
            assert_eq!(
                is_old(&event, Duration::from_secs(3600), now),
                old,
                "{event:?}"
            );
        }
    }
}
