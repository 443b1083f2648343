//! The scheduler: binds pods to nodes that can hold them, and says why when none can.
//!
//! Filters, scores and the decision are functions of data (`decide`); one task around them (`shell`) reads the API
//! and writes bindings.
#![forbid(unsafe_code)]

mod backoff;
mod budget;
mod cluster;
mod decide;
pub mod events;
mod filter;
mod incoming;
mod labels;
mod preempt;
mod queue;
pub mod requests;
mod resident;
mod score;
mod shell;
mod spread;
mod storage;
mod sums;
#[cfg(test)]
mod testing;

use tokio_util::sync::CancellationToken;

/// What the scheduler needs to know besides the API.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods whose `spec.schedulerName` differs are left alone.
    pub scheduler_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".to_owned(),
        }
    }
}

/// Schedules pods until `shutdown` is cancelled. A panic is logged and scheduling started anew: all state comes from
/// the API.
pub async fn run(client: kube::Client, config: Config, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let task = tokio::spawn(shell::run(client.clone(), config.clone(), shutdown.clone()));
        match task.await {
            _ if shutdown.is_cancelled() => return,
            Err(error) if error.is_panic() => {
                tracing::error!(%error, "scheduler panicked, starting it again")
            }
            _ => tracing::error!("scheduler ended early, starting it again"),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
        }
    }
}
