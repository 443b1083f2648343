//! `GET /containers/ID/logs`.

use bytes::{BufMut, Bytes, BytesMut};
use engine::logs::{self, Line, Stream};
use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Container;
use super::attach::{Wants, content_type, frame};
use crate::Docker;
use crate::query::Query;
use crate::reply::{Answer, Refusal, stream};

pub fn logs(docker: &Docker, container: &Container, query: &Query) -> Answer {
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(Refusal::bad(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    // what is no number, or a negative one, means all, as with dockerd
    let tail = query.get("tail").and_then(|text| text.parse().ok());
    let options = logs::ReadOptions {
        tail,
        since: time(query, "since")?,
        until: time(query, "until")?,
        follow: query.flag("follow"),
    };
    let wants = Wants {
        stdout,
        stderr,
        tty: container.record.config.tty,
        own: false,
    };
    let mut renderer = Renderer::new(wants, query.flag("timestamps"));
    let chunks = ReceiverStream::new(lines(docker, container, options))
        .filter_map(move |line| futures::future::ready(renderer.render(&line)));
    stream(content_type(wants.tty), chunks)
}

/// What the container has said, framed for who attaches.
pub fn until_now(docker: &Docker, container: &Container, wants: Wants) -> mpsc::Receiver<Bytes> {
    let options = logs::ReadOptions {
        until: Some(Timestamp::now()),
        ..logs::ReadOptions::default()
    };
    let mut lines = lines(docker, container, options);
    let mut renderer = Renderer::new(wants, false);
    let (framed_in, framed) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(line) = lines.recv().await {
            if let Some(bytes) = renderer.render(&line)
                && framed_in.send(bytes).await.is_err()
            {
                return;
            }
        }
    });
    framed
}

fn lines(
    docker: &Docker,
    container: &Container,
    options: logs::ReadOptions,
) -> mpsc::Receiver<Line> {
    let (lines_in, lines) = mpsc::channel(256);
    let (engine, id, path) = (
        docker.inner.engine.clone(),
        container.id().to_owned(),
        container.status.spec.log.path.clone(),
    );
    let running = container.running();
    tokio::spawn(async move {
        let ended = async {
            if running {
                let _ = engine.wait_container(&id).await;
            }
        };
        match logs::read(&path, options, ended, lines_in).await {
            // a container that was never started has no log
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %path.display(), "a log could not be read")
            }
            _ => {}
        }
    });
    lines
}

/// Makes bytes for the client of entries of a log. An entry may be a piece of a line: the time stands where a line begins.
struct Renderer {
    wants: Wants,
    timestamps: bool,
    /// Of each stream: its last entry goes on in its next one.
    open: [bool; 2],
}

impl Renderer {
    fn new(wants: Wants, timestamps: bool) -> Self {
        Self {
            wants,
            timestamps,
            open: [false; 2],
        }
    }

    fn render(&mut self, line: &Line) -> Option<Bytes> {
        let (wanted, number) = match line.stream {
            Stream::Stdout => (self.wants.stdout, 1),
            Stream::Stderr => (self.wants.stderr, 2),
        };
        if !wanted {
            return None;
        }
        let goes_on = std::mem::replace(&mut self.open[usize::from(number) - 1], line.partial);
        let mut text = BytesMut::with_capacity(line.content.len() + 40);
        if self.timestamps && !goes_on {
            text.put_slice(format!("{:.9} ", line.at).as_bytes());
        }
        text.put_slice(&line.content);
        if !line.partial {
            text.put_u8(b'\n');
        }
        Some(match self.wants.tty {
            true => text.freeze(),
            false => frame(number, &text),
        })
    }
}

/// Unix seconds with fraction, or RFC 3339.
fn time(query: &Query, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = query.get(name).filter(|text| *text != "0") else {
        return Ok(None);
    };
    let wrong = || Refusal::bad(format!("invalid value {text:?} for {name}: not a time"));
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Some(at));
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let nanoseconds = format!("{fraction:0<9}")
        .get(..9)
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(wrong)?;
    Timestamp::new(seconds.parse().map_err(|_| wrong())?, nanoseconds)
        .map(Some)
        .map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_stands_where_a_line_begins() {
        let wants = Wants {
            stdout: true,
            stderr: true,
            tty: true,
            own: false,
        };
        let mut renderer = Renderer::new(wants, true);
        let line = |stream, partial, content: &str| Line {
            at: Timestamp::UNIX_EPOCH,
            stream,
            partial,
            content: content.to_owned().into(),
        };
        let shown: Vec<String> = [
            line(Stream::Stdout, true, "a"),
            line(Stream::Stderr, false, "x"),
            line(Stream::Stdout, true, "b"),
            line(Stream::Stdout, false, "c"),
            line(Stream::Stdout, false, "d"),
        ]
        .iter()
        .filter_map(|line| renderer.render(line))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .collect();
        let at = "1970-01-01T00:00:00.000000000Z";
        let expected = [
            format!("{at} a"),
            format!("{at} x\n"),
            "b".into(),
            "c\n".into(),
            format!("{at} d\n"),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn times() {
        let parse = |text: &str| {
            time(&Query::parse(&format!("since={text}")), "since")
                .ok()
                .flatten()
                .map(|at| at.to_string())
        };
        assert_eq!(parse("1700000000").as_deref(), Some("2023-11-14T22:13:20Z"));
        assert_eq!(
            parse("1700000000.5").as_deref(),
            Some("2023-11-14T22:13:20.5Z")
        );
        assert_eq!(
            parse("2023-11-14T22:13:20Z").as_deref(),
            Some("2023-11-14T22:13:20Z")
        );
        assert_eq!(parse("yesterday"), None);
        assert!(time(&Query::parse("since=yesterday"), "since").is_err());
    }
}
