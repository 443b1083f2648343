//! The kubelet's HTTP API, for the API server and whoever else may: logs, exec, attach, pods, measurements.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::{BufMut, Bytes, BytesMut};
use engine::{ContainerStatus, logs};
use futures::StreamExt;
use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::pods::Pods;
use crate::worker::{self, Shared};
use crate::{container::label, measure::summary::Rates};
use remote::{attach, attach_over_streams, exec, exec_over_streams, forward, forward_over_streams};

mod authorize;
mod connections;
mod measured;
mod remote;
mod token;

#[derive(Clone)]
struct Api {
    shared: Arc<Shared>,
    pods: Pods,
    rates: Arc<Rates>,
}

/// Serves until `shutdown`; open streams end with it.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    pods: Pods,
    shutdown: CancellationToken,
) {
    let app = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/pods", get(list_pods))
        .route("/metrics", get(measured::of_process))
        .route("/metrics/probes", get(measured::probes))
        .route("/metrics/resource", get(measured::resources))
        .route("/stats/summary", get(measured::summary))
        .route(
            "/containerLogs/{namespace}/{pod}/{container}",
            get(container_logs),
        )
        .route(
            "/exec/{namespace}/{pod}/{container}",
            get(exec).post(exec_over_streams),
        )
        .route(
            "/attach/{namespace}/{pod}/{container}",
            get(attach).post(attach_over_streams),
        )
        .route(
            "/portForward/{namespace}/{pod}",
            get(forward).post(forward_over_streams),
        )
        .with_state(Api {
            shared: shared.clone(),
            pods,
            rates: Arc::default(),
        });
    let guard = authorize::Guard::new(shared.client.clone(), shared.config.name.clone());
    let guarded = axum::middleware::from_fn_with_state(Arc::new(guard), authorize::check);
    let app = app.layer(guarded);
    connections::serve(listener, shared.config.tls.clone(), app, shutdown).await;
}

type Refusal = (StatusCode, String);

async fn list_pods(State(api): State<Api>) -> Response {
    let pods: Vec<Pod> = api
        .pods
        .read()
        .values()
        .map(|pod| (**pod).clone())
        .collect();
    axum::Json(
        serde_json::json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods }),
    )
    .into_response()
}

impl Api {
    fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
        let pods = self.pods.read();
        let found = pods
            .values()
            .find(|pod| pod.namespace().as_deref() == Some(namespace) && pod.name_any() == name);
        found.cloned().ok_or_else(|| {
            (
                StatusCode::NOT_FOUND,
                format!("pod {namespace}/{name} not found\n"),
            )
        })
    }

    /// Attempts of one container, oldest first.
    async fn attempts(&self, pod: &Pod, container: &str) -> Vec<ContainerStatus> {
        let uid = pod.uid().unwrap_or_default();
        let mut attempts: Vec<_> = self.shared.engine.containers().await;
        attempts.retain(|c| {
            c.spec.labels.get(label::POD_UID) == Some(&uid) && c.spec.name == container
        });
        attempts.sort_by_key(worker::restarts);
        attempts
    }

    async fn running(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<String, Refusal> {
        let pod = self.pod(namespace, pod)?;
        let attempts = self.attempts(&pod, container).await;
        match attempts.last() {
            Some(last) if last.state == engine::State::Running => Ok(last.id.clone()),
            _ => Err((
                StatusCode::NOT_FOUND,
                format!("container not found (\"{container}\")\n"),
            )),
        }
    }
}

fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
}

fn flag(query: &[(String, String)], name: &str) -> bool {
    matches!(parameter(query, name), Some("true" | "1"))
}

