//! Rates of the API in process, for a look at where time goes: `load [OBJECTS] [TASKS]`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{ApiServer, Config, Identity};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams, WatchParams};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let objects = arguments.next().transpose()?.unwrap_or(1000);
    let tasks = arguments.next().transpose()?.unwrap_or(8);
    let dir = tempfile::Builder::new()
        .prefix("plimsoll-load-")
        .tempdir()?;
    let store = Arc::new(store::EmbeddedStore::in_memory()?);
    let server = ApiServer::open(Config::new(dir.path()), store).await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(server.in_process_client(Identity::admin()));
    for watchers in [0, 100] {
        let version = maps
            .list(&ListParams::default())
            .await?
            .metadata
            .resource_version
            .unwrap_or_default();
        let mut watches = Vec::new();
        for _ in 0..watchers {
            let stream = maps.watch(&WatchParams::default(), &version).await?.boxed();
            watches.push(tokio::spawn(
                stream
                    .take(objects)
                    .try_fold(0, |n, _| async move { Ok(n + 1) }),
            ));
        }
        let taken = each(objects, tasks, |n| {
            let maps = maps.clone();
            async move {
                maps.create(&PostParams::default(), &map(&format!("m{watchers}-{n}")))
                    .await
                    .map(drop)
            }
        })
        .await?;
        println!(
            "create, {watchers} watchers: {:.0}/s",
            objects as f64 / taken.as_secs_f64()
        );
        let started = Instant::now();
        for watch in watches {
            watch.await??;
        }
        println!("  the last watcher was done {:?} later", started.elapsed());
    }
    let taken = each(objects, tasks, |n| {
        let maps = maps.clone();
        async move { maps.get(&format!("m0-{n}")).await.map(drop) }
    })
    .await?;
    println!("get: {:.0}/s", objects as f64 / taken.as_secs_f64());
    let taken = each(100, tasks, |_| {
        let maps = maps.clone();
        async move { maps.list(&ListParams::default().limit(500)).await.map(drop) }
    })
    .await?;
    println!("list of 500: {:.0}/s", 100.0 / taken.as_secs_f64());
    Ok(())
}

fn map(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map.data = Some([("key".to_owned(), "x".repeat(1000))].into());
    map
}

/// Runs `job` for every number, several at a time; how long it took.
async fn each<F, Fut>(count: usize, tasks: usize, job: F) -> Result<Duration, kube::Error>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), kube::Error>>,
{
    let started = Instant::now();
    futures::stream::iter(0..count)
        .map(&job)
        .buffer_unordered(tasks)
        .try_collect::<()>()
        .await?;
    Ok(started.elapsed())
}
