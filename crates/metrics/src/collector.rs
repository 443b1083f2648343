//! Watches which nodes and pods exist, and scrapes the nodes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::PartialObjectMeta;
use kube::client::Body;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::custom::objects::{Pod, Service};
use crate::custom::scraper::Scrapers;
use crate::custom::services::Services;
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
        () = watch_services(server) => {}
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
    let api: Api<Pod> = Api::all(server.client.clone());
    let mut listed: BTreeMap<String, BTreeMap<String, Labels>> = BTreeMap::new();
    let mut scrapers = Scrapers::new(server.scraped.clone());
    watch("pods", api, |event| {
        match &event {
            Event::Init => {}
            Event::InitApply(pod) | Event::Apply(pod) => scrapers.set(pod),
            Event::Delete(pod) => {
                let meta = &pod.metadata;
                scrapers.remove(
                    meta.namespace.as_deref().unwrap_or_default(),
                    meta.name.as_deref().unwrap_or_default(),
                );
            }
            Event::InitDone => scrapers.keep_only(|namespace, name| {
                let of_namespace = listed.get(namespace);
                of_namespace.is_some_and(|pods| pods.contains_key(name))
            }),
        }
        let pod = |object: Pod| {
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

async fn watch_services(server: &Server) {
    let api: Api<Service> = Api::all(server.client.clone());
    let mut listed = Services::default();
    watch("services", api, |event| match event {
        Event::Init => listed = Services::default(),
        Event::InitApply(service) => listed.set(service),
        Event::InitDone => *server.services.lock() = std::mem::take(&mut listed),
        Event::Apply(service) => server.services.lock().set(service),
        Event::Delete(service) => {
            let meta = service.metadata;
            server.services.lock().remove(
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default(),
            );
        }
    })
    .await;
}

fn change(server: &Server, change: impl FnOnce(&mut Store)) {
    change(&mut server.store.lock());
}

/// Follows all objects of a kind for ever.
async fn watch<T>(what: &str, api: Api<T>, mut handle: impl FnMut(Event<T>))
where
    T: Resource<DynamicType = ()>
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
