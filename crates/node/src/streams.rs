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
use tokio::time::{Duration, timeout};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// For so long a client is waited for that has been told of the end: it closes the connection. Going first, with words of its
/// own unread, would make the kernel reset the connection and cut off what the client has not read.
pub const FAREWELL_MAX: Duration = Duration::from_secs(10);

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
        let _ = to_client.send(farewell()).await;
    };
    let mut input = tokio::spawn(input);
    output.await;
    if timeout(FAREWELL_MAX, &mut input).await.is_err() {
        input.abort();
    }
}

fn farewell() -> Message {
    Message::Close(Some(CloseFrame {
        code: 1000,
        reason: "".into(),
    }))
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
    let _ = socket.send(farewell()).await;
    let unheard = async { while let Some(Ok(_)) = socket.next().await {} };
    let _ = timeout(FAREWELL_MAX, unheard).await;
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
    use axum::extract::ws::WebSocketUpgrade;
    use axum::routing::any;
    use tokio::net::{TcpListener, TcpSocket};
    use tokio_tungstenite::tungstenite;

    use super::*;

    /// The client has said things that nobody reads, and takes its time.
    #[tokio::test]
    async fn a_slow_client_gets_the_last_words() {
        const WORDS: usize = 500_000;
        let refusing = |upgrade: WebSocketUpgrade| async {
            upgrade.on_upgrade(|socket| async {
                let error = Error::Exec {
                    id: "web".to_owned(),
                    reason: "x".repeat(WORDS),
                    code: 126,
                };
                refuse(socket, &error, false).await;
            })
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let node = axum::Router::new().route("/", any(refusing));
        let node = tokio::spawn(axum::serve(listener, node).into_future());

        let socket = TcpSocket::new_v4().expect("a socket");
        // most of the words stay on the node's side
        socket.set_recv_buffer_size(4096).expect("set");
        let socket = socket.connect(address).await.expect("connected");
        let url = format!("ws://{address}/");
        let (mut socket, _) = tokio_tungstenite::client_async(url, socket)
            .await
            .expect("upgraded");
        for _ in 0..4 {
            let unheard = tungstenite::Message::binary(vec![STDIN; 1000]);
            socket.send(unheard).await.expect("sent");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut heard = Vec::new();
        while let Some(message) = socket.next().await {
            match message.expect("nothing is cut off") {
                tungstenite::Message::Binary(data) => heard.push((data[0], data.len() - 1)),
                tungstenite::Message::Close(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(heard[0], (STDERR, WORDS + "\n".len()));
        assert_eq!(heard[1].0, ERROR);
        node.abort();
    }

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
