//! Measures durable writes per second of the embedded store, for 1, 2, 8 and 64 clients.
//!
//! `cargo run --release -p store --example store_bench [DIRECTORY] [SECONDS]`: the file is made in a
//! new directory under DIRECTORY (by default the system's temporary one, which may be in memory and
//! then says nothing about a disk) and removed afterwards.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use store::embedded::{EmbeddedStore, Options};
use store::{Expect, Store};

/// About what a Pod takes as JSON.
const VALUE_BYTES: usize = 1500;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let parent = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = match arguments.next() {
        Some(text) => text.to_string_lossy().parse()?,
        None => 2.0,
    };
    let directory = tempfile::Builder::new()
        .prefix("plimsoll-store-bench-")
        .tempdir_in(parent)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average {}", load.trim());
    println!("clients       n   writes/s   p50 ms   p99 ms   file KiB");
    for clients in [1, 2, 8, 64] {
        let path = directory.path().join(format!("{clients}.redb"));
        let store = Arc::new(EmbeddedStore::open(&path, Options::default())?);
        let duration = Duration::from_secs_f64(seconds);
        let mut latencies = runtime.block_on(write(store, clients, duration))?;
        latencies.sort_unstable();
        let at = |share: f64| {
            let index = (latencies.len() as f64 * share) as usize;
            latencies
                .get(index)
                .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
        };
        println!(
            "{clients:7} {:7} {:10.0} {:8.2} {:8.2} {:10}",
            latencies.len(),
            latencies.len() as f64 / seconds,
            at(0.5),
            at(0.99),
            path.metadata()?.len() / 1024,
        );
    }
    Ok(())
}

/// How long each write took.
async fn write(
    store: Arc<EmbeddedStore>,
    clients: u64,
    duration: Duration,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let end = Instant::now() + duration;
    let next = Arc::new(AtomicU64::new(0));
    let tasks = (0..clients).map(|_| {
        let (store, next) = (store.clone(), next.clone());
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                // 1000 objects, so most writes replace one.
                let key = format!(
                    "/registry/bench/{}",
                    next.fetch_add(1, Ordering::Relaxed) % 1000
                );
                let start = Instant::now();
                store
                    .put(&key, Bytes::from(vec![b'v'; VALUE_BYTES]), Expect::Any)
                    .await?;
                latencies.push(start.elapsed());
            }
            Ok::<_, store::Error>(latencies)
        })
    });
    let mut all = Vec::new();
    for latencies in try_join_all(tasks).await? {
        all.extend(latencies?);
    }
    Ok(all)
}
