//! What is open on a connection, so that one on which nothing happens can be closed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::server::{BoxError, ResponseBody};

/// The requests of one connection that are being answered, their bodies included.
#[derive(Clone)]
pub(crate) struct Activity(Arc<Mutex<State>>);

struct State {
    open: usize,
    /// When the last one ended, or the connection began.
    quiet_since: Instant,
}

impl Activity {
    pub fn new() -> Self {
        Activity(Arc::new(Mutex::new(State {
            open: 0,
            quiet_since: Instant::now(),
        })))
    }

    /// Counts a request until the result is dropped.
    pub fn begin(&self) -> Open {
        self.0.lock().open += 1;
        Open(self.clone())
    }

    /// Waits until nothing has been open for so long.
    pub async fn quiet_for(&self, limit: Duration) {
        loop {
            let (open, since) = {
                let state = self.0.lock();
                (state.open, state.quiet_since)
            };
            let quiet = since.elapsed();
            if open == 0 && quiet >= limit {
                return;
            }
            let wait = match open {
                0 => limit - quiet,
                _ => limit,
            };
            tokio::time::sleep(wait).await;
        }
    }
}

/// See [`Activity::begin`].
pub(crate) struct Open(Activity);

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.open -= 1;
        state.quiet_since = Instant::now();
    }
}

/// A response's body that counts as open until it has been sent or given up.
pub(crate) struct Counted {
    pub body: ResponseBody,
    pub _open: Open,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_is_quiet_when_nothing_is_open() {
        let limit = Duration::from_millis(40);
        let activity = Activity::new();
        let started = Instant::now();
        let open = activity.begin();
        let watcher = activity.clone();
        let quiet = tokio::spawn(async move {
            watcher.quiet_for(limit).await;
            Instant::now()
        });
        tokio::time::sleep(limit * 5).await;
        assert!(!quiet.is_finished(), "one is open");
        drop(open);
        let at = quiet.await.expect("no panic");
        assert!(at - started >= limit * 6, "so long after it ended");
    }
}
