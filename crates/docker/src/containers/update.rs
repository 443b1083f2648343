//! `POST /containers/{id}/update`: other limits and another restart policy for a container, running or not.

use std::collections::BTreeMap;

use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use super::{Container, create, find};
use crate::record::{ANNOTATION, HostConfig, RestartPolicy, null_default};
use crate::reply::{Answer, Refusal, json_of};
use crate::{Docker, body};

const POLICIES: [&str; 4] = ["no", "always", "on-failure", "unless-stopped"];

/// What may change; nothing and zero leave things as they are.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Update {
    memory: i64,
    nano_cpus: i64,
    cpu_shares: u64,
    cpu_period: u64,
    cpu_quota: i64,
    #[serde(deserialize_with = "null_default")]
    cpuset_cpus: String,
    pids_limit: Option<i64>,
    #[serde(deserialize_with = "null_default")]
    restart_policy: RestartPolicy,
}

pub async fn update(docker: &Docker, container: &Container, incoming: Incoming) -> Answer {
    let update: Update = body::json(incoming).await?;
    let _turn = docker.inner.turns.of(container.id()).await;
    let mut container = find(docker, container.id()).await?;
    let failed = |reason: String| {
        let id = &container.status.id;
        Refusal::bad(format!("Cannot update container {id}: {reason}"))
    };
    apply(&mut container.record.host, update).map_err(failed)?;
    let record = serde_json::to_string(&container.record)
        .map_err(|error| Refusal::internal(error.to_string()))?;
    let resources = create::resources(&container.record.host);
    let annotations = BTreeMap::from([(ANNOTATION.to_owned(), record)]);
    let engine = &docker.inner.engine;
    engine
        .update_container(container.id(), resources, annotations)
        .await
        .map_err(|error| match error {
            engine::Error::NotFound { .. } => error.into(),
            other => Refusal::internal(format!(
                "Cannot update container {}: {other}",
                container.id()
            )),
        })?;
    json_of(&json!({ "Warnings": [] }))
}

/// As dockerd's `UpdateContainer`, in its words.
fn apply(host: &mut HostConfig, update: Update) -> Result<(), String> {
    let conflict = |what: &str, by: &str| {
        Err(format!(
            "Conflicting options: {what} cannot be updated as {by} has already been set"
        ))
    };
    let quota = update.cpu_quota != 0 || update.cpu_period != 0;
    if update.nano_cpus > 0 && quota {
        return Err(
            "Conflicting options: Nano CPUs and CPU Period or CPU Quota cannot both be set".into(),
        );
    }
    if update.cpu_period != 0 && host.nano_cpus > 0 {
        return conflict("CPU Period", "NanoCPUs");
    }
    if update.cpu_quota != 0 && host.nano_cpus > 0 {
        return conflict("CPU Quota", "NanoCPUs");
    }
    if update.nano_cpus > 0 && host.cpu_quota > 0 {
        return conflict("Nano CPUs", "CPU Quota");
    }
    if update.nano_cpus > 0 && host.cpu_period > 0 {
        return conflict("Nano CPUs", "CPU Period");
    }
    let policy = update.restart_policy;
    if !policy.name.is_empty() {
        if !POLICIES.contains(&policy.name.as_str()) {
            return Err(format!(
                "invalid restart policy: unknown policy '{}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
                policy.name
            ));
        }
        if policy.maximum_retry_count > 0 && policy.name != "on-failure" {
            return Err(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'"
                    .into(),
            );
        }
        if host.auto_remove && policy.name != "no" {
            return Err(
                "Restart policy cannot be updated because AutoRemove is enabled for the container"
                    .into(),
            );
        }
        host.restart_policy = policy;
    }
    let take = |new: i64, old: &mut i64| {
        if new != 0 {
            *old = new;
        }
    };
    take(update.memory, &mut host.memory);
    take(update.nano_cpus, &mut host.nano_cpus);
    take(update.cpu_quota, &mut host.cpu_quota);
    if update.cpu_shares != 0 {
        host.cpu_shares = update.cpu_shares;
    }
    if update.cpu_period != 0 {
        host.cpu_period = update.cpu_period;
    }
    if !update.cpuset_cpus.is_empty() {
        host.cpuset_cpus = update.cpuset_cpus;
    }
    if update.pids_limit.is_some() {
        host.pids_limit = update.pids_limit;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(host: &str, update: &str) -> Result<HostConfig, String> {
        let mut host = serde_json::from_str(host).expect("a host configuration");
        apply(&mut host, serde_json::from_str(update).expect("an update"))?;
        Ok(host)
    }

    #[test]
    fn what_is_named_changes_and_the_rest_stays() {
        let before =
            r#"{"Memory":1024,"CpuShares":512,"PidsLimit":10,"RestartPolicy":{"Name":"always"}}"#;
        // as the docker command sends it: everything, most of it zero
        let update = r#"{"Memory":2048,"CpuShares":0,"CpusetCpus":"","PidsLimit":null,"Ulimits":null,
            "RestartPolicy":{"Name":"","MaximumRetryCount":0}}"#;
        let host = after(before, update).expect("taken");
        assert_eq!(
            (host.memory, host.cpu_shares, host.pids_limit),
            (2048, 512, Some(10))
        );
        assert_eq!(host.restart_policy.name, "always");
        let update = r#"{"PidsLimit":-1,"NanoCpus":500000000,"CpusetCpus":"0","RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}}"#;
        let host = after(before, update).expect("taken");
        assert_eq!((host.pids_limit, host.nano_cpus), (Some(-1), 500_000_000));
        assert_eq!(host.restart_policy.maximum_retry_count, 3);
        assert_eq!(host.cpuset_cpus, "0");
    }

    #[test]
    fn what_contradicts_is_refused_in_dockers_words() {
        for (host, update, words) in [
            (
                r#"{"NanoCpus":1}"#,
                r#"{"CpuQuota":5000}"#,
                "CPU Quota cannot be updated as NanoCPUs has already been set",
            ),
            (
                r#"{"CpuQuota":5000}"#,
                r#"{"NanoCpus":1}"#,
                "Nano CPUs cannot be updated as CPU Quota has already been set",
            ),
            (
                r#"{"AutoRemove":true}"#,
                r#"{"RestartPolicy":{"Name":"always"}}"#,
                "because AutoRemove is enabled",
            ),
            (
                "{}",
                r#"{"RestartPolicy":{"Name":"often"}}"#,
                "unknown policy 'often'",
            ),
            (
                "{}",
                r#"{"RestartPolicy":{"Name":"always","MaximumRetryCount":1}}"#,
                "maximum retry count",
            ),
        ] {
            let error = after(host, update).expect_err(update);
            assert!(error.contains(words), "{error}");
        }
    }
}
