//! Liveness, readiness and startup probes: the loop that asks, and the counting of successes and failures.
//!
//! Follows the kubelet's `pkg/kubelet/prober`.

mod grpc;
mod http;
mod tls;

use std::time::Duration;

use engine::{Engine, ExecSpec};
use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::leash::Leash;
use http::dial;
pub use http::{http_get, http_hook};

/// Of a response body, so much goes into an event and no more is read.
const BODY_BYTES_MAX: usize = 10 * 1024;

/// Which question a probe answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    /// As events spell it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// What a probe tells its pod's worker.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub container_id: String,
    pub kind: Kind,
    /// `Some` when the threshold was crossed now.
    pub turned: Option<bool>,
    /// Why this attempt failed.
    pub failure: Option<String>,
    /// The probe's own terminationGracePeriodSeconds.
    pub grace: Option<Duration>,
}

/// Counts results in a row against a probe's thresholds.
#[derive(Debug, Default)]
pub struct Counter {
    last: Option<bool>,
    in_a_row: i32,
    state: Option<bool>,
}

impl Counter {
    /// Takes one result; tells when the probe's answer changes.
    pub fn take(
        &mut self,
        success: bool,
        success_threshold: i32,
        failure_threshold: i32,
    ) -> Option<bool> {
        if self.last == Some(success) {
            self.in_a_row = self.in_a_row.saturating_add(1);
        } else {
            self.last = Some(success);
            self.in_a_row = 1;
        }
        let threshold = if success {
            success_threshold
        } else {
            failure_threshold
        };
        if self.in_a_row < threshold || self.state == Some(success) {
            return None;
        }
        self.state = Some(success);
        Some(success)
    }
}

/// Everything one probe needs to know.
#[derive(Clone)]
pub struct Target {
    pub engine: Engine,
    pub container_id: String,
    pub container: Container,
    pub probe: Probe,
    pub pod_ip: String,
    pub kind: Kind,
    /// For how long the container had run when this was made.
    pub age: Duration,
}

/// A container that has just started is asked again soon, so that readiness does not wait for a whole period; for so long.
const EAGER: Duration = Duration::from_secs(3);

/// Asks until cancelled. Each failure and each change of the answer is sent.
pub async fn run(target: Target, verdicts: mpsc::Sender<Verdict>, stop: CancellationToken) {
    let seconds = |value: Option<i32>, default: u64| {
        Duration::from_secs(value.map_or(default, |v| v.max(0) as u64))
    };
    let period = seconds(target.probe.period_seconds, 10).max(Duration::from_secs(1));
    let timeout = seconds(target.probe.timeout_seconds, 1).max(Duration::from_secs(1));
    let mut counter = Counter::default();
    // counted from the container's start, also where its startup probe took its time
    let mut wait = seconds(target.probe.initial_delay_seconds, 0).saturating_sub(target.age);
    let mut eager = 0;
    let eager_until = tokio::time::Instant::now() + wait + EAGER;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = tokio::time::timeout(timeout, attempt(&target)) => answer,
        };
        let answered = answer.is_ok();
        let outcome = answer.unwrap_or_else(|_| {
            let seconds = timeout.as_secs();
            Err(format!(
                "context deadline exceeded: no answer within {seconds} s"
            ))
        });
        // one that has ended gives no answers, and needs none
        if outcome.is_err()
            && target
                .engine
                .container(&target.container_id)
                .await
                .is_none_or(|c| c.state != engine::State::Running)
        {
            return;
        }
        let turned = counter.take(
            outcome.is_ok(),
            target.probe.success_threshold.unwrap_or(1).max(1),
            target.probe.failure_threshold.unwrap_or(3).max(1),
        );
        // Early refusals are no news; failures are counted at the declared period only. One that hangs is no refusal.
        let starting = target.kind != Kind::Liveness
            && answered
            && outcome.is_err()
            && tokio::time::Instant::now() < eager_until
            && counter.state.is_none();
        wait = if starting {
            Duration::from_millis(50 * (1 + eager / 4))
        } else {
            period
        };
        if starting {
            eager += 1;
            counter = Counter::default();
            continue;
        }
        if turned.is_some() || outcome.is_err() {
            let grace = target
                .probe
                .termination_grace_period_seconds
                .map(|seconds| Duration::from_secs(seconds.max(0) as u64));
            let verdict = Verdict {
                container_id: target.container_id.clone(),
                kind: target.kind,
                turned,
                failure: outcome.err(),
                grace,
            };
            if verdicts.send(verdict).await.is_err() {
                return;
            }
        }
        if target.kind == Kind::Startup && turned == Some(true) {
            return;
        }
    }
}

