//! How an attempt at running a container ended: from the engine's record to the words of the API.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use engine::{ContainerStatus, State};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;

use crate::resize;
use crate::status::Doing;

/// Annotations on the engine's records of containers.
pub mod note {
    /// Why the program could not be started, and when that was tried.
    pub const START_ERROR: &str = "plimsoll.dev/start-error";
    pub const START_FAILED_AT: &str = "plimsoll.dev/start-failed-at";
    /// The file on this machine that the container sees as its terminationMessagePath.
    pub const MESSAGE_FILE: &str = "plimsoll.dev/termination-message-file";
    /// Set when the end of the log stands in for a missing message.
    pub const MESSAGE_FROM_LOG: &str = "plimsoll.dev/termination-message-from-log";
    /// Set when a liveness or startup probe had the container end.
    pub const CONDEMNED: &str = "plimsoll.dev/condemned";
    /// The requests and limits that the container was given, as JSON.
    pub const RESOURCES: &str = "plimsoll.dev/resources";
}

/// Exit code of a container whose program could not be started, as containerd has it.
const START_ERROR_CODE: i32 = 128;
const MESSAGE_BYTES_MAX: u64 = 4096;
const LOG_BYTES_MAX: u64 = 2048;
const LOG_LINES_MAX: usize = 80;

/// The annotations of a new attempt.
pub fn notes(container: &Container, message_file: &Path) -> BTreeMap<String, String> {
    let mut notes: BTreeMap<String, String> = [(
        note::MESSAGE_FILE.to_owned(),
        message_file.display().to_string(),
    )]
    .into();
    notes.insert(note::RESOURCES.to_owned(), resize::text_of(container));
    if container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError") {
        notes.insert(note::MESSAGE_FROM_LOG.to_owned(), "true".to_owned());
    }
    notes
}

/// The exit code of an attempt that is over, and when it was over; `None` for one that runs or was never tried.
pub fn code(status: &ContainerStatus) -> Option<(i32, Timestamp)> {
    match status.state {
        State::Running => None,
        State::Exited => Some(
            status
                .exit
                .as_ref()
                .map_or((137, status.created_at), |exit| {
                    (exit.code, exit.finished_at)
                }),
        ),
        State::Created => {
            let notes = &status.spec.annotations;
            notes.get(note::START_ERROR)?;
            let at = notes
                .get(note::START_FAILED_AT)
                .and_then(|text| text.parse().ok())
                .unwrap_or(status.created_at);
            Some((START_ERROR_CODE, at))
        }
    }
}

/// What the API says about an attempt.
pub fn doing(status: &ContainerStatus) -> Doing {
    let Some((code, finished)) = code(status) else {
        return match status.state {
            State::Running => Doing::Running {
                since: status.started_at.unwrap_or(status.created_at),
            },
            _ => Doing::waiting("ContainerCreating"),
        };
    };
    let exit = status
        .exit
        .as_ref()
        .filter(|_| status.state == State::Exited);
    let (reason, message) = match exit {
        None => (
            "StartError",
            status.spec.annotations.get(note::START_ERROR).cloned(),
        ),
        Some(exit) if exit.lost => (
            "ContainerStatusUnknown",
            Some("The container could not be located when the pod was terminated".to_owned()),
        ),
        Some(exit) if exit.oom_killed => ("OOMKilled", message(status, code)),
        Some(_) if code == 0 => ("Completed", message(status, code)),
        Some(_) => ("Error", message(status, code)),
    };
    // a program that never ran has the beginning of time as its start, as upstream
    let started = if exit.is_some() {
        status.started_at
    } else {
        Some(Timestamp::UNIX_EPOCH)
    };
    Doing::Terminated {
        code,
        reason: reason.to_owned(),
        message,
        started,
        finished,
    }
}

