//! Health checks: `--health-cmd` and a Dockerfile's HEALTHCHECK, asked of a container while it runs.
//!
//! Follows moby's `daemon/health.go`. What was found lasts as long as the daemon: a new one begins with `starting`.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::Duration;

use engine::{ExecSpec, Output, Process};
use image::Healthcheck;
use jiff::Timestamp;
use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Docker;
use crate::containers::{self, Container};

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// No time is shorter, as upstream's.
const LEAST: Duration = Duration::from_millis(1);
/// So many results are remembered, each with so much of its output.
const RESULTS_MAX: usize = 5;
const OUTPUT_BYTES_MAX: usize = 4096;

/// What is known of every container that is checked.
#[derive(Default)]
pub struct Healths(Mutex<HashMap<String, Checked>>);

struct Checked {
    health: Health,
    stop: CancellationToken,
}

/// As `inspect` shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: &'static str,
    pub failing_streak: u32,
    pub log: VecDeque<Found>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            status: "starting",
            failing_streak: 0,
            log: VecDeque::new(),
        }
    }
}

/// One answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Found {
    pub start: String,
    pub end: String,
    /// -1 where there was none.
    pub exit_code: i32,
    pub output: String,
}

impl Health {
    /// Takes one answer in. While a container starts, and has never been well, failures do not count.
    fn take(&mut self, found: Found, retries: u32, starting: bool) {
        if found.exit_code == 0 {
            (self.failing_streak, self.status) = (0, "healthy");
        } else if !(starting && self.status == "starting") {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= retries {
                self.status = "unhealthy";
            }
        }
        if self.log.len() >= RESULTS_MAX {
            self.log.pop_front();
        }
        self.log.push_back(found);
    }
}

impl Healths {
    /// What is known of a container; nothing of one that is not checked.
    pub fn of(&self, id: &str) -> Option<Health> {
        self.0.lock().get(id).map(|checked| checked.health.clone())
    }

    /// Somebody asks it now.
    pub fn is_asked(&self, id: &str) -> bool {
        let all = self.0.lock();
        all.get(id)
            .is_some_and(|checked| !checked.stop.is_cancelled())
    }

    /// It runs no more: nobody asks it any more, and what was found stays.
    pub fn ended(&self, id: &str) {
        if let Some(checked) = self.0.lock().get(id) {
            checked.stop.cancel();
        }
    }

    /// It is gone.
    pub fn forget(&self, id: &str) {
        if let Some(checked) = self.0.lock().remove(id) {
            checked.stop.cancel();
        }
    }

    fn begin(&self, id: &str) -> CancellationToken {
        let stop = CancellationToken::new();
        let checked = Checked {
            health: Health::default(),
            stop: stop.clone(),
        };
        if let Some(before) = self.0.lock().insert(id.to_owned(), checked) {
            before.stop.cancel();
        }
        stop
    }
}

/// The check of the request, with what the image says where the request says nothing.
pub fn merged(own: Option<Healthcheck>, image: Option<&Healthcheck>) -> Option<Healthcheck> {
    let Some(image) = image else {
        return own;
    };
    let Some(mut own) = own else {
        return Some(image.clone());
    };
    if own.test.is_empty() {
        own.test.clone_from(&image.test);
    }
    for (own, image) in [
        (&mut own.interval, image.interval),
        (&mut own.timeout, image.timeout),
        (&mut own.start_period, image.start_period),
        (&mut own.start_interval, image.start_interval),
        (&mut own.retries, image.retries),
    ] {
        if *own == 0 {
            *own = image;
        }
    }
    Some(own)
}

/// What is run; nothing where nothing is to be checked.
fn command(check: &Healthcheck, shell: Option<&[String]>) -> Option<Vec<String>> {
    let (kind, words) = check.test.split_first()?;
    match kind.as_str() {
        "CMD" => Some(words.to_vec()),
        "CMD-SHELL" => {
            let usual = ["/bin/sh".to_owned(), "-c".to_owned()];
            let mut argv = shell.unwrap_or(&usual).to_vec();
            argv.extend(words.first().cloned());
            Some(argv)
        }
        _ => None,
    }
    .filter(|argv| !argv.is_empty())
}

/// Begins to ask a container that has just been started, or was found running, if it is to be asked.
pub async fn watch(docker: &Docker, id: &str) {
    let Ok(container) = containers::find(docker, id).await else {
        return;
    };
    let shell = docker.inner.images.get(&container.record.image_id);
    let shell = shell.ok().and_then(|image| image.config.shell);
    let check = container.record.config.healthcheck.clone();
    let asked = check.and_then(|check| Some((command(&check, shell.as_deref())?, check)));
    let Some((argv, check)) = asked.filter(|_| container.running()) else {
        return;
    };
    let stop = docker.inner.healths.begin(id);
    tokio::spawn(ask(docker.clone(), container, argv, check, stop));
}

