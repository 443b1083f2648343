//! `--pid`, `--ipc` and `--userns`: whose namespaces a container has.

use engine::{IpcNamespace, PidNamespace};

use crate::Docker;
use crate::record::HostConfig;
use crate::reply::Refusal;

const NO_IPC: &str = "none";

/// What was asked for, before names of containers are looked up.
#[derive(Debug, PartialEq)]
enum Wanted<'a> {
    Own,
    Host,
    Of(&'a str),
}

/// The process and the ipc namespace.
///
/// # Errors
/// A mode that there is not, a container that there is not or that does not share, in dockerd's words.
pub async fn of(
    docker: &Docker,
    host: &HostConfig,
) -> Result<(PidNamespace, IpcNamespace), Refusal> {
    user(text(host, "UsernsMode"))?;
    let pid = match mode("PID", text(host, "PidMode"), &[])? {
        Wanted::Own => PidNamespace::Own,
        Wanted::Host => PidNamespace::Host,
        Wanted::Of(name) => PidNamespace::Container(lender(docker, name).await?.id().to_owned()),
    };
    let ipc = match mode(
        "IPC",
        text(host, "IpcMode"),
        &["private", "shareable", NO_IPC],
    )? {
        Wanted::Own => IpcNamespace::Sandbox,
        Wanted::Host => IpcNamespace::Host,
        Wanted::Of(name) => {
            let lender = lender(docker, name).await?;
            if text(&lender.record.host, "IpcMode") != "shareable" {
                return Err(Refusal::bad(format!(
                    "can't join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
                    lender.id()
                )));
            }
            IpcNamespace::Container(lender.id().to_owned())
        }
    };
    Ok((pid, ipc))
}

/// Nobody's shared memory, and no `/dev/shm` either.
pub fn no_shared_memory(host: &HostConfig) -> bool {
    text(host, "IpcMode") == NO_IPC
}

/// Not as "not found": clients take that for a missing image.
async fn lender(docker: &Docker, name: &str) -> Result<super::Container, Refusal> {
    super::find(docker, name)
        .await
        .map_err(|refusal| Refusal::bad(refusal.message))
}

fn text<'a>(host: &'a HostConfig, field: &str) -> &'a str {
    host.rest
        .get(field)
        .and_then(|value| value.as_str())
        .unwrap_or_default()
}

fn mode<'a>(kind: &str, mode: &'a str, own: &[&str]) -> Result<Wanted<'a>, Refusal> {
    match mode {
        "" => Ok(Wanted::Own),
        "host" => Ok(Wanted::Host),
        own_one if own.contains(&own_one) => Ok(Wanted::Own),
        _ => match mode
            .strip_prefix("container:")
            .filter(|name| !name.is_empty())
        {
            Some(name) => Ok(Wanted::Of(name)),
            None => Err(Refusal::bad(format!("invalid {kind} mode: {mode}"))),
        },
    }
}

/// As with a daemon whose containers have no user namespaces: the host's, by whatever name. One of its own per container the
/// Engine API does not know.
fn user(mode: &str) -> Result<(), Refusal> {
    match mode {
        "" | "host" => Ok(()),
        other => Err(Refusal::bad(format!(
            "invalid user namespace mode: {other}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_dockers() {
        for (given, expected) in [
            ("", Some(Wanted::Own)),
            ("host", Some(Wanted::Host)),
            ("shareable", Some(Wanted::Own)),
            ("none", Some(Wanted::Own)),
            ("container:db", Some(Wanted::Of("db"))),
            ("container:", None),
            ("magic", None),
        ] {
            assert_eq!(
                mode("IPC", given, &["private", "shareable", NO_IPC]).ok(),
                expected,
                "{given}"
            );
        }
        assert!(mode("PID", "shareable", &[]).is_err());
        assert!(user("").is_ok() && user("host").is_ok());
        for refused in ["private", "keep-id", "auto"] {
            assert!(user(refused).is_err(), "{refused}");
        }
    }
}
