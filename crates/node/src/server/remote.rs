//! Requests that become a connection to something inside a pod: exec, attach, port-forward; over WebSocket and over SPDY.

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use engine::{Error, ExecSpec, Process};
use http::StatusCode;
use kube::ResourceExt as _;

use super::{Api, Refusal, flag};
use crate::port_forward::{self, Target, channels};
use crate::spdy::{self, command};
use crate::streams::{self, Whose};

type Parameters = Query<Vec<(String, String)>>;
type OfContainer = Path<(String, String, String)>;
type OfPod = Path<(String, String)>;

/// A refusal, with what its client needs to know in its headers.
pub(super) struct Refused(Box<Response>);

impl From<Box<Response>> for Refused {
    fn from(response: Box<Response>) -> Self {
        Self(response)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(Box::new(refusal.into_response()))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// The kubelet's names for the streams differ from the API's; both are understood.
fn wanted(query: &[(String, String)], whose: Whose) -> command::Wanted {
    let either = |one, other| flag(query, one) || flag(query, other);
    command::Wanted {
        stdin: either("stdin", "input"),
        stdout: either("stdout", "output"),
        stderr: either("stderr", "error"),
        tty: flag(query, "tty"),
        whose,
    }
}

impl Api {
    /// Starts the command that a request names.
    async fn start(
        &self,
        (namespace, pod, container): (String, String, String),
        query: &[(String, String)],
    ) -> Result<Result<Process, Error>, Refusal> {
        let id = self.running(&namespace, &pod, &container).await?;
        let words = query.iter().filter(|(key, _)| key == "command");
        let argv: Vec<String> = words.map(|(_, word)| word.clone()).collect();
        if argv.is_empty() {
            let words = "you must specify at least one command for the container\n";
            return Err((StatusCode::BAD_REQUEST, words.into()));
        }
        let wanted = wanted(query, Whose::Command);
        let spec = ExecSpec {
            argv,
            tty: wanted.tty,
            stdin: wanted.stdin,
            ..ExecSpec::default()
        };
        Ok(self.shared.engine.exec(&id, spec).await)
    }

    async fn join(
        &self,
        (namespace, pod, container): (String, String, String),
        query: &[(String, String)],
    ) -> Result<Result<Process, Error>, Refusal> {
        let id = self.running(&namespace, &pod, &container).await?;
        Ok(self
            .shared
            .engine
            .attach(&id, wanted(query, Whose::Attached).stdin)
            .await)
    }

    async fn target(&self, namespace: &str, name: &str) -> Result<Target, Refusal> {
        let pod = self.pod(namespace, name)?;
        let uid = pod.uid().unwrap_or_default();
        let sandbox = self.shared.engine.sandbox(&uid).await;
        let running = sandbox.filter(|sandbox| sandbox.state == engine::SandboxState::Running);
        let Some(sandbox) = running else {
            return Err((
                StatusCode::NOT_FOUND,
                format!("pod {namespace}/{name} is not running\n"),
            ));
        };
        Ok(Target {
            netns: sandbox.netns,
            pod: format!("{name}_{namespace}"),
            uid,
        })
    }
}

fn over_websocket(
    upgrade: WebSocketUpgrade,
    process: Result<Process, Error>,
    tty: bool,
    whose: Whose,
) -> Response {
    upgrade
        .protocols(streams::PROTOCOLS)
        .on_upgrade(move |socket| async move {
            match process {
                Ok(process) => streams::run(socket, process, whose).await,
                Err(error) => streams::refuse(socket, &error, tty).await,
            }
        })
}

pub(super) async fn exec(
    State(api): State<Api>,
    Path(of): OfContainer,
    Query(query): Parameters,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let process = api.start(of, &query).await?;
    Ok(over_websocket(
        upgrade,
        process,
        flag(&query, "tty"),
        Whose::Command,
    ))
}

pub(super) async fn exec_over_streams(
    State(api): State<Api>,
    Path(of): OfContainer,
    Query(query): Parameters,
    request: Request,
) -> Result<Response, Refused> {
    let protocol = spdy::negotiate(request.headers(), &command::PROTOCOLS)?;
    let process = api.start(of, &query).await?;
    let wanted = wanted(&query, Whose::Command);
    Ok(spdy::upgrade(request, protocol, move |streams| {
        command::run(protocol, streams, wanted, process)
    }))
}

pub(super) async fn attach(
    State(api): State<Api>,
    Path(of): OfContainer,
    Query(query): Parameters,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let process = api.join(of, &query).await?;
    Ok(over_websocket(upgrade, process, false, Whose::Attached))
}

pub(super) async fn attach_over_streams(
    State(api): State<Api>,
    Path(of): OfContainer,
    Query(query): Parameters,
    request: Request,
) -> Result<Response, Refused> {
    let protocol = spdy::negotiate(request.headers(), &command::PROTOCOLS)?;
    let process = api.join(of, &query).await?;
    let wanted = wanted(&query, Whose::Attached);
    Ok(spdy::upgrade(request, protocol, move |streams| {
        command::run(protocol, streams, wanted, process)
    }))
}

/// Over WebSocket: the streams of SPDY inside it, or channels of messages.
pub(super) async fn forward(
    State(api): State<Api>,
    Path((namespace, pod)): OfPod,
    Query(query): Parameters,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refusal> {
    let target = api.target(&namespace, &pod).await?;
    let upgrade = upgrade.protocols([port_forward::TUNNELLED, channels::PROTOCOL]);
    let tunnelled = upgrade
        .selected_protocol()
        .is_some_and(|chosen| chosen == port_forward::TUNNELLED);
    if tunnelled {
        return Ok(upgrade.on_upgrade(move |socket| {
            port_forward::serve(spdy::accept(spdy::tunnel(socket)), target)
        }));
    }
    let ports = channels::ports(&query).map_err(|words| (StatusCode::BAD_REQUEST, words))?;
    Ok(upgrade.on_upgrade(move |socket| channels::serve(socket, ports, target)))
}

pub(super) async fn forward_over_streams(
    State(api): State<Api>,
    Path((namespace, pod)): OfPod,
    request: Request,
) -> Result<Response, Refused> {
    let protocol = spdy::negotiate(request.headers(), &[port_forward::PROTOCOL])?;
    let target = api.target(&namespace, &pod).await?;
    Ok(spdy::upgrade(request, protocol, move |streams| {
        port_forward::serve(streams, target)
    }))
}
