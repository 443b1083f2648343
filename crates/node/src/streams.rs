//! Remote commands over WebSocket: the subprotocols `v5.channel.k8s.io` and `v4.channel.k8s.io`.
//!
//! Each message begins with a channel byte: 0 stdin, 1 stdout, 2 stderr, 3 the final Status, 4 the terminal's size; in v5, 255 closes
//! the channel named by the next byte. Source: apimachinery's `pkg/util/remotecommand` and KEP-4006.

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::{BufMut, Bytes, BytesMut};
use engine::{Error, ExitStatus, Output, Process};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Both subprotocols, the newer one first.
pub const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// Moves bytes between the client and the process until the process has ended, then says how.
pub async fn run(socket: WebSocket, mut process: Process, whose: Whose) {
    let (mut to_client, mut from_client) = socket.split();
    let mut stdin = process.stdin.take();
    let resizer = process.resizer();
    // closing stdin is the client's to do; losing the client closes it too
    let input = async move {
        while let Some(Ok(message)) = from_client.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => break,
                _ => continue,
            };
            match (data.first().copied(), data.get(1..).unwrap_or_default()) {
                (Some(STDIN), bytes) => {
                    if let Some(pipe) = &mut stdin
                        && (pipe.write_all(bytes).await.is_err() || pipe.flush().await.is_err())
                    {
                        stdin = None;
                    }
                }
                (Some(CLOSE), [STDIN, ..]) => {
                    if let Some(mut pipe) = stdin.take() {
                        let _ = pipe.shutdown().await;
                    }
                }
                (Some(RESIZE), bytes) => {
                    if let Some((columns, rows)) = size(bytes) {
                        let _ = resizer.resize(columns, rows).await;
                    }
                }
                _ => {}
            }
        }
        drop(stdin);
    };
    let output = async {
        while let Some(output) = process.output.recv().await {
            let (channel, bytes) = match output {
                Output::Stdout(bytes) => (STDOUT, bytes),
                Output::Stderr(bytes) => (STDERR, bytes),
            };
            if to_client.send(frame(channel, &bytes)).await.is_err() {
                return;
            }
        }
        let status = whose.end(&process.wait().await);
        let _ = to_client
            .send(frame(ERROR, status.to_string().as_bytes()))
            .await;
        let _ = to_client
            .send(Message::Close(Some(CloseFrame {
                code: 1000,
                reason: "".into(),
            })))
            .await;
    };
    let input = tokio::spawn(input);
    output.await;
    input.abort();
}

/// Tells the client why nothing runs, in the form in which it expects the end of a command.
///
/// kubectl shows only the exit code of a command that failed, so the reason goes to standard error, or to the terminal.
pub async fn refuse(mut socket: WebSocket, error: &Error, tty: bool) {
    if let Some(line) = reason(error, tty) {
        let channel = if tty { STDOUT } else { STDERR };
        let _ = socket.send(frame(channel, line.as_bytes())).await;
    }
    let _ = socket
        .send(frame(ERROR, failure(error).to_string().as_bytes()))
        .await;
    let _ = socket
        .send(Message::Close(Some(CloseFrame {
            code: 1000,
            reason: "".into(),
        })))
        .await;
}

/// Why a command could not be started, as a line for its user.
pub fn reason(error: &Error, tty: bool) -> Option<String> {
    match error {
        Error::Exec { reason, .. } => Some(format!("{reason}{}", if tty { "\r\n" } else { "\n" })),
        _ => None,
    }
}

/// The Status of a command that could not be started.
pub fn failure(error: &Error) -> Value {
    match error {
        Error::Exec { reason, code, .. } => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": reason,
            "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
        }),
        other => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500, "message": other.to_string(),
        }),
    }
}

fn frame(channel: u8, bytes: &[u8]) -> Message {
    let mut framed = BytesMut::with_capacity(bytes.len() + 1);
    framed.put_u8(channel);
    framed.put_slice(bytes);
    Message::Binary(framed.freeze())
}

/// `{"Width":80,"Height":24}` as columns and rows.
pub fn size(text: &[u8]) -> Option<(u16, u16)> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let field = |name: &str| u16::try_from(value.get(name)?.as_u64()?).ok();
    Some((field("Width")?, field("Height")?))
}

/// Whose end the client is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whose {
    /// That of the command which it asked for.
    #[default]
    Command,
    /// That of its connection: how the container ends is in the pod's status, and is no failure to attach.
    Attached,
}

impl Whose {
    /// The Status at the end of the connection.
    pub fn end(self, outcome: &Result<ExitStatus, Error>) -> Value {
        match (self, outcome) {
            (Self::Attached, Ok(_)) => json!({ "metadata": {}, "status": "Success" }),
            _ => status(outcome),
        }
    }
}

/// The Status of a command that has ended.
fn status(outcome: &Result<ExitStatus, Error>) -> Value {
    match outcome {
        Ok(status) if status.code == 0 => json!({ "metadata": {}, "status": "Success" }),
        Ok(status) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {}", status.code),
            "details": { "causes": [{ "reason": "ExitCode", "message": status.code.to_string() }] },
        }),
        Err(error) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500, "message": error.to_string(),
            "details": { "causes": [{ "message": error.to_string() }] },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, want) in [
            (r#"{"Width":80,"Height":24}"#, Some((80, 24))),
            (r#"{"Width":80}"#, None),
            (r#"{"Width":-1,"Height":24}"#, None),
            (r#"{"Width":70000,"Height":24}"#, None),
            ("", None),
        ] {
            assert_eq!(size(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn exit_codes_are_told() {
        let ended = |code| ExitStatus {
            code,
            signal: None,
            oom_killed: false,
            finished_at: jiff::Timestamp::UNIX_EPOCH,
            lost: false,
        };
        assert_eq!(status(&Ok(ended(0)))["status"], "Success");
        assert_eq!(Whose::Attached.end(&Ok(ended(3)))["status"], "Success");
        assert_eq!(Whose::Command.end(&Ok(ended(3)))["status"], "Failure");
        assert_eq!(
            status(&Ok(ended(3)))["details"]["causes"][0],
            json!({ "reason": "ExitCode", "message": "3" })
        );
    }
}
