//! Instructions that only change the image's configuration.

use super::executor::Executor;
use super::scope::{self, Globals};
use super::stage::StageState;
use crate::dockerfile::step::{Flag, Form, Kind, Step};
use crate::model::Healthcheck;

const SHELL: [&str; 2] = ["/bin/sh", "-c"];

impl Executor<'_> {
    /// As [`apply`], with the build's variables.
    pub(super) fn metadata(&self, stage: &mut StageState, step: &Step) -> Result<String, String> {
        apply(&self.globals, stage, step)
    }
}

/// Applies the step and returns its text with variables replaced: what the cache goes by.
pub(super) fn apply(
    globals: &Globals,
    stage: &mut StageState,
    step: &Step,
) -> Result<String, String> {
    // ENV a=b c=$a sees the old a: variables of one instruction are replaced before any is set.
    let env = stage.file.config.env.clone();
    let scope_before = stage.scope.clone();
    let expand = |text: &str| scope_before.expand(globals, &env, text);
    let words = |text: &str| scope_before.expand_words(globals, &env, text);
    let pairs = |pairs: &[(String, String)]| {
        pairs
            .iter()
            .map(|(k, v)| Ok((expand(k)?, expand(v)?)))
            .collect::<Result<Vec<_>, String>>()
    };
    let canonical = match &step.kind {
        Kind::Env(list) => {
            let list = pairs(list)?;
            for (name, value) in &list {
                scope::set(&mut stage.file.config.env, name, value);
            }
            format!("ENV {list:?}")
        }
        Kind::Label(list) => {
            let list = pairs(list)?;
            stage.file.config.labels.extend(list.iter().cloned());
            format!("LABEL {list:?}")
        }
        Kind::Arg(list) => {
            for (name, default) in list {
                let (name, default) = (expand(name)?, default.as_deref());
                stage.scope.declare(globals, &env, &name, default)?;
            }
            // The value counts where it is used, by RUN's environment or by expansion.
            step.text.clone()
        }
        Kind::Cmd(form) => {
            stage.file.config.cmd = Some(words_of(form, &stage.file.config.shell));
            stage.own_cmd = true;
            format!("CMD {:?}", stage.file.config.cmd)
        }
        Kind::Entrypoint(form) => {
            // Without words it drops that of the base.
            stage.file.config.entrypoint =
                Some(words_of(form, &stage.file.config.shell)).filter(|words| !words.is_empty());
            if !stage.own_cmd {
                stage.file.config.cmd = None;
            }
            format!("ENTRYPOINT {:?}", stage.file.config.entrypoint)
        }
        Kind::Expose(list) => {
            let mut ports = Vec::new();
            for word in list {
                for word in words(word)? {
                    ports.extend(expose(&word)?);
                }
            }
            stage
                .file
                .config
                .exposed_ports
                .extend(ports.iter().cloned());
            format!("EXPOSE {ports:?}")
        }
        Kind::User(user) => {
            stage.file.config.user = expand(user)?;
            if stage.file.config.user.is_empty() {
                return Err("USER requires a name or id".into());
            }
            format!("USER {}", stage.file.config.user)
        }
        Kind::Volume(list) => {
            let list = list
                .iter()
                .map(|v| expand(v))
                .collect::<Result<Vec<_>, _>>()?;
            stage
                .file
                .config
                .volumes
                .extend(list.iter().filter(|v| !v.is_empty()).cloned());
            format!("VOLUME {list:?}")
        }
        Kind::StopSignal(signal) => {
            let signal = expand(signal)?;
            let plain = !signal.is_empty()
                && signal
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-'));
            if !plain {
                return Err(format!(
                    "invalid signal {signal:?}: a name such as SIGTERM or a number is needed"
                ));
            }
            stage.file.config.stop_signal = Some(signal.clone());
            format!("STOPSIGNAL {signal}")
        }
        Kind::Healthcheck { flags, command } => {
            let check = healthcheck(flags, command.as_ref(), &stage.file.config.shell)?;
            stage.file.config.healthcheck = Some(check.clone());
            format!("HEALTHCHECK {check:?}")
        }
        Kind::Onbuild(text) => {
            stage.file.config.on_build.push(text.clone());
            format!("ONBUILD {text}")
        }
        Kind::Maintainer(name) => {
            stage.file.author = name.clone();
            format!("MAINTAINER {name}")
        }
        Kind::Shell(shell) => {
            stage.file.config.shell = Some(shell.clone());
            format!("SHELL {shell:?}")
        }
        Kind::Run { .. } | Kind::Copy(_) | Kind::Workdir(_) => {
            return Err("not a metadata instruction".into());
        }
    };
    Ok(canonical)
}

