//! `POST /containers/ID/wait`.

use engine::{Event, State};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::{Container, find};
use crate::Docker;
use crate::query::Query;
use crate::reply::{Answer, Refusal, stream};

/// Answers when the condition has come; the headers go out at once, so that the client can start the container meanwhile.
pub async fn wait(docker: Docker, container: Container, query: &Query) -> Answer {
    let condition = query.get("condition").unwrap_or("not-running").to_owned();
    if !["not-running", "next-exit", "removed"].contains(&condition.as_str()) {
        return Err(Refusal::bad(format!("invalid condition: {condition:?}")));
    }
    // listening before looking: nothing that happens in between is missed
    let mut events = docker.inner.engine.events();
    let mut failures = docker.inner.failures.subscribe();
    let container = find(&docker, container.id()).await?;
    let id = container.id().to_owned();
    let mut code = (container.status.state != State::Running).then(|| container.exit_code());
    let answer = async move {
        let to_removal = condition == "removed";
        if condition == "next-exit" {
            code = None;
        }
        let mut done = code.is_some() && !to_removal;
        while !done {
            let ended = tokio::select! {
                // a failed start is told before the removal that follows from it
                biased;
                failure = failures.recv() => match failure {
                    Ok(failure) if failure.id == id => Some(failure.code),
                    _ => None,
                },
                event = events.recv() => match event {
                    Ok(Event::ContainerExited { id: of, status, .. }) if of == id => Some(status.code),
                    Ok(Event::ContainerRemoved { id: of, .. }) if of == id => break,
                    Ok(_) => None,
                    Err(RecvError::Closed) => break,
                    Err(RecvError::Lagged(_)) => match find(&docker, &id).await {
                        Err(_) => break,
                        Ok(now) if now.status.state == State::Exited => Some(now.exit_code()),
                        Ok(_) => None,
                    },
                },
            };
            code = ended.or(code);
            done = ended.is_some() && !to_removal;
        }
        let body = match code {
            Some(code) => json!({ "StatusCode": code }),
            None => {
                json!({ "StatusCode": 125, "Error": { "Message": "the container was removed before it ended" } })
            }
        };
        bytes::Bytes::from(body.to_string())
    };
    stream("application/json", futures::stream::once(answer))
}
