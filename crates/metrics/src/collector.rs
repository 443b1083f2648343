//! Watches which nodes and pods exist, and scrapes the nodes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::PartialObjectMeta;
use kube::client::Body;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::scrape::page;
use crate::server::Server;
use crate::store::{Labels, Store};

/// Pause after a failed watch.
const WATCH_PAUSE: Duration = Duration::from_millis(200);
/// Most bytes of a refusal that are read.
const REFUSAL_MAX: usize = 4096;

/// Why a node's page could not be had.
#[derive(Debug, thiserror::Error)]
enum ScrapeError {
    #[error("the node's kubelet could not be reached: {0}")]
    Unreachable(#[source] Box<kube::Error>),
    #[error("the node's page broke off or is longer than allowed: {0}")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the node answered {code}: {text}")]
    Refused { code: u16, text: String },
    #[error("the node did not answer in time")]
    Timeout,
    #[error("the request could not be made: {0}")]
    Request(#[from] http::Error),
}

/// Runs until `shutdown`.
pub async fn collect(server: &Server, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = watch_nodes(server) => {}
        () = watch_pods(server) => {}
        () = scrape_all(server) => {}
    }
}

async fn watch_nodes(server: &Server) {
    let api: Api<PartialObjectMeta<Node>> = Api::all(server.client.clone());
    let mut listed = BTreeMap::new();
    watch("nodes", api, |event| {
        let node = |object: PartialObjectMeta<Node>| {
            let meta = object.metadata;
            (
                meta.name.unwrap_or_default(),
                meta.labels.unwrap_or_default(),
            )
        };
        change(server, |store| match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => listed.extend([node(object)]),
            Event::InitDone => store.set_nodes(std::mem::take(&mut listed)),
            Event::Apply(object) => {
                let (name, labels) = node(object);
                store.set_node(name, labels);
            }
            Event::Delete(object) => store.remove_node(&node(object).0),
        });
    })
    .await;
}

async fn watch_pods(server: &Server) {
    let api: Api<PartialObjectMeta<Pod>> = Api::all(server.client.clone());
    let mut listed: BTreeMap<String, BTreeMap<String, Labels>> = BTreeMap::new();
    watch("pods", api, |event| {
        let pod = |object: PartialObjectMeta<Pod>| {
            let meta = object.metadata;
            let labels = meta.labels.unwrap_or_default();
            (
                meta.namespace.unwrap_or_default(),
                meta.name.unwrap_or_default(),
                labels,
            )
        };
        change(server, |store| match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                let (namespace, name, labels) = pod(object);
                listed.entry(namespace).or_default().insert(name, labels);
            }
            Event::InitDone => store.set_pods(std::mem::take(&mut listed)),
            Event::Apply(object) => {
                let (namespace, name, labels) = pod(object);
                store.set_pod(namespace, name, labels);
            }
            Event::Delete(object) => {
                let (namespace, name, _) = pod(object);
                store.remove_pod(&namespace, &name);
            }
        });
    })
    .await;
}

fn change(server: &Server, change: impl FnOnce(&mut Store)) {
    change(&mut server.store.lock());
}

/// Follows the metadata of all objects of a kind for ever.
async fn watch<K>(
    what: &str,
    api: Api<PartialObjectMeta<K>>,
    mut handle: impl FnMut(Event<PartialObjectMeta<K>>),
) where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + 'static,
{
    let config = watcher::Config::default().any_semantic();
    loop {
        let mut events = std::pin::pin!(watcher::watcher(api.clone(), config.clone()));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => handle(event),
                Err(error) => {
                    tracing::warn!(%error, "the watch of {what} failed and is started again");
                    tokio::time::sleep(WATCH_PAUSE).await;
                }
            }
        }
    }
}

/// Starts a scrape of every node each interval; one that is still under way is not started again.
async fn scrape_all(server: &Server) {
    let mut ticks = tokio::time::interval(server.config.interval.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut scrapes: JoinSet<(String, Result<(), ScrapeError>)> = JoinSet::new();
    let mut under_way: HashSet<String> = HashSet::new();
    let mut failing: HashMap<String, String> = HashMap::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let nodes = server.store.lock().node_names();
                failing.retain(|node, _| nodes.contains(node));
                for node in nodes {
                    if under_way.insert(node.clone()) {
                        let server = server.clone();
                        scrapes.spawn(async move {
                            let outcome = scrape(&server, &node).await;
                            (node, outcome)
                        });
                    }
                }
            }
            Some(done) = scrapes.join_next() => match done {
                Ok((node, outcome)) => {
                    under_way.remove(&node);
                    tell(&mut failing, node, outcome);
                }
                // Which node it was is lost with the panic; the others' entries go with the next round.
                Err(error) => {
                    tracing::error!(%error, "a scrape broke off");
                    scrapes.abort_all();
                    while scrapes.join_next().await.is_some() {}
                    under_way.clear();
                }
            }
        }
    }
}

/// Logs when a node begins to fail, fails otherwise, or answers again.
fn tell(failing: &mut HashMap<String, String>, node: String, outcome: Result<(), ScrapeError>) {
    match outcome {
        Ok(()) => {
            if failing.remove(&node).is_some() {
                tracing::info!(node, "the node's measurements arrive again");
            }
        }
        Err(error) => {
            let text = error.to_string();
            if failing.get(&node) != Some(&text) {
                tracing::warn!(node, %error, "no measurements from the node; its pods show no usage meanwhile");
                failing.insert(node, text);
            }
        }
    }
}

async fn scrape(server: &Server, node: &str) -> Result<(), ScrapeError> {
    let limit = server.config.timeout;
    let (text, at) = tokio::time::timeout(limit, fetch(server, node))
        .await
        .map_err(|_| ScrapeError::Timeout)??;
    let page = page(&text, at);
    if page.dropped > 0 {
        tracing::debug!(
            node,
            dropped = page.dropped,
            "lines of the node's page were left out"
        );
    }
    server.store.lock().absorb(node, page, server.config.window);
    Ok(())
}

async fn fetch(server: &Server, node: &str) -> Result<(String, Timestamp), ScrapeError> {
    let uri = format!("/api/v1/nodes/{node}/proxy/metrics/resource");
    let request = http::Request::get(uri)
        .header(http::header::ACCEPT, "text/plain;version=0.0.4")
        .body(Body::empty())?;
    let response = server
        .client
        .send(request)
        .await
        .map_err(|error| ScrapeError::Unreachable(Box::new(error)))?;
    let status = response.status();
    let limit = if status.is_success() {
        server.config.page_bytes_max
    } else {
        REFUSAL_MAX
    };
    let body = Limited::new(response.into_body(), limit).collect().await;
    if !status.is_success() {
        let text = body
            .map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned())
            .unwrap_or_default();
        return Err(ScrapeError::Refused {
            code: status.as_u16(),
            text,
        });
    }
    let bytes = body.map_err(ScrapeError::Broken)?.to_bytes();
    Ok((
        String::from_utf8_lossy(&bytes).into_owned(),
        Timestamp::now(),
    ))
}
