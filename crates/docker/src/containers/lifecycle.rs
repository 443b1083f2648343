//! Start, stop, kill, restart, wait, rename, resize, remove, prune.

use std::time::Duration;

use engine::{SandboxNetwork, SandboxState, SandboxStatus, SandboxUpdate};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;

use super::{Container, create, find, save};
use crate::filters::Filters;
use crate::query::Query;
use crate::reply::{Answer, Refusal, empty, json_of};
use crate::{Docker, names, ports, volumes};

const STOP_SECONDS: i64 = 10;

/// A start that came to nothing.
#[derive(Clone, Debug)]
pub struct StartFailure {
    pub id: String,
    /// 126 or 127 as a shell has it, else 128.
    pub code: i32,
}

pub async fn start(docker: &Docker, container: &Container) -> Answer {
    let _turn = docker.inner.turns.of(container.id()).await;
    // it may have been started or removed while we waited
    let mut container = find(docker, container.id()).await?;
    if container.paused() {
        return Err(Refusal::conflict(
            "cannot start a paused container, try unpause instead",
        ));
    }
    if container.running() {
        return empty(StatusCode::NOT_MODIFIED);
    }
    let record = &mut container.record;
    if record.stopped_by_user || record.restarts > 0 || !record.error.is_empty() {
        (record.stopped_by_user, record.restarts, record.failed_code) = (false, 0, None);
        record.backoff = 0;
        record.error.clear();
        save(docker, &container.status.id, record).await?;
    }
    if let Err(refusal) = start_now(docker, &container).await {
        let code = failed_code(&refusal.message);
        // nobody may be waiting
        let _ = docker.inner.failures.send(StartFailure {
            id: container.id().to_owned(),
            code,
        });
        if container.record.host.auto_remove {
            remove_now(docker, container.id()).await?;
            remove_volumes(docker, &container).await;
        } else {
            container.record.error.clone_from(&refusal.message);
            container.record.failed_code = Some(code);
            save(docker, container.id(), &container.record).await?;
        }
        return Err(refusal);
    }
    empty(StatusCode::NO_CONTENT)
}

/// The exit code that Docker gives a container whose program could not be started.
fn failed_code(message: &str) -> i32 {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["executable file not found", "no such file or directory"]) {
        127
    } else if says(&["permission denied", "is a directory", "not a directory"]) {
        126
    } else {
        128
    }
}

/// Root file system, sandbox, address, ports, then the process. What was begun is taken back when a step fails.
pub async fn start_now(docker: &Docker, container: &Container) -> Result<(), Refusal> {
    let outcome = async {
        prepare_sandbox(docker, container).await?;
        docker.inner.engine.start_container(container.id()).await?;
        Ok(())
    };
    let outcome: Result<(), Refusal> = outcome.await;
    if outcome.is_err() {
        release(docker, container.id()).await;
    }
    outcome
}

/// Brings the sandbox up to where a process can start, or someone attach.
pub async fn prepare_sandbox(docker: &Docker, container: &Container) -> Result<(), Refusal> {
    let (engine, id) = (&docker.inner.engine, container.id());
    let sandbox = engine
        .sandbox(id)
        .await
        .ok_or_else(|| Refusal::not_found(format!("No such container: {id}")))?;
    if sandbox.state == SandboxState::Running {
        if docker.inner.turns.is_prepared(id) {
            return Ok(());
        }
        // a request that was given up, or a daemon that died, left it half done: it may have no address
        release(docker, id).await;
    }
    let image = docker.inner.images.get(&container.record.image_id)?;
    let (images, snapshot) = (docker.inner.images.clone(), id.to_owned());
    let mounting = tokio::task::spawn_blocking(move || images.prepare(&image, &snapshot));
    let own = sandbox.spec.network == SandboxNetwork::Own;
    let (mounted, started) = tokio::join!(mounting, start_sandbox(docker, container, own));
    let started = started?;
    mounted??;
    if own {
        connect(docker, container, &started).await?;
    }
    docker.inner.turns.prepared(id);
    Ok(())
}

/// How often host ports are chosen again that somebody else took in the meantime.
const CHOICES_MAX: usize = 10;

