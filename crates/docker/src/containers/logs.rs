//! `GET /containers/ID/logs`.

use bytes::{BufMut, BytesMut};
use engine::logs::{self, Line, Stream};
use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Container;
use super::attach::frame;
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
    let tail = match query.get("tail") {
        None | Some("all") => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| Refusal::bad(format!("invalid tail {text:?}: a number or all")))?,
        ),
    };
    let options = logs::ReadOptions {
        tail,
        since: time(query, "since")?,
        until: time(query, "until")?,
        follow: query.flag("follow"),
    };
    let (timestamps, tty) = (query.flag("timestamps"), container.record.config.tty);
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
    let chunks = ReceiverStream::new(lines).filter_map(move |line: Line| {
        let wanted = match line.stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        futures::future::ready(wanted.then(|| render(&line, timestamps, tty)))
    });
    let kind = if tty {
        "application/vnd.docker.raw-stream"
    } else {
        "application/vnd.docker.multiplexed-stream"
    };
    stream(kind, chunks)
}

fn render(line: &Line, timestamps: bool, tty: bool) -> bytes::Bytes {
    let mut text = BytesMut::with_capacity(line.content.len() + 40);
    if timestamps {
        text.put_slice(format!("{:.9} ", line.at).as_bytes());
    }
    text.put_slice(&line.content);
    if !line.partial {
        text.put_u8(b'\n');
    }
    if tty {
        return text.freeze();
    }
    frame(if line.stream == Stream::Stderr { 2 } else { 1 }, &text)
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
