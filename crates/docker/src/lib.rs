//! The Docker Engine API over this machine's engine, images and network, so that the unmodified `docker` command works.
//!
//! Deliberately absent: state of its own. A container's Docker configuration is an annotation on the engine's record; everything
//! else is asked from engine, images and network each time. Source: Docker's Engine API reference, version 1.44.
#![forbid(unsafe_code)]

mod body;
mod build;
mod commit;
mod containers;
mod events;
mod filters;
mod health;
mod images;
mod monitor;
mod mounts;
mod names;
mod networks;
mod ports;
mod query;
mod record;
mod reply;
mod route;
mod runner;
mod system;
mod tree;
mod turns;
mod volumes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use image::Images;
use network::Network;
use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The newest API version that is spoken, and the oldest.
const API_VERSION: &str = "1.44";
const API_VERSION_MIN: &str = "1.24";
/// Connections beyond this wait in the listener's queue.
const CONNECTIONS_MAX: usize = 512;

/// The API's handlers share this. Cheap to clone.
#[derive(Clone)]
pub struct Docker {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    images: Images,
    network: Network,
    /// Where containers' logs lie.
    logs: PathBuf,
    /// Commands that were announced by `POST /containers/ID/exec`, until they have been asked about after their end.
    execs: Mutex<containers::exec::Execs>,
    /// Where named volumes lie, each in a directory of its own.
    volumes: PathBuf,
    /// Uploads and build contexts, as long as they are needed.
    uploads: PathBuf,
    turns: turns::Turns,
    /// What health checks have found.
    healths: health::Healths,
    /// What has been removed, for those to whom its end is told.
    gone: events::Gone,
    /// Starts that failed: a container that never ran has no exit that the engine could tell.
    failures: tokio::sync::broadcast::Sender<containers::lifecycle::StartFailure>,
}

impl Docker {
    /// `logs` (`DIR/logs/containers`) is the directory of containers' logs; named volumes and uploads lie beneath `DIR` too. All
    /// are made when they are needed.
    pub fn new(engine: Engine, images: Images, network: Network, logs: PathBuf) -> Self {
        let home = logs.ancestors().nth(2).unwrap_or(&logs).to_owned();
        let inner = Inner {
            engine,
            images,
            network,
            logs,
            execs: Mutex::default(),
            volumes: home.join("volumes"),
            uploads: home.join("uploads"),
            turns: turns::Turns::default(),
            healths: health::Healths::default(),
            gone: events::Gone::default(),
            failures: tokio::sync::broadcast::Sender::new(64),
        };
        Self {
            inner: Arc::new(inner),
        }
    }
}

/// Serves until `shutdown`. Containers keep running afterwards.
pub async fn serve(listener: UnixListener, docker: Docker, shutdown: CancellationToken) {
    // before anybody can ask for something new
    monitor::recover(&docker).await;
    let monitor = tokio::spawn(monitor::run(docker.clone(), shutdown.clone()));
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            break;
        };
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the Docker API could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (docker, shutdown) = (docker.clone(), shutdown.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let service = service_fn(move |request| {
                let docker = docker.clone();
                async move { Ok::<_, std::convert::Infallible>(route::answer(docker, request).await) }
            });
            let builder = Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                () = shutdown.cancelled() => {}
            }
        });
    }
    let _ = monitor.await;
}