/// With the ports that it publishes from now on: those that nobody named are chosen at each start.
async fn start_sandbox(
    docker: &Docker,
    container: &Container,
    own: bool,
) -> Result<SandboxStatus, Refusal> {
    let (engine, id, record) = (&docker.inner.engine, container.id(), &container.record);
    let wanted = match own {
        true => ports::wanted(&record.config, &record.host)?,
        false => Vec::new(),
    };
    let mut left = CHOICES_MAX;
    loop {
        if !wanted.is_empty() {
            let update = SandboxUpdate {
                published: Some(ports::chosen(&wanted)?),
                ..SandboxUpdate::default()
            };
            engine.update_sandbox(id, update).await?;
        }
        left -= 1;
        match engine.start_sandbox(id).await {
            Err(engine::Error::PortTaken { .. }) if left > 0 && ports::is_choice(&wanted) => {}
            Err(error) => return Err(unconnected(container, error)),
            Ok(started) => return Ok(started),
        }
    }
}

/// Gives the sandbox its address, and the ports that it publishes their way to it.
async fn connect(
    docker: &Docker,
    container: &Container,
    sandbox: &SandboxStatus,
) -> Result<(), Refusal> {
    let (engine, network, id) = (&docker.inner.engine, &docker.inner.network, container.id());
    let namespace = sandbox
        .netns
        .as_ref()
        .ok_or_else(|| Refusal::internal("the sandbox has no network namespace"))?;
    let attachment = network.attach(namespace, id).await?;
    let addresses = attachment.addresses();
    let published = ports::aimed(&sandbox.spec.published, attachment.address);
    let update = SandboxUpdate {
        hosts: Some(create::hosts(
            &container.record,
            &addresses,
            network.gateway().into(),
        )),
        published: (!published.is_empty()).then(|| published.clone()),
        ..SandboxUpdate::default()
    };
    let updated = engine.update_sandbox(id, update).await;
    updated.map_err(|error| unconnected(container, error))?;
    for port in &published {
        let protocol = match port.protocol {
            engine::Protocol::Tcp => network::Protocol::Tcp,
            engine::Protocol::Udp => network::Protocol::Udp,
        };
        if network
            .is_of_a_service(port.host_ip, protocol, port.host_port)
            .await
        {
            let (endpoint, number) = (&container.record.name, port.host_port);
            let at = port
                .host_ip
                .unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into());
            return Err(Refusal::internal(format!(
                "driver failed programming external connectivity on endpoint {endpoint}: Bind for {at}:{number} failed: port is already allocated (to a Service of the cluster)"
            )));
        }
    }
    if !published.is_empty() {
        network
            .set_published(id, ports::translated(&published, &addresses))
            .await?;
    }
    Ok(())
}

/// As dockerd words it.
fn unconnected(container: &Container, error: engine::Error) -> Refusal {
    match error {
        engine::Error::PortTaken { .. } => {
            let endpoint = &container.record.name;
            Refusal::internal(format!(
                "driver failed programming external connectivity on endpoint {endpoint}: {error}"
            ))
        }
        other => other.into(),
    }
}

/// Gives back what a running container holds: ports, address, sandbox. Records and files stay.
pub async fn release(docker: &Docker, id: &str) {
    docker.inner.turns.unprepared(id);
    if let Err(error) = docker.inner.engine.stop_sandbox(id).await {
        tracing::warn!(%error, id, "a sandbox could not be stopped");
    }
    detach(docker, id).await;
}

pub async fn stop(docker: &Docker, container: &Container, query: &Query) -> Answer {
    if !container.running() {
        // it may be about to be started again
        let _turn = docker.inner.turns.of(container.id()).await;
        let mut now = find(docker, container.id()).await?;
        let code = now.exit_code();
        let policy = &now.record.host.restart_policy;
        if now.status.exit.is_some()
            && policy.applies(code, now.record.restarts, now.record.stopped_by_user)
        {
            now.record.stopped_by_user = true;
            save(docker, container.id(), &now.record).await?;
            return empty(StatusCode::NO_CONTENT);
        }
        if !now.running() {
            return empty(StatusCode::NOT_MODIFIED);
        }
    }
    let signal = signal_of(query)?;
    stop_now(docker, container, signal, grace(container, query)?).await?;
    empty(StatusCode::NO_CONTENT)
}

fn signal_of(query: &Query) -> Result<Option<i32>, Refusal> {
    let number = |name: &str| {
        engine::signal_number(name).ok_or_else(|| Refusal::bad(format!("invalid signal: {name}")))
    };
    query.get("signal").map(number).transpose()
}

/// `t=-1` waits for ever; a day is as good.
fn grace(container: &Container, query: &Query) -> Result<Duration, Refusal> {
    let default = container.record.config.stop_timeout.unwrap_or(STOP_SECONDS);
    Ok(span(query.number("t")?.unwrap_or(default)))
}

