//! Runs one `kube::runtime::Controller` the way all controllers here run: bounded, with quick retries per object.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::Controller;
use kube::runtime::controller::{self, Action};
use tokio_util::sync::CancellationToken;

use crate::backoff::{KeyedBackoff, TriggerBackoff};
use crate::error::Error;
use crate::informer::Cached;
use crate::objects;

/// More reconciles at once were slower when measured.
const CONCURRENCY: u16 = 64;

/// Runs until `shutdown`. `reconcile` is called with the newest cached object whenever a trigger names it.
pub async fn drive<K, F, Fut>(
    name: &'static str,
    controller: Controller<K>,
    shutdown: CancellationToken,
    reconcile: F,
) where
    K: Cached,
    F: Fn(Arc<K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<Duration>, Error>> + Send + 'static,
{
    let backoff = Arc::new(KeyedBackoff::default());
    let reconcile = Arc::new(reconcile);
    let done = backoff.clone();
    controller
        .with_config(controller::Config::default().concurrency(CONCURRENCY))
        .trigger_backoff(TriggerBackoff::default())
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(
            move |object: Arc<K>, _| {
                let (reconcile, done) = (reconcile.clone(), done.clone());
                async move {
                    let key = objects::key(&*object);
                    let again = reconcile(object).await?;
                    done.succeeded(&key);
                    Ok::<_, Error>(again.map_or_else(Action::await_change, Action::requeue))
                }
            },
            move |object, error: &Error, _| {
                let key = objects::key(&*object);
                if error.is_stale() {
                    tracing::debug!(controller = name, %error, "retry");
                } else {
                    tracing::warn!(controller = name, object = key, %error, "reconcile failed");
                }
                Action::requeue(backoff.failed(&key))
            },
            Arc::new(()),
        )
        .for_each(|_| async {})
        .await;
}
