//! `plimsoll run`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::client::{Client, encode};
use super::images;
use super::signals;
use super::streams::{RawMode, copy};

/// As docker's.
#[derive(clap::Args)]
pub struct Options {
    /// In the background; prints the container's ID
    #[arg(short, long)]
    detach: bool,
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    #[arg(long)]
    name: Option<String>,
    /// Publish a port: [IP:]HOST:CONTAINER[/udp]
    #[arg(short, long)]
    publish: Vec<String>,
    /// Set a variable: NAME=VALUE, or NAME to take our own
    #[arg(short, long)]
    env: Vec<String>,
    /// Mount: SOURCE:TARGET[:ro]
    #[arg(short, long)]
    volume: Vec<String>,
    #[arg(short, long)]
    label: Vec<String>,
    #[arg(short, long)]
    interactive: bool,
    #[arg(short, long)]
    tty: bool,
    #[arg(short, long)]
    workdir: Option<String>,
    #[arg(short, long)]
    user: Option<String>,
    #[arg(long)]
    entrypoint: Option<String>,
    /// bridge, host or none
    #[arg(long)]
    network: Option<String>,
    /// Cores: 0.5, 2, ...
    #[arg(long)]
    cpus: Option<f64>,
    /// Bytes, or with a unit: 64m, 1g
    #[arg(short, long)]
    memory: Option<String>,
    /// no, always, unless-stopped, on-failure[:N]
    #[arg(long)]
    restart: Option<String>,
    #[arg(long)]
    read_only: bool,
    #[arg(long)]
    privileged: bool,
    #[arg(long)]
    cap_add: Vec<String>,
    #[arg(long)]
    cap_drop: Vec<String>,
    image: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Exits with the command's own code; 125 when the container could not be run.
pub async fn run(client: &Client, options: &Options) -> Result<ExitCode> {
    match start(client, options).await {
        Ok(code) => Ok(code),
        Err(error) => {
            eprintln!("plimsoll: {error:#}");
            let text = format!("{error:#}");
            Ok(ExitCode::from(start_failure(&text)))
        }
    }
}

/// The shell's codes for a command that could not be started, as docker has them; 125 for everything else.
fn start_failure(text: &str) -> u8 {
    if text.contains("executable file not found") || text.contains("no such file or directory") {
        127
    } else if text.contains("permission denied") || text.contains("is a directory") {
        126
    } else {
        125
    }
}

async fn start(client: &Client, options: &Options) -> Result<ExitCode> {
    let body = configuration(options)?;
    let query = options
        .name
        .as_ref()
        .map(|name| format!("?name={}", encode(name)))
        .unwrap_or_default();
    let path = format!("/containers/create{query}");
    let created = match client.post_json(&path, &body).await {
        Err(error) if error.to_string().contains("No such image") => {
            eprintln!("Unable to find image '{}' locally", options.image);
            images::pull(client, &options.image).await?;
            client.post_json(&path, &body).await?
        }
        other => other?,
    };
    let id = created["Id"]
        .as_str()
        .context("the server gave no container ID")?
        .to_owned();
    if options.detach {
        if let Err(error) = client.post(&format!("/containers/{id}/start")).await {
            if options.rm {
                let _ = client.delete(&format!("/containers/{id}?force=true")).await;
            }
            return Err(error);
        }
        println!("{id}");
        return Ok(ExitCode::SUCCESS);
    }
    let stdin = u8::from(options.interactive);
    let stream = client
        .hijack(
            &format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1&stdin={stdin}"),
            &Value::Null,
        )
        .await?;
    // asked for before the start, so that an automatic removal cannot come first
    let waiting = client
        .request(
            http::Method::POST,
            &format!("/containers/{id}/wait?condition=next-exit"),
            super::client::full(""),
            &[],
        )
        .await?;
    if let Err(error) = client.post(&format!("/containers/{id}/start")).await {
        if options.rm {
            let _ = client.delete(&format!("/containers/{id}?force=true")).await;
        }
        return Err(error);
    }
    {
        let _raw = (options.tty && options.interactive).then(RawMode::enter);
        let terminal = format!("/containers/{id}");
        tokio::select! {
            done = copy(stream, options.tty, options.interactive) => done?,
            failed = signals::hand_on(client, &id) => failed?,
            failed = signals::follow_size(client, &terminal), if options.tty => failed?,
        }
    }
    let mut code = 0;
    super::client::messages(waiting, |message| {
        code = message["StatusCode"].as_i64().unwrap_or(0)
    })
    .await?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn configuration(options: &Options) -> Result<Value> {
    let mut exposed = Map::new();
    let mut bindings: Map<String, Value> = Map::new();
    for text in &options.publish {
        let (port, binding) = published(text)?;
        exposed.insert(port.clone(), json!({}));
        match bindings.entry(port).or_insert_with(|| json!([])) {
            Value::Array(list) => list.push(binding),
            _ => unreachable!("only lists are put in"),
        }
    }
    let env: Vec<String> = options
        .env
        .iter()
        .filter_map(|text| {
            if text.contains('=') {
                Some(text.clone())
            } else {
                Some(format!("{text}={}", std::env::var(text).ok()?))
            }
        })
        .collect();
    let labels: Map<String, Value> = options
        .label
        .iter()
        .map(|text| {
            text.split_once('=')
                .map_or((text.clone(), "".into()), |(key, value)| {
                    (key.into(), value.into())
                })
        })
        .collect();
    let (policy, retries) = match options.restart.as_deref().unwrap_or("no").split_once(':') {
        Some((policy, retries)) => (
            policy.to_owned(),
            retries
                .parse()
                .context("--restart on-failure:N takes a number")?,
        ),
        None => (options.restart.clone().unwrap_or_else(|| "no".into()), 0i64),
    };
    let attach = !options.detach;
    Ok(json!({
        "Image": options.image,
        "Cmd": if options.command.is_empty() { Value::Null } else { json!(options.command) },
        "Entrypoint": options.entrypoint.as_ref().map(|word| json!([word])).unwrap_or(Value::Null),
        "Env": env, "Labels": labels, "ExposedPorts": exposed,
        "WorkingDir": options.workdir.clone().unwrap_or_default(), "User": options.user.clone().unwrap_or_default(),
        "Tty": options.tty, "OpenStdin": options.interactive, "StdinOnce": options.interactive && attach,
        "AttachStdin": options.interactive && attach, "AttachStdout": attach, "AttachStderr": attach,
        "HostConfig": {
            "AutoRemove": options.rm, "PortBindings": bindings, "Binds": binds(&options.volume)?,
            "NetworkMode": options.network.clone().unwrap_or_else(|| "default".into()),
            "NanoCpus": options.cpus.map_or(0, |cpus| (cpus * 1e9) as i64),
            "Memory": options.memory.as_deref().map(bytes_of).transpose()?.unwrap_or(0),
            "RestartPolicy": { "Name": policy, "MaximumRetryCount": retries },
            "ReadonlyRootfs": options.read_only, "Privileged": options.privileged,
            "CapAdd": options.cap_add, "CapDrop": options.cap_drop,
        },
    }))
}

/// Mounts with the places of this machine whole: `.` and what begins with `./` or `../` are where we are.
fn binds(given: &[String]) -> Result<Vec<String>> {
    let whole = |text: &String| {
        let (source, rest) = text.split_once(':').unwrap_or((text, ""));
        let relative =
            matches!(source, "." | "..") || source.starts_with("./") || source.starts_with("../");
        if !relative || rest.is_empty() {
            return Ok(text.clone());
        }
        let source = std::path::absolute(source)
            .with_context(|| format!("--volume {text}: there is no place to start from"))?;
        Ok(format!("{}:{rest}", source.display()))
    };
    given.iter().map(whole).collect()
}

/// `[IP:]HOST:CONTAINER[/PROTOCOL]` as the API's port and binding.
fn published(text: &str) -> Result<(String, Value)> {
    let (address, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let wrong = || format!("--publish {text}: say [IP:]HOSTPORT:CONTAINERPORT[/udp]");
    let number = |port: &str| {
        port.parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .with_context(wrong)
    };
    if protocol != "tcp" && protocol != "udp" {
        bail!(wrong());
    }
    let (rest, container) = address.rsplit_once(':').unwrap_or(("", address));
    let container = number(container)?;
    let (ip, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let ip = ip.trim_matches(['[', ']']);
    if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
        bail!(wrong());
    }
    let host = if host.is_empty() {
        String::new()
    } else {
        number(host)?.to_string()
    };
    Ok((
        format!("{container}/{protocol}"),
        json!({ "HostIp": ip, "HostPort": host }),
    ))
}

/// `64m` and the like: units b, k, m, g are powers of 1024, as docker has them.
fn bytes_of(text: &str) -> Result<i64> {
    let lower = text.to_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: i64 = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        _ => bail!("--memory {text}: the units are b, k, m and g"),
    };
    let amount: i64 = digits
        .parse()
        .with_context(|| format!("--memory {text}: that is no number"))?;
    amount
        .checked_mul(unit)
        .with_context(|| format!("--memory {text} is too much"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_where_we_are() {
        let here = std::env::current_dir().expect("a directory");
        let here = here.display();
        for (given, expected) in [
            ("/a:/b:ro", "/a:/b:ro".to_owned()),
            ("name:/b", "name:/b".to_owned()),
            ("/anonymous", "/anonymous".to_owned()),
            ("./data:/b", format!("{here}/data:/b")),
            (".:/b:ro", format!("{here}:/b:ro")),
            (".hidden:/b", ".hidden:/b".to_owned()),
        ] {
            assert_eq!(binds(&[given.to_owned()]).expect("whole"), [expected]);
        }
    }

    #[test]
    fn failures_to_start() {
        for (text, code) in [
            ("exec: \"x\": executable file not found in $PATH", 127),
            ("exec: \"/etc/passwd\": permission denied", 126),
            (
                "driver failed programming external connectivity: port is already allocated",
                125,
            ),
        ] {
            assert_eq!(start_failure(text), code, "{text}");
        }
    }

    #[test]
    fn ports() {
        for (text, port, ip, host) in [
            ("8080:80", "80/tcp", "", "8080"),
            ("127.0.0.1:8080:80/udp", "80/udp", "127.0.0.1", "8080"),
            ("[::1]:8080:80", "80/tcp", "::1", "8080"),
            ("80", "80/tcp", "", ""),
        ] {
            let (got, binding) = published(text).expect(text);
            assert_eq!(
                (got.as_str(), binding),
                (port, json!({ "HostIp": ip, "HostPort": host })),
                "{text}"
            );
        }
        for text in [
            "",
            "a:80",
            "80:b",
            "99999:80",
            "8080:80/sctp",
            "nowhere:1:2",
            "0:80",
        ] {
            assert!(published(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, want) in [
            ("64m", Some(64 << 20)),
            ("1G", Some(1 << 30)),
            ("512", Some(512)),
            ("1t", None),
            ("m", None),
            ("9999999999g", None),
        ] {
            assert_eq!(bytes_of(text).ok(), want, "{text}");
        }
    }
}