fn span(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(86_400).min(86_400))
}

/// The user does not want it to run. The record is read in its turn: what others change of it meanwhile stays.
async fn unwanted(docker: &Docker, id: &str) -> Result<(), Refusal> {
    let _turn = docker.inner.turns.of(id).await;
    let mut record = find(docker, id).await?.record;
    if !record.stopped_by_user {
        record.stopped_by_user = true;
        save(docker, id, &record).await?;
    }
    Ok(())
}

async fn stop_now(
    docker: &Docker,
    container: &Container,
    signal: Option<i32>,
    grace: Duration,
) -> Result<(), Refusal> {
    unwanted(docker, container.id()).await?;
    docker
        .inner
        .engine
        .stop_container(container.id(), signal, grace)
        .await?;
    // the monitor does this too; whoever asked shall find the ports free when the answer comes
    let _turn = docker.inner.turns.of(container.id()).await;
    if find(docker, container.id())
        .await
        .is_ok_and(|now| !now.running())
    {
        release(docker, container.id()).await;
    }
    Ok(())
}

pub async fn restart(docker: &Docker, container: &Container, query: &Query) -> Answer {
    let (signal, grace) = (signal_of(query)?, grace(container, query)?);
    // one that is to be removed at its end has not ended
    let _kept = docker.inner.turns.restarting(container.id());
    if container.running() {
        stop_now(docker, container, signal, grace).await?;
    }
    let now = find(docker, container.id()).await?;
    start(docker, &now).await?;
    empty(StatusCode::NO_CONTENT)
}

pub async fn kill(docker: &Docker, container: &Container, query: &Query) -> Answer {
    if !container.running() {
        return Err(Refusal::conflict(format!(
            "cannot kill container: {}: container {} is not running",
            container.record.name,
            container.id()
        )));
    }
    let signal = signal_of(query)?.unwrap_or(9);
    let own = container.status.spec.stop_signal;
    // whoever asks it to end does not want it back; any signal may be meant so where none is named for it
    if signal == 9 || own.is_none_or(|own| own == signal) {
        unwanted(docker, container.id()).await?;
    }
    docker
        .inner
        .engine
        .signal_container(container.id(), signal)
        .await?;
    empty(StatusCode::NO_CONTENT)
}

pub async fn pause(docker: &Docker, container: &Container) -> Answer {
    let refused = |why: &str| Refusal::conflict(format!("Container {} {why}", container.id()));
    if !container.running() {
        return Err(refused("is not running"));
    }
    if container.paused() {
        return Err(refused("is already paused"));
    }
    docker.inner.engine.pause_container(container.id()).await?;
    empty(StatusCode::NO_CONTENT)
}

pub async fn unpause(docker: &Docker, container: &Container) -> Answer {
    if !container.paused() {
        return Err(Refusal::conflict(format!(
            "Container {} is not paused",
            container.id()
        )));
    }
    docker
        .inner
        .engine
        .unpause_container(container.id())
        .await?;
    empty(StatusCode::NO_CONTENT)
}

