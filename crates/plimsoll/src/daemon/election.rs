//! Leader election: of several processes with the same role one works. Upstream's way, on the same Leases, so that this
//! program's roles and stock ones exclude each other.
//!
//! Source: `k8s.io/client-go/tools/leaderelection`.

mod lease;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::settings::Role;
use lease::Step;

/// What is done while leading, until the token is cancelled; begun anew at each election.
pub type Work =
    Box<dyn Fn(CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

const NAMESPACE: &str = "kube-system";

/// Upstream's defaults of kube-controller-manager and kube-scheduler.
const TIMES: Times = Times {
    lease: Duration::from_secs(15),
    renewal: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};

#[derive(Clone, Copy)]
struct Times {
    /// How long a lease that is not renewed is respected.
    lease: Duration,
    /// How long the leader tries to renew before it gives up.
    renewal: Duration,
    retry: Duration,
}

/// Runs `work` as a role: while elected under `identity`, or always where nobody else can be.
pub fn spawn(
    roles: &mut JoinSet<()>,
    role: Role,
    client: kube::Client,
    identity: Option<String>,
    shutdown: &CancellationToken,
    work: Work,
) {
    let shutdown = shutdown.clone();
    let Some(identity) = identity else {
        roles.spawn(work(shutdown));
        return;
    };
    let lease = role.lease();
    roles.spawn(async move {
        Candidate {
            api: Api::namespaced(client, NAMESPACE),
            lease,
            identity,
            times: TIMES,
            seen: None,
        }
        .run(work, shutdown)
        .await;
    });
}

struct Candidate {
    api: Api<Lease>,
    lease: &'static str,
    identity: String,
    times: Times,
    /// The lease as it was last seen, and since when it has been so, by this process's clock.
    seen: Option<(Lease, Instant)>,
}

impl Candidate {
    async fn run(mut self, work: Work, shutdown: CancellationToken) {
        while self.win(&shutdown).await {
            let (lease, identity) = (self.lease, self.identity.clone());
            tracing::info!(lease, identity, "elected");
            let stop = shutdown.child_token();
            let mut task = tokio::spawn(work(stop.clone()));
            let lost = tokio::select! {
                () = shutdown.cancelled() => false,
                () = self.hold() => true,
                _ = &mut task => {
                    tracing::error!(lease, "what was elected has ended by itself");
                    self.release().await;
                    return;
                }
            };
            stop.cancel();
            // Until somebody else may begin.
            let left = self.times.lease - self.times.renewal;
            if tokio::time::timeout(left, &mut task).await.is_err() {
                task.abort();
                let _ = task.await;
            }
            if !lost {
                self.release().await;
                return;
            }
            tracing::warn!(
                lease,
                identity,
                "no longer elected; standing for election again"
            );
        }
    }

    /// Tries until elected; false at shutdown.
    async fn win(&mut self, shutdown: &CancellationToken) -> bool {
        let (mut told, mut waiting) = (false, false);
        loop {
            let tried = tokio::select! {
                () = shutdown.cancelled() => return false,
                tried = self.attempt() => tried,
            };
            match tried {
                Ok(true) => return true,
                Ok(false) if !waiting => {
                    let holder = self.holder();
                    tracing::info!(
                        lease = self.lease,
                        holder,
                        "another one is elected; waiting"
                    );
                    (waiting, told) = (true, false);
                }
                Err(error) if !told => {
                    tracing::warn!(
                        error,
                        lease = self.lease,
                        "cannot stand for election yet; trying again"
                    );
                    told = true;
                }
                _ => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = tokio::time::sleep(self.times.retry) => {}
            }
        }
    }

    /// Renews until that has failed for too long, or somebody else holds the lease.
    async fn hold(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.times.retry).await;
            // An attempt that is still under way then comes too late: others may begin.
            let end = renewed + self.times.renewal;
            let attempt = tokio::time::timeout_at(end, self.attempt()).await;
            let attempt = attempt.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            match attempt {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(error, lease = self.lease, "the lease was not renewed");
                    if renewed.elapsed() >= self.times.renewal {
                        tracing::warn!(
                            error,
                            lease = self.lease,
                            "the lease could not be renewed in time"
                        );
                        return;
                    }
                }
            }
        }
    }

    /// Reads the lease and writes it when that is due. Whether it is held now.
    async fn attempt(&mut self) -> Result<bool, String> {
        let limit = self.times.renewal / 2;
        match tokio::time::timeout(limit, self.exchange()).await {
            Ok(Ok(held)) => Ok(held),
            // Somebody was faster; the next look tells who.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                Err("the lease was changed by another one".into())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
        }
    }

    async fn exchange(&mut self) -> Result<bool, kube::Error> {
        let found = self.api.get_opt(self.lease).await?;
        let unchanged_for = self.note(found.as_ref());
        let spec = found.as_ref().and_then(|lease| lease.spec.as_ref());
        let step = lease::step(&self.identity, spec, unchanged_for);
        if step == Step::Wait {
            return Ok(false);
        }
        let next = lease::next(found, self.lease, &self.identity, self.times.lease, step);
        let parameters = PostParams::default();
        let written = if step == Step::Create {
            self.api.create(&parameters, &next).await?
        } else {
            self.api.replace(self.lease, &parameters, &next).await?
        };
        self.seen = Some((written, Instant::now()));
        Ok(true)
    }

    fn note(&mut self, found: Option<&Lease>) -> Duration {
        let now = Instant::now();
        let Some(found) = found else {
            self.seen = None;
            return Duration::ZERO;
        };
        match &self.seen {
            Some((seen, since)) if seen.spec == found.spec => now - *since,
            _ => {
                self.seen = Some((found.clone(), now));
                Duration::ZERO
            }
        }
    }

    fn holder(&self) -> String {
        let spec = self.seen.as_ref().and_then(|(seen, _)| seen.spec.as_ref());
        spec.and_then(|spec| spec.holder_identity.clone())
            .unwrap_or_default()
    }

    /// Lets the next one begin at once.
    async fn release(&mut self) {
        let Some((held, _)) = self.seen.take() else {
            return;
        };
        let free = lease::released(held);
        let parameters = PostParams::default();
        let released = self.api.replace(self.lease, &parameters, &free);
        let why = match tokio::time::timeout(self.times.retry, released).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(
            why,
            lease = self.lease,
            "the lease was not released; it will expire"
        );
    }
}

#[cfg(test)]
mod tests;