async fn ask(
    docker: Docker,
    container: Container,
    argv: Vec<String>,
    check: Healthcheck,
    stop: CancellationToken,
) {
    let time = |nanoseconds: i64, usual: Duration| match u64::try_from(nanoseconds) {
        Ok(nanoseconds) if nanoseconds > 0 => Duration::from_nanos(nanoseconds).max(LEAST),
        _ => usual,
    };
    let (interval, timeout) = (time(check.interval, INTERVAL), time(check.timeout, TIMEOUT));
    let often = time(check.start_interval, START_INTERVAL);
    let period = time(check.start_period, Duration::ZERO);
    let retries = u32::try_from(check.retries)
        .ok()
        .filter(|retries| *retries > 0);
    let retries = retries.unwrap_or(RETRIES);
    let started = container.status.started_at.unwrap_or_else(Timestamp::now);
    let age = Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default();
    let period_ends = Instant::now() + period.saturating_sub(age);
    loop {
        let starting = Instant::now() < period_ends;
        let known = docker.inner.healths.of(container.id());
        let fresh = known.is_none_or(|health| health.status == "starting");
        let wait = if starting && fresh { often } else { interval };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        // whoever is frozen answers nothing, which says nothing of it
        if is_paused(&docker, container.id()).await {
            continue;
        }
        let began = Timestamp::now();
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = tokio::time::timeout(timeout, run(&docker, container.id(), &argv)) => answer,
        };
        let (exit_code, output) =
            answer.unwrap_or_else(|_| (-1, format!("Health check exceeded timeout ({timeout:?})")));
        let found = Found {
            start: format!("{began:.9}"),
            end: format!("{:.9}", Timestamp::now()),
            exit_code,
            output,
        };
        if exit_code != 0 && is_paused(&docker, container.id()).await {
            continue;
        }
        let starting = Instant::now() < period_ends;
        if let Some(checked) = docker.inner.healths.0.lock().get_mut(container.id())
            && !stop.is_cancelled()
        {
            checked.health.take(found, retries, starting);
        }
    }
}

async fn is_paused(docker: &Docker, id: &str) -> bool {
    let container = containers::find(docker, id).await;
    container.is_ok_and(|container| container.paused())
}

/// Runs the command; its exit code (-1: it could not be run) and what it said. It is killed when nobody waits for it any more.
async fn run(docker: &Docker, id: &str, argv: &[String]) -> (i32, String) {
    let spec = ExecSpec {
        argv: argv.to_vec(),
        ..ExecSpec::default()
    };
    let mut process = match docker.inner.engine.exec(id, spec).await {
        Ok(process) => process,
        Err(error) => return (error.start_code().unwrap_or(-1), error.to_string()),
    };
    let mut leash = Leash::of(&process);
    let mut said = Vec::new();
    while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = process.output.recv().await {
        let room = OUTPUT_BYTES_MAX.saturating_sub(said.len());
        said.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    let code = process.wait().await.map_or(-1, |status| status.code);
    leash.0 = None;
    (code, String::from_utf8_lossy(&said).into_owned())
}

/// Kills a process when it is dropped.
struct Leash(Option<OwnedFd>);

impl Leash {
    fn of(process: &Process) -> Self {
        let pid = process
            .pid
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        Self(pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()))
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            // it may have ended by itself
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(test: &[&str]) -> Healthcheck {
        Healthcheck {
            test: test.iter().map(|word| (*word).to_owned()).collect(),
            ..Healthcheck::default()
        }
    }

    #[test]
    fn what_is_run() {
        let bash = ["/bin/bash".to_owned(), "-ec".to_owned()];
        for (test, shell, expected) in [
            (&["CMD", "curl", "-f", "x"][..], None, Some("curl -f x")),
            (&["CMD-SHELL", "a b"], None, Some("/bin/sh -c a b")),
            (
                &["CMD-SHELL", "a b"],
                Some(&bash[..]),
                Some("/bin/bash -ec a b"),
            ),
            (&["NONE"], None, None),
            (&[], None, None),
            (&["CMD"], None, None),
        ] {
            let found = command(&check(test), shell).map(|argv| argv.join(" "));
            assert_eq!(found.as_deref(), expected, "{test:?}");
        }
    }

    #[test]
    fn a_request_completes_what_the_image_says() {
        let image = Healthcheck {
            interval: 7,
            retries: 2,
            ..check(&["CMD", "a"])
        };
        let own = Healthcheck {
            interval: 9,
            ..check(&[])
        };
        let both = merged(Some(own), Some(&image)).expect("a check");
        assert_eq!((both.interval, both.retries, &*both.test[1]), (9, 2, "a"));
        assert_eq!(merged(None, Some(&image)), Some(image.clone()));
        assert_eq!(merged(Some(image.clone()), None), Some(image));
        assert_eq!(merged(None, None), None);
    }

    #[test]
    fn failures_count_once_it_has_started() {
        let found = |exit_code| Found {
            start: String::new(),
            end: String::new(),
            exit_code,
            output: String::new(),
        };
        let mut health = Health::default();
        let mut take = |code, starting| {
            health.take(found(code), 2, starting);
            (health.status, health.failing_streak, health.log.len())
        };
        assert_eq!(take(1, true), ("starting", 0, 1));
        assert_eq!(take(1, false), ("starting", 1, 2));
        assert_eq!(take(1, false), ("unhealthy", 2, 3));
        assert_eq!(take(0, false), ("healthy", 0, 4));
        assert_eq!(take(1, true), ("healthy", 1, 5), "it has been well");
        assert_eq!(take(-1, true), ("unhealthy", 2, 5));
    }
}