async fn container_logs(
    State(api): State<Api>,
    Path((namespace, pod_name, container)): Path<(String, String, String)>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Refusal> {
    let pod = api.pod(&namespace, &pod_name)?;
    let number = |name: &str| -> Result<Option<i64>, Refusal> {
        parameter(&query, name)
            .map(|text| {
                text.parse().map_err(|_| {
                    (
                        StatusCode::BAD_REQUEST,
                        format!("{name}={text:?} is not a number\n"),
                    )
                })
            })
            .transpose()
    };
    let attempts = api.attempts(&pod, &container).await;
    let previous = flag(&query, "previous");
    let chosen = if previous {
        // what the status calls its last state: while one waits to start again, that is the newest attempt
        let told = last_state(&pod, &container);
        let named = attempts.iter().find(|one| Some(one.id.as_str()) == told);
        named.or_else(|| attempts.len().checked_sub(2).and_then(|i| attempts.get(i)))
    } else {
        attempts.last()
    };
    let Some(chosen) = chosen.filter(|c| c.started_at.is_some()) else {
        let what = if previous {
            format!(
                "previous terminated container \"{container}\" in pod \"{pod_name}\" not found\n"
            )
        } else {
            let statuses = pod.status.iter().flat_map(|s| {
                s.container_statuses
                    .iter()
                    .chain(&s.init_container_statuses)
                    .flatten()
            });
            let waiting = statuses
                .filter(|c| c.name == container)
                .find_map(|c| c.state.as_ref()?.waiting.as_ref()?.reason.clone());
            let reason = waiting.unwrap_or_else(|| "ContainerCreating".into());
            format!(
                "container \"{container}\" in pod \"{pod_name}\" is waiting to start: {reason}\n"
            )
        };
        return Err((StatusCode::BAD_REQUEST, what));
    };
    let since = match number("sinceSeconds")? {
        Some(seconds) => {
            Timestamp::from_second(Timestamp::now().as_second().saturating_sub(seconds)).ok()
        }
        None => match parameter(&query, "sinceTime") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                (
                    StatusCode::BAD_REQUEST,
                    format!("sinceTime={text:?} is not a time as in RFC 3339\n"),
                )
            })?),
        },
    };
    let options = logs::ReadOptions {
        tail: number("tailLines")?.and_then(|n| usize::try_from(n).ok()),
        since,
        until: None,
        follow: flag(&query, "follow"),
    };
    let timestamps = flag(&query, "timestamps");
    let left = number("limitBytes")?
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX);
    let (lines_in, lines) = mpsc::channel(256);
    let (engine, id, path) = (
        api.shared.engine.clone(),
        chosen.id.clone(),
        chosen.spec.log.path.clone(),
    );
    tokio::spawn(async move {
        let ended = async {
            let _ = engine.wait_container(&id).await;
        };
        if let Err(error) = logs::read(&path, options, ended, lines_in).await {
            tracing::debug!(%error, path = %path.display(), "a log could not be read to its end");
        }
    });
    let chunks = ReceiverStream::new(lines)
        .map(move |line| render_line(&line, timestamps))
        .scan(left, |left, chunk| {
            // a limit cuts within a line, as the kubelet's does
            let chunk = chunk.slice(..chunk.len().min(*left));
            *left -= chunk.len();
            futures::future::ready((!chunk.is_empty()).then_some(Ok::<_, Infallible>(chunk)))
        });
    Ok((
        [(http::header::CONTENT_TYPE, "text/plain")],
        Body::from_stream(chunks),
    )
        .into_response())
}

/// The attempt that the pod's status has as the last one that ended.
fn last_state<'a>(pod: &'a Pod, container: &str) -> Option<&'a str> {
    let status = pod.status.as_ref()?;
    let mut all = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ]
    .into_iter()
    .flat_map(|statuses| statuses.iter().flatten());
    let own = all.find(|one| one.name == container)?;
    let ended = own.last_state.as_ref()?.terminated.as_ref()?;
    ended.container_id.as_deref()?.strip_prefix("plimsoll://")
}

fn render_line(line: &logs::Line, timestamps: bool) -> Bytes {
    let mut text = BytesMut::with_capacity(line.content.len() + 40);
    if timestamps {
        text.put_slice(format!("{:.9} ", line.at).as_bytes());
    }
    text.put_slice(&line.content);
    if !line.partial {
        text.put_u8(b'\n');
    }
    text.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_state_is_what_the_status_says() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"status": {
            "initContainerStatuses": [{"name": "i", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "lastState": {"terminated": {"exitCode": 1, "containerID": "plimsoll://i-0"}}}],
            "containerStatuses": [
                {"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 1, "lastState": {
                    "terminated": {"exitCode": 1, "containerID": "plimsoll://a-1"}}},
                {"name": "b", "image": "", "imageID": "", "ready": true, "restartCount": 0, "lastState": {}}],
        }}))
        .expect("a pod");
        assert_eq!(last_state(&pod, "a"), Some("a-1"));
        assert_eq!(last_state(&pod, "i"), Some("i-0"));
        assert_eq!(last_state(&pod, "b"), None);
        assert_eq!(last_state(&pod, "c"), None);
        assert_eq!(last_state(&Pod::default(), "a"), None);
    }

    #[test]
    fn lines_as_kubectl_prints_them() {
        let line = |partial| logs::Line {
            at: Timestamp::from_second(1_700_000_000).expect("time"),
            stream: logs::Stream::Stdout,
            partial,
            content: Bytes::from_static(b"hello"),
        };
        assert_eq!(render_line(&line(false), false), "hello\n");
        assert_eq!(render_line(&line(true), false), "hello");
        assert_eq!(
            render_line(&line(false), true),
            "2023-11-14T22:13:20.000000000Z hello\n"
        );
    }
}