/// What the container left in its terminationMessagePath, else the end of its log if its policy says so.
fn message(status: &ContainerStatus, code: i32) -> Option<String> {
    let notes = &status.spec.annotations;
    let own = notes.get(note::MESSAGE_FILE).and_then(|path| {
        let mut bytes = Vec::new();
        std::fs::File::open(path)
            .ok()?
            .take(MESSAGE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    });
    let own = own.filter(|text| !text.is_empty());
    if own.is_none() && code != 0 && notes.contains_key(note::MESSAGE_FROM_LOG) {
        return end_of_log(&status.spec.log.path).filter(|text| !text.is_empty());
    }
    own
}

/// The last 80 lines of a log in CRI format, at most 2048 bytes of content.
fn end_of_log(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    // stamps and tags take up some 45 bytes a line
    let window = LOG_BYTES_MAX + 48 * LOG_LINES_MAX as u64;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(window)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(window).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = if length > window {
        text.split_once('\n').map_or("", |(_, rest)| rest)
    } else {
        &text
    };
    let mut lines: VecDeque<String> = whole
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(4, ' ');
            let partial = fields.nth(2)? == "P";
            let end = if partial { "" } else { "\n" };
            Some(format!("{}{end}", fields.next().unwrap_or_default()))
        })
        .collect();
    while lines.len() > LOG_LINES_MAX
        || lines.iter().map(String::len).sum::<usize>() as u64 > LOG_BYTES_MAX && lines.len() > 1
    {
        lines.pop_front();
    }
    let text: String = lines.into_iter().collect();
    let from = text.len().saturating_sub(LOG_BYTES_MAX as usize);
    let from = (from..=text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    Some(text[from..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{ContainerSpec, ExitStatus};

    fn status(state: State, notes: &[(&str, &str)], exit: Option<ExitStatus>) -> ContainerStatus {
        let spec = ContainerSpec {
            annotations: notes
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..ContainerSpec::default()
        };
        ContainerStatus {
            id: "c-0".into(),
            sandbox: "s".into(),
            spec: spec.into(),
            state,
            pid: None,
            paused: false,
            created_at: Timestamp::UNIX_EPOCH,
            started_at: None,
            exit,
        }
    }

    fn exit(code: i32, oom_killed: bool, lost: bool) -> Option<ExitStatus> {
        Some(ExitStatus {
            code,
            signal: None,
            oom_killed,
            finished_at: Timestamp::UNIX_EPOCH,
            lost,
        })
    }

    #[test]
    fn reasons() {
        for (exit, want) in [
            (exit(0, false, false), (0, "Completed")),
            (exit(3, false, false), (3, "Error")),
            (exit(137, true, false), (137, "OOMKilled")),
            (exit(137, false, true), (137, "ContainerStatusUnknown")),
        ] {
            let Doing::Terminated { code, reason, .. } = doing(&status(State::Exited, &[], exit))
            else {
                panic!("not terminated")
            };
            assert_eq!((code, reason.as_str()), want);
        }
        assert_eq!(
            doing(&status(State::Created, &[], None)),
            Doing::waiting("ContainerCreating")
        );
        let failed = status(
            State::Created,
            &[
                (note::START_ERROR, "no such file"),
                (note::START_FAILED_AT, "2024-01-01T00:00:00Z"),
            ],
            None,
        );
        let Doing::Terminated {
            code,
            reason,
            message,
            started,
            finished,
        } = doing(&failed)
        else {
            panic!("not terminated")
        };
        assert_eq!(
            (code, reason.as_str(), message.as_deref()),
            (128, "StartError", Some("no such file"))
        );
        assert_eq!(
            (started, finished.to_string().as_str()),
            (Some(Timestamp::UNIX_EPOCH), "2024-01-01T00:00:00Z")
        );
    }

    #[test]
    fn messages_from_file_and_log() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-ending-")
            .tempdir()
            .expect("directory");
        let file = directory.path().join("message");
        std::fs::write(&file, "x".repeat(5000)).expect("written");
        let with = |notes: &[(&str, &str)], code| {
            let mut status = status(State::Exited, notes, exit(code, false, false));
            let spec = ContainerSpec {
                log: engine::LogConfig {
                    path: directory.path().join("log"),
                    ..Default::default()
                },
                ..(*status.spec).clone()
            };
            status.spec = spec.into();
            let Doing::Terminated { message, .. } = doing(&status) else {
                panic!("not terminated")
            };
            message
        };
        let path = file.display().to_string();
        assert_eq!(
            with(&[(note::MESSAGE_FILE, &path)], 0).map(|text| text.len()),
            Some(4096),
            "cut"
        );
        std::fs::write(&file, "").expect("written");
        let log: String = (0..100)
            .map(|n| format!("2024-01-01T00:00:00.0Z stdout F line {n}\n"))
            .collect();
        std::fs::write(
            directory.path().join("log"),
            log + "2024-01-01T00:00:00.0Z stderr P half",
        )
        .expect("written");
        let fallback = [
            (note::MESSAGE_FILE, path.as_str()),
            (note::MESSAGE_FROM_LOG, "true"),
        ];
        let text = with(&fallback, 1).expect("the log's end");
        assert!(
            text.starts_with("line 21\n") && text.ends_with("line 99\nhalf"),
            "{text}"
        );
        assert_eq!(with(&fallback, 0), None, "only after an error");
        assert_eq!(with(&fallback[..1], 1), None, "only if asked for");
    }
}
