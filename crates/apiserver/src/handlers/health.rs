//! `/healthz`, `/livez`, `/readyz`: whether the server answers, and whether its store does. `?verbose` names each check, `?exclude=NAME`
//! leaves one out, and each has an address of its own below.

use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::respond::{self, Response};
use crate::query::Query;
use crate::server::State;
use crate::status::ApiError;

const TEXT: &str = "text/plain; charset=utf-8";
/// The store is given this long for one read.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// For so long an answer of the store holds: who asks for health need not say who he is, and must not be able to keep the store busy.
const ANSWER_AGE: Duration = Duration::from_millis(500);
/// No object is kept here: it is only asked whether one is.
const PROBE: &str = "/registry/health";
/// As upstream names them: answering at all, and the store.
const CHECKS: [&str; 2] = ["ping", "etcd"];

/// Whether the store answered when it was last asked. It is asked by one at a time; the others have that answer.
#[derive(Default)]
pub(crate) struct StoreHealth(Mutex<Option<(Instant, bool)>>);

impl StoreHealth {
    async fn learn(&self, ask: impl Future<Output = bool>) -> bool {
        let mut last = self.0.lock().await;
        match *last {
            Some((at, fine)) if at.elapsed() < ANSWER_AGE => fine,
            _ => {
                let fine = ask.await;
                *last = Some((Instant::now(), fine));
                fine
            }
        }
    }
}

/// Answers for the addresses of health, and none other.
pub(super) async fn answer(
    state: &State,
    path: &str,
    query: Option<&str>,
) -> Result<Option<Response>, ApiError> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (whole, check) = match path.split_once('/') {
        Some((whole, check)) => (whole, Some(check)),
        None => (path, None),
    };
    if !matches!(whole, "healthz" | "livez" | "readyz") {
        return Ok(None);
    }
    if check.is_some_and(|check| !CHECKS.contains(&check)) {
        return Ok(None);
    }
    let query = Query::parse(query)?;
    let excluded: Vec<&str> = query.all("exclude").collect();
    let asked = CHECKS
        .into_iter()
        .filter(|name| check.is_none_or(|check| check == *name) && !excluded.contains(name));
    let mut told = String::new();
    let mut passed = true;
    for name in asked {
        let fine = name == "ping" || state.store_health.learn(store_answers(state)).await;
        passed &= fine;
        let _ = match fine {
            true => writeln!(told, "[+]{name} ok"),
            false => writeln!(told, "[-]{name} failed: reason withheld"),
        };
    }
    if passed && !query.flag("verbose") {
        return Ok(Some(respond::text("ok")));
    }
    let _ = match passed {
        true => writeln!(told, "{whole} check passed"),
        false => writeln!(told, "{whole} check failed"),
    };
    let code = if passed { 200 } else { 500 };
    Ok(Some(respond::typed(code, TEXT, told)))
}

async fn store_answers(state: &State) -> bool {
    let read = tokio::time::timeout(STORE_TIMEOUT, state.store.get(PROBE)).await;
    match read {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the store does not answer");
            false
        }
        Err(_) => {
            tracing::warn!("the store did not answer within {STORE_TIMEOUT:?}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn the_store_is_asked_once_for_all_and_again_later() {
        let (health, asked) = (StoreHealth::default(), AtomicUsize::new(0));
        let question = |fine: bool| {
            health.learn(async move {
                // the others come while this one waits
                tokio::task::yield_now().await;
                fine
            })
        };
        let counted = |fine| {
            let asked = &asked;
            health.learn(async move {
                asked.fetch_add(1, Ordering::Relaxed);
                fine
            })
        };
        let together = tokio::join!(question(false), counted(true), counted(true));
        assert_eq!(together, (false, false, false));
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        tokio::time::sleep(ANSWER_AGE).await;
        assert!(counted(true).await && counted(false).await);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