pub async fn rename(docker: &Docker, container: &Container, query: &Query) -> Answer {
    let name = query
        .get("name")
        .unwrap_or_default()
        .trim_start_matches('/')
        .to_owned();
    if !names::valid(&name) {
        return Err(Refusal::bad(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    let _turn = docker.inner.turns.of(container.id()).await;
    let container = find(docker, container.id()).await?;
    let _names = docker.inner.turns.names().await;
    if let Some(other) = super::all(docker)
        .await
        .iter()
        .find(|c| c.record.name == name)
    {
        return Err(Refusal::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
            other.id()
        )));
    }
    let mut record = container.record.clone();
    record.name = name;
    save(docker, container.id(), &record).await?;
    empty(StatusCode::NO_CONTENT)
}

pub async fn resize(docker: &Docker, container: &Container, query: &Query) -> Answer {
    let (columns, rows) = size(query)?;
    docker
        .inner
        .engine
        .resize_container(container.id(), columns, rows)
        .await?;
    empty(StatusCode::OK)
}

pub fn size(query: &Query) -> Result<(u16, u16), Refusal> {
    let side = |name: &str| -> Result<u16, Refusal> {
        query
            .number(name)?
            .and_then(|n| u16::try_from(n).ok())
            .ok_or_else(|| Refusal::bad(format!("{name} must be a number below 65536")))
    };
    Ok((side("w")?, side("h")?))
}

pub async fn remove(docker: &Docker, container: &Container, query: &Query) -> Answer {
    if container.running() && !query.flag("force") {
        return Err(Refusal::conflict(format!(
            "cannot remove container \"/{}\": container is running: stop the container before removing or force remove",
            container.record.name
        )));
    }
    // what runs is killed with its sandbox; nothing is written before, so that this works on a full disk
    let _turn = docker.inner.turns.of(container.id()).await;
    // one that removes itself may have gone already
    if find(docker, container.id()).await.is_ok() {
        remove_now(docker, container.id()).await?;
        if query.flag("v") {
            remove_volumes(docker, container).await;
        }
    }
    empty(StatusCode::NO_CONTENT)
}

/// The volumes that nobody named go with the container that they were made for, if no other has them.
pub async fn remove_volumes(docker: &Docker, container: &Container) {
    let names = volumes::made_for(docker, container);
    if !names.is_empty() {
        let _names = docker.inner.turns.names().await;
        volumes::drop_anonymous(docker, &names).await;
    }
}

/// Sandbox, records, snapshot, address and log. The caller has the container's turn.
pub async fn remove_now(docker: &Docker, id: &str) -> Result<(), Refusal> {
    let (engine, network) = (&docker.inner.engine, &docker.inner.network);
    let log = engine
        .container(id)
        .await
        .map(|status| status.spec.log.clone());
    let publishes = engine
        .sandbox(id)
        .await
        .is_some_and(|sandbox| !sandbox.spec.published.is_empty());
    if publishes {
        // whoever hears that it is gone may take the same port at once
        detach(docker, id).await;
    }
    if let Ok(container) = find(docker, id).await {
        docker.inner.gone.remember(&container);
    }
    // now it is gone for everybody who asks; taking an interface apart takes the kernel its time, and nobody waits for that
    engine.remove_sandbox(id).await?;
    docker.inner.healths.forget(id);
    docker.inner.turns.unprepared(id);
    let (images, snapshot) = (docker.inner.images.clone(), id.to_owned());
    let files = tokio::task::spawn_blocking(move || {
        if let Some(log) = log {
            let _ = std::fs::remove_file(&log.path);
            for number in 1..=log.max_files {
                let mut rotated = log.path.clone().into_os_string();
                rotated.push(format!(".{number}"));
                let _ = std::fs::remove_file(rotated);
            }
        }
        images.remove_snapshot(&snapshot)
    });
    if network.attachment(id).is_some() {
        let (docker, id) = (docker.clone(), id.to_owned());
        tokio::spawn(async move { detach(&docker, &id).await });
    }
    files.await??;
    Ok(())
}

async fn detach(docker: &Docker, id: &str) {
    if let Err(error) = docker.inner.network.detach(id).await {
        tracing::warn!(%error, id, "an address could not be released");
    }
}

pub async fn prune(docker: &Docker, query: &Query) -> Answer {
    let filters = Filters::of(query, &["label", "label!", "until"])?;
    let until = filters.until(Timestamp::now())?;
    let wants = |container: &Container| {
        !container.running()
            && until.is_none_or(|until| container.status.created_at < until)
            && filters.labels(&container.record.config.labels)
    };
    let mut deleted = Vec::new();
    for container in super::all(docker).await.into_iter().filter(wants) {
        let _turn = docker.inner.turns.of(container.id()).await;
        if find(docker, container.id())
            .await
            .map_or(true, |now| now.running())
        {
            continue;
        }
        remove_now(docker, container.id()).await?;
        deleted.push(container.id().to_owned());
    }
    json_of(&json!({ "ContainersDeleted": deleted, "SpaceReclaimed": 0 }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{failed_code, span};

    #[test]
    fn less_than_nothing_is_without_end() {
        assert_eq!(span(10), Duration::from_secs(10));
        assert_eq!(span(-1), Duration::from_secs(86_400));
    }

    #[test]
    fn codes_of_failed_starts() {
        for (message, want) in [
            ("exec: \"nosuch\": executable file not found in $PATH", 127),
            ("exec: \"/x\": stat /x: no such file or directory", 127),
            ("exec: \"/etc/passwd\": permission denied", 126),
            ("exec: \"/etc\": is a directory", 126),
            ("no space left on device", 128),
        ] {
            assert_eq!(failed_code(message), want, "{message}");
        }
    }
}