/// Words of a command; the shell form is given to the shell.
pub(super) fn words_of(form: &Form, shell: &Option<Vec<String>>) -> Vec<String> {
    match form {
        Form::Exec(words) => words.clone(),
        Form::Shell(line) => {
            let mut words = shell
                .clone()
                .unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
            words.push(line.clone());
            words
        }
    }
}

/// `80`, `80/udp`, `8000-8002/tcp` → one name per port.
fn expose(word: &str) -> Result<Vec<String>, String> {
    let bad = || format!("invalid containerPort: {word}");
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    // HOST:CONTAINER was allowed once; the host's part means nothing in an image.
    let ports = ports.rsplit(':').next().unwrap_or(ports);
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (
        first.parse().map_err(|_| bad())?,
        last.parse().map_err(|_| bad())?,
    );
    if first > last || first == 0 {
        return Err(bad());
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

fn healthcheck(
    flags: &[Flag],
    command: Option<&Form>,
    shell: &Option<Vec<String>>,
) -> Result<Healthcheck, String> {
    let Some(command) = command else {
        if let Some(flag) = flags.first() {
            return Err(format!("HEALTHCHECK NONE takes no --{}", flag.name));
        }
        return Ok(Healthcheck {
            test: vec!["NONE".into()],
            ..Healthcheck::default()
        });
    };
    let test = match command {
        Form::Exec(words) => std::iter::once("CMD".to_owned())
            .chain(words.iter().cloned())
            .collect(),
        Form::Shell(line) if shell.is_none() => vec!["CMD-SHELL".to_owned(), line.clone()],
        Form::Shell(_) => std::iter::once("CMD".to_owned())
            .chain(words_of(command, shell))
            .collect(),
    };
    let mut check = Healthcheck {
        test,
        ..Healthcheck::default()
    };
    for flag in flags {
        let value = flag.value.as_deref().unwrap_or("");
        match flag.name.as_str() {
            "interval" => check.interval = duration_ns(value)?,
            "timeout" => check.timeout = duration_ns(value)?,
            "start-period" => check.start_period = duration_ns(value)?,
            "start-interval" => check.start_interval = duration_ns(value)?,
            "retries" => {
                let retries = value.parse().ok().filter(|n| *n >= 0);
                check.retries = retries.ok_or(format!("--retries={value} is no count"))?;
            }
            name => return Err(format!("unknown flag: --{name}")),
        }
    }
    Ok(check)
}

/// Go's durations: `1h30m`, `1.5s`, `500ms`.
fn duration_ns(text: &str) -> Result<i64, String> {
    let bad = || format!("{text:?} is no duration such as 30s or 1m30s");
    if text == "0" {
        return Ok(0);
    }
    let mut rest = text;
    let mut sum = 0f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600e9,
            "m" => 60e9,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" => 1e3,
            "ns" => 1.0,
            _ => return Err(bad()),
        };
        sum += number * unit;
        rest = &rest[end..];
    }
    // Docker refuses probes that would run more often than every millisecond; zero is the default.
    if text.is_empty() || sum > i64::MAX as f64 || sum < 1e6 && sum != 0.0 {
        return Err(bad());
    }
    Ok(sum as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_ports() {
        for (text, ns) in [
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5s", 1_500_000_000),
            ("0", 0),
            ("0s", 0),
            ("0h0m", 0),
        ] {
            assert_eq!(duration_ns(text), Ok(ns));
        }
        for text in ["", "5", "s", "1x", "1ns", "-1s"] {
            assert!(duration_ns(text).is_err(), "{text}");
        }
        assert_eq!(expose("80").unwrap(), ["80/tcp"]);
        assert_eq!(expose("8000-8001/UDP").unwrap(), ["8000/udp", "8001/udp"]);
        for text in ["", "x", "0", "70000", "9-8", "80/http", "80/"] {
            assert!(expose(text).is_err(), "{text}");
        }
    }
}
