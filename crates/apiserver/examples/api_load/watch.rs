//! How long a write takes to everybody who watches.
//!
//! One write at a time: the next one begins when every watcher has the event of the one before, so that the time is of
//! one write through the server and not of a queue.

use std::time::Instant;

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::access::Access;
use crate::{Result, quantile};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub async fn run(access: Access, watchers: usize, writes: usize) -> Result<Value> {
    // what this run makes is its own: nobody else's events are counted
    let run = format!("watch-load-{}", std::process::id());
    let (events, mut seen) = mpsc::unbounded_channel();
    for _ in 0..watchers {
        let path = format!("{MAPS}?watch=1&resourceVersion=0&labelSelector=run%3D{run}");
        let mut connection = access.connect().await?;
        let answer = connection.begin(&Method::GET, &path, String::new()).await?;
        let events = events.clone();
        tokio::spawn(async move {
            // the connection lives as long as its answer
            let _connection = connection;
            let ended = read(answer.into_body(), &events).await;
            let _ = events.send(ended.and(Err::<Instant, _>("a watch ended".into())));
        });
    }
    let mut writer = access.connect().await?;
    let (mut sent_to_seen, mut acknowledged_to_seen, mut acknowledged) = (vec![], vec![], vec![]);
    for n in 0..writes {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("{run}-{n}"), "labels": {"run": run}}, "data": {"k": "x".repeat(1000)}});
        let sent = Instant::now();
        writer.ask(&Method::POST, MAPS, object.to_string()).await?;
        let told = Instant::now();
        acknowledged.push(micros(sent, told));
        for _ in 0..watchers {
            let at = seen.recv().await.ok_or("no watch is left")??;
            sent_to_seen.push(micros(sent, at));
            acknowledged_to_seen.push(micros(told, at));
        }
    }
    let own = format!("{MAPS}?labelSelector=run%3D{run}");
    writer.ask(&Method::DELETE, &own, String::new()).await?;
    Ok(json!({
        "watchers": watchers,
        "writes": writes,
        "acknowledged_p50_us": quantile(&mut acknowledged, 0.5),
        "acknowledged_p99_us": quantile(&mut acknowledged, 0.99),
        // below zero where the watcher knew before the writer
        "event_after_acknowledgement_p50_us": quantile(&mut acknowledged_to_seen, 0.5),
        "event_after_acknowledgement_p99_us": quantile(&mut acknowledged_to_seen, 0.99),
        "event_after_sending_p50_us": quantile(&mut sent_to_seen, 0.5),
        "event_after_sending_p99_us": quantile(&mut sent_to_seen, 0.99),
    }))
}

/// Sends the moment of each event, which is a line. There are no bookmarks, because they were not asked for.
async fn read(mut body: Incoming, events: &mpsc::UnboundedSender<Result<Instant>>) -> Result<()> {
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let now = Instant::now();
        for _ in data.iter().filter(|byte| **byte == b'\n') {
            events.send(Ok(now))?;
        }
    }
    Ok(())
}

/// From one moment to another, in microseconds; below zero when that was earlier.
fn micros(from: Instant, to: Instant) -> i64 {
    let forth = to.saturating_duration_since(from).as_micros();
    let back = from.saturating_duration_since(to).as_micros();
    forth as i64 - back as i64
}
