//! Garbage collection: objects whose owners are gone go too; owners wait for their dependents when asked to.
//!
//! Follows `pkg/controller/garbagecollector`: metadata of every kind that can be listed, watched and deleted feeds a
//! graph; workers look at the objects that a change of the graph concerns. Nothing runs while nothing changes, except
//! a look at the list of kinds now and then, and when a CustomResourceDefinition changes.

mod gone;
mod graph;
mod monitors;
mod queue;
mod work;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use kube::discovery::ApiResource;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backoff::KeyedBackoff;

use gone::Gone;
use graph::Graph;
use monitors::Monitors;
use queue::Queue;

const WORKERS: usize = 16;
/// How often the kinds are looked up again.
const KINDS_EVERY: Duration = Duration::from_secs(30);
/// For so long all kinds are waited for before what is known is collected.
const SYNC_MAX: Duration = Duration::from_secs(30);
/// Definitions often come by the dozen.
const DEFINITIONS_SETTLE: Duration = Duration::from_millis(200);

/// Runs the collector until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    // Everything that this start begins ends with it, also when it ends by a panic.
    let stop = shutdown.child_token();
    let _guard = stop.clone().drop_guard();
    let collector = Arc::new(Collector {
        client: client.clone(),
        graph: Mutex::new(Graph::default()),
        queue: Queue::default(),
        kinds: RwLock::new(HashMap::new()),
        gone: Mutex::default(),
        definitions: Notify::new(),
        failures: KeyedBackoff::default(),
    });
    let mut monitors = Monitors::default();
    let mut workers = JoinSet::new();
    let mut started = false;
    let began = Instant::now();
    loop {
        if let Err(error) = monitors.refresh(&collector, &stop).await {
            tracing::warn!(%error, "the kinds of the API cannot be listed, trying again");
        }
        let late = began.elapsed() > SYNC_MAX && !monitors.is_empty();
        if !started && (late || monitors.synced(Duration::from_secs(10)).await) {
            if late {
                // One kind that cannot be listed must not keep all others from being collected.
                tracing::warn!(
                    kinds = monitors.not_synced().join(", "),
                    "not all kinds could be listed; collecting all the same"
                );
            }
            // With half a graph, dependents would be overlooked.
            for _ in 0..WORKERS {
                let (collector, stop) = (collector.clone(), stop.clone());
                workers.spawn(async move { collector.work(stop).await });
            }
            started = true;
        }
        let pause = if started {
            KINDS_EVERY
        } else {
            Duration::from_millis(200)
        };
        tokio::select! {
            () = stop.cancelled() => return,
            Some(Err(error)) = workers.join_next() => {
                if error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
            () = tokio::time::sleep(pause) => {}
            () = collector.definitions.notified(), if started => {
                tokio::time::sleep(DEFINITIONS_SETTLE).await;
            }
        }
    }
}

struct Collector {
    client: Client,
    graph: Mutex<Graph>,
    queue: Queue,
    /// The resource that serves an apiVersion and kind, and whether it is namespaced. Of every version that is served: an owner
    /// may be named by any.
    kinds: RwLock<HashMap<(String, String), (ApiResource, bool)>>,
    gone: Mutex<Gone>,
    /// A CustomResourceDefinition has changed: there may be new kinds.
    definitions: Notify,
    /// How often each object failed, by uid.
    failures: KeyedBackoff,
}