async fn attempt(target: &Target) -> Result<(), String> {
    if let Some(get) = &target.probe.http_get {
        let port = port_number(&target.container, &get.port)
            .ok_or_else(|| format!("invalid port {:?}", get.port))?;
        let host = get
            .host
            .as_deref()
            .filter(|h| !h.is_empty())
            .unwrap_or(&target.pod_ip);
        let headers = get
            .http_headers
            .iter()
            .flatten()
            .map(|h| (h.name.as_str(), h.value.as_str()));
        let tls = get.scheme.as_deref() == Some("HTTPS");
        return http_get(tls, host, port, get.path.as_deref().unwrap_or("/"), headers).await;
    }
    if let Some(tcp) = &target.probe.tcp_socket {
        let port = port_number(&target.container, &tcp.port)
            .ok_or_else(|| format!("invalid port {:?}", tcp.port))?;
        let host = tcp
            .host
            .as_deref()
            .filter(|h| !h.is_empty())
            .unwrap_or(&target.pod_ip);
        return TcpStream::connect((host, port))
            .await
            .map(drop)
            .map_err(|e| dial(host, port, &e));
    }
    if let Some(exec) = &target.probe.exec {
        return run_command(target, exec.command.clone().unwrap_or_default()).await;
    }
    if let Some(grpc) = &target.probe.grpc {
        let port = u16::try_from(grpc.port).map_err(|_| format!("invalid port {}", grpc.port))?;
        let service = grpc.service.as_deref().unwrap_or_default();
        return grpc::check(&target.pod_ip, port, service).await;
    }
    Err("the probe asks nothing: it needs one of httpGet, tcpSocket, grpc, exec".to_owned())
}

/// A port given by number or by the name of one of the container's ports.
pub fn port_number(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok().filter(|port| *port > 0),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref() == Some(name))
            .and_then(|p| u16::try_from(p.container_port).ok())
            .or_else(|| name.parse().ok()),
    }
}

async fn run_command(target: &Target, argv: Vec<String>) -> Result<(), String> {
    let spec = ExecSpec {
        argv,
        ..ExecSpec::default()
    };
    let mut process = target
        .engine
        .exec(&target.container_id, spec)
        .await
        .map_err(|e| e.to_string())?;
    let leash = Leash::of(&process);
    let mut text = Vec::new();
    while let Some(output) = process.output.recv().await {
        let (engine::Output::Stdout(chunk) | engine::Output::Stderr(chunk)) = output;
        let room = BODY_BYTES_MAX.saturating_sub(text.len());
        text.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    let status = process.wait().await.map_err(|e| e.to_string())?;
    leash.release();
    if status.code == 0 {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&text).trim_end().to_owned();
    Err(if text.is_empty() {
        format!("command exited with code {}", status.code)
    } else {
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let mut counter = Counter::default();
        let mut take = |success| counter.take(success, 2, 3);
        assert_eq!(take(true), None, "one success is not two");
        assert_eq!(take(true), Some(true));
        assert_eq!(take(true), None, "no news");
        assert_eq!(take(false), None);
        assert_eq!(take(false), None);
        assert_eq!(take(true), None, "a success between starts the count anew");
        assert_eq!(
            (take(false), take(false), take(false)),
            (None, None, Some(false))
        );
        assert_eq!((take(true), take(true)), (None, Some(true)));
    }

    #[test]
    fn ports_by_name_and_number() {
        let container: Container = serde_json::from_value(serde_json::json!({ "name": "c", "ports": [{ "name": "http", "containerPort": 8080 }] }))
            .expect("fixture");
        for (port, want) in [
            (IntOrString::Int(80), Some(80)),
            (IntOrString::Int(70000), None),
            (IntOrString::Int(0), None),
            (IntOrString::String("http".into()), Some(8080)),
            (IntOrString::String("81".into()), Some(81)),
            (IntOrString::String("nothing".into()), None),
        ] {
            assert_eq!(port_number(&container, &port), want, "{port:?}");
        }
    }
}
