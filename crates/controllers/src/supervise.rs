//! Keeps a controller running: a panic or an early end is logged, counted and followed by a new start.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Starts controllers again and counts how often it had to.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    restarts: Arc<AtomicU64>,
}

impl Supervisor {
    /// How many times a controller was started again.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Runs what `start` makes until `shutdown`; starts it again, ever slower (0.1 s to 10 s), when it ends before. The token that
    /// each gets is cancelled with `shutdown` and when it has ended: what it left running ends, too.
    pub async fn keep<F, Task>(&self, name: &'static str, shutdown: CancellationToken, mut start: F)
    where
        F: FnMut(CancellationToken) -> Task,
        Task: Future<Output = ()> + Send + 'static,
    {
        let mut delay = FIRST_DELAY;
        while !shutdown.is_cancelled() {
            let began = tokio::time::Instant::now();
            let own = shutdown.child_token();
            let outcome = tokio::spawn(start(own.clone())).await;
            own.cancel();
            if shutdown.is_cancelled() {
                return;
            }
            match outcome {
                Err(error) if error.is_panic() => {
                    tracing::error!(controller = name, %error, "controller panicked, starting it again");
                }
                _ => tracing::error!(
                    controller = name,
                    "controller ended early, starting it again"
                ),
            }
            self.restarts.fetch_add(1, Ordering::Relaxed);
            if began.elapsed() > LONGEST_DELAY {
                delay = FIRST_DELAY;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
            }
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_panicking_controller_is_started_again_until_shutdown() {
        let supervisor = Supervisor::default();
        let shutdown = CancellationToken::new();
        let starts = Arc::new(AtomicU64::new(0));
        let (count, token) = (starts.clone(), shutdown.clone());
        let (left, mut ended) = tokio::sync::mpsc::unbounded_channel();
        supervisor
            .keep("test", shutdown.clone(), move |own| {
                let (count, token) = (count.clone(), token.clone());
                // what a controller leaves running
                let left = left.clone();
                tokio::spawn(async move {
                    own.cancelled().await;
                    let _ = left.send(());
                });
                async move {
                    match count.fetch_add(1, Ordering::Relaxed) {
                        0 => panic!("expected by this test"),
                        1 => {}
                        _ => token.cancel(),
                    }
                }
            })
            .await;
        assert_eq!(starts.load(Ordering::Relaxed), 3);
        assert_eq!(supervisor.restarts(), 2);
        for _ in 0..3 {
            assert_eq!(ended.recv().await, Some(()));
        }
    }
}
