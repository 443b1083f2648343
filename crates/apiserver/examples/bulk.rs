//! Behaviour with many objects: `bulk [OBJECTS]`. Fills a store file with ConfigMaps of 1 KB, opens it anew, and
//! prints how long that takes, what memory it costs, and the rate of lists of 500 as bytes.

use std::sync::Arc;
use std::time::Instant;

use apiserver::{ApiServer, Config, Identity};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt as _, Full};
use store::embedded::{EmbeddedStore, Options};
use store::{Expect, Store as _};
use tower::ServiceExt as _;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let objects: usize = std::env::args().nth(1).map_or(Ok(10_000), |a| a.parse())?;
    let dir = tempfile::Builder::new()
        .prefix("plimsoll-bulk-")
        .tempdir()?;
    let file = dir.path().join("state.redb");
    fill(&EmbeddedStore::open(&file, Options::default())?, objects).await?;
    let before = resident_kib();
    let started = Instant::now();
    let store = EmbeddedStore::open(&file, Options::default())?;
    let store_open = started.elapsed();
    let with_store = resident_kib();
    let server = ApiServer::open(Config::new(dir.path()), Arc::new(store)).await?;
    println!(
        "open with {objects} objects: store {store_open:?}, API {:?}",
        started.elapsed() - store_open
    );
    println!(
        "resident: store +{} KiB, watch caches +{} KiB, all {} KiB",
        with_store.saturating_sub(before),
        resident_kib().saturating_sub(with_store),
        resident_kib()
    );
    for name in ["first list of 500", "lists of 500 after that"] {
        let started = Instant::now();
        let count = if name.starts_with("first") { 1 } else { 50 };
        let mut bytes = 0;
        for _ in 0..count {
            bytes = get(&server, "/api/v1/configmaps?limit=500").await?;
        }
        let each = started.elapsed() / count;
        println!("{name}: {each:?} each, {bytes} bytes");
    }
    let started = Instant::now();
    let bytes = get(&server, "/api/v1/configmaps").await?;
    println!(
        "list of all: {:?}, {bytes} bytes, resident {} KiB",
        started.elapsed(),
        resident_kib()
    );
    let started = Instant::now();
    let code = begin(
        &server,
        &format!(
            "/api/v1/configmaps?watch=1&resourceVersion={}",
            objects.saturating_sub(4000)
        ),
    )
    .await?;
    println!(
        "watch from before the start: {code} after {:?}, resident {} KiB",
        started.elapsed(),
        resident_kib()
    );
    let mut watches = Vec::new();
    for _ in 0..100 {
        watches.push(request(&server, "/api/v1/configmaps?watch=1").await?);
    }
    println!(
        "100 watches that read nothing of their {objects} initial objects: resident {} KiB",
        resident_kib()
    );
    Ok(())
}

async fn fill(store: &EmbeddedStore, objects: usize) -> Result<(), Failure> {
    let filler = "x".repeat(1000);
    futures::stream::iter(0..objects)
        .map(|n| {
            let object = format!(
                "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"m{n}\",\"namespace\":\"default\",\"uid\":\"{n}\"}},\"data\":{{\"key\":\"{filler}\"}}}}"
            );
            async move {
                let key = format!("/registry/configmaps/default/m{n}");
                store.put(&key, Bytes::from(object), Expect::Absent).await.map(drop)
            }
        })
        .buffer_unordered(256)
        .try_collect::<()>()
        .await?;
    Ok(())
}

async fn request(
    server: &ApiServer,
    path: &str,
) -> Result<http::Response<apiserver::ResponseBody>, Failure> {
    let request = http::Request::get(path).body(Full::new(Bytes::new()))?;
    let service = server.client_service(Identity::admin());
    service.oneshot(request).await
}

async fn get(server: &ApiServer, path: &str) -> Result<usize, Failure> {
    let body = request(server, path).await?.into_body();
    Ok(body.collect().await?.to_bytes().len())
}

/// The code of a response whose body is not read.
async fn begin(server: &ApiServer, path: &str) -> Result<u16, Failure> {
    Ok(request(server, path).await?.status().as_u16())
}

/// What `VmRSS` says; 0 where there is no procfs.
fn resident_kib() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}
