//! Exec and attach over streams: one for each of a process's, one for its end, one for the size of its terminal.
//!
//! Source: `k8s.io/kubelet/pkg/cri/streaming/remotecommand`.

use std::time::Duration;

use bytes::Bytes;
use engine::{Error, Output, Process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Stream;
use super::session::{Incoming, Outgoing};
use crate::streams;

/// The protocols, the newest first. In the fourth the end is told as a Status, before it in words.
pub const PROTOCOLS: [&str; 3] = [V4, "v3.channel.k8s.io", "v2.channel.k8s.io"];
const V4: &str = "v4.channel.k8s.io";
/// A client that has not opened its streams by then is given up.
const OPENING_MAX: Duration = Duration::from_secs(30);
/// No size of a terminal is longer.
const SIZE_MAX: u64 = 1024;

/// The streams that a client of a command opens.
#[derive(Default)]
pub struct Streams {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

/// Which of them there will be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
    pub whose: streams::Whose,
}

impl Streams {
    /// Waits for the client to open them; nothing if it does not.
    async fn open(
        wanted: Wanted,
        protocol: &str,
        from: &mut mpsc::Receiver<Stream>,
    ) -> Option<Self> {
        let mut streams = Self::default();
        let resizes = wanted.tty && protocol != "v2.channel.k8s.io";
        // The client says nothing on standard error of a terminal, but may have asked for it.
        let stderr = wanted.stderr && !wanted.tty;
        let mut missing = 1 + [wanted.stdin, wanted.stdout, stderr, resizes]
            .map(usize::from)
            .iter()
            .sum::<usize>();
        while missing > 0 {
            let stream = from.recv().await?;
            let place = match stream.header("streamtype") {
                Some("error") => &mut streams.error,
                Some("stdin") if wanted.stdin => &mut streams.stdin,
                Some("stdout") if wanted.stdout => &mut streams.stdout,
                Some("stderr") if stderr => &mut streams.stderr,
                Some("resize") if resizes => &mut streams.resize,
                // Not asked for: it is dropped, which tells the client.
                _ => continue,
            };
            if place.replace(stream).is_none() {
                missing -= 1;
            }
        }
        Some(streams)
    }
}

/// Moves bytes between the client and the process until it has ended, then says how.
pub async fn run(
    protocol: &str,
    mut from: mpsc::Receiver<Stream>,
    wanted: Wanted,
    process: Result<Process, Error>,
) {
    let opened = timeout(OPENING_MAX, Streams::open(wanted, protocol, &mut from)).await;
    let Ok(Some(streams)) = opened else {
        tracing::debug!("a client did not open the streams of its command");
        return;
    };
    let Streams {
        error: Some(mut end),
        stdin,
        mut stdout,
        mut stderr,
        resize,
    } = streams
    else {
        return;
    };
    // Their other halves are ended at the end: a client takes that for the wish to get no more.
    let (stdin, stdin_end) = halves(stdin);
    let (resize, resize_end) = halves(resize);
    let status = match process {
        Err(error) => {
            let channel = if wanted.tty { &mut stdout } else { &mut stderr };
            if let (Some(line), Some(channel)) = (streams::reason(&error, wanted.tty), channel) {
                channel.send(line.into()).await;
            }
            streams::failure(&error)
        }
        Ok(mut process) => {
            let input = tokio::spawn(input(stdin, process.stdin.take()));
            let resizer = process.resizer();
            let sizes = tokio::spawn(async move {
                if let Some(resize) = resize {
                    sizes(resize, |columns, rows| resizer.resize(columns, rows)).await;
                }
            });
            while let Some(output) = process.output.recv().await {
                let (stream, bytes) = match output {
                    Output::Stdout(bytes) => (&mut stdout, bytes),
                    Output::Stderr(bytes) => (&mut stderr, bytes),
                };
                if let Some(stream) = stream
                    && !stream.send(bytes).await
                {
                    break;
                }
            }
            let status = wanted.whose.end(&process.wait().await);
            input.abort();
            sizes.abort();
            status
        }
    };
    end.send(told(protocol, &status)).await;
    end.end().await;
    for stream in [stdout, stderr].iter_mut().flatten() {
        stream.end().await;
    }
    for half in [stdin_end, resize_end].iter_mut().flatten() {
        half.end().await;
    }
    // The client closes the connection; going first would cut off what it has not read.
    let _ = timeout(OPENING_MAX, from.recv()).await;
}

/// The end of a command, in the protocol's words.
fn told(protocol: &str, status: &Value) -> Bytes {
    if protocol == V4 {
        return status.to_string().into();
    }
    if status["status"] == "Success" {
        return Bytes::new();
    }
    status["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
        .into()
}

fn halves(stream: Option<Stream>) -> (Option<Incoming>, Option<Outgoing>) {
    stream.map(Stream::split).unzip()
}

async fn input(
    stream: Option<Incoming>,
    pipe: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>>,
) {
    let (Some(mut from_client), Some(mut pipe)) = (stream, pipe) else {
        return;
    };
    let _ = tokio::io::copy(&mut from_client, &mut pipe).await;
    let _ = pipe.shutdown().await;
}

/// One size of the terminal a line.
async fn sizes<F: Future<Output = Result<(), Error>>>(
    from_client: Incoming,
    resize: impl Fn(u16, u16) -> F,
) {
    let mut lines = BufReader::new(from_client);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut lines)
            .take(SIZE_MAX)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(1..) => {}
            _ => return,
        }
        if let Some((columns, rows)) = streams::size(&line) {
            let _ = resize(columns, rows).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_in_the_protocols_words() {
        let success = serde_json::json!({"metadata": {}, "status": "Success"});
        let failure = serde_json::json!({"status": "Failure", "message": "exit status 3"});
        assert_eq!(told(V4, &success), success.to_string());
        assert_eq!(told("v2.channel.k8s.io", &success), "");
        assert_eq!(told("v3.channel.k8s.io", &failure), "exit status 3");
    }
}
