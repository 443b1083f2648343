//! Container logs in CRI format: parse lines, read with tail and since, follow across rotation.

use crate::supervisor::log::rotated;
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;

/// Longest line of a log file that is understood; the writer's entries are shorter.
const LINE_LENGTH_MAX: usize = 1 << 20;
/// How often a followed log is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);
const CHUNK_LENGTH: usize = 64 << 10;
/// Rotated files that are looked for.
const FILES_MAX: u32 = 1000;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub at: Timestamp,
    pub stream: Stream,
    /// The entry goes on in the next one of the same stream: no newline follows the content.
    pub partial: bool,
    pub content: Bytes,
}

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Only the last lines; an entry and its partial predecessors are one line.
    pub tail: Option<usize>,
    /// Only entries at this time or later.
    pub since: Option<Timestamp>,
    /// Only entries at this time or earlier.
    pub until: Option<Timestamp>,
    /// Wait for more, across rotation, until `ended` of [`read`] resolves or the receiver is dropped.
    pub follow: bool,
}

/// Sends the entries of the log at `path`, its rotated files first. A missing file is an empty log. With `follow` it goes on until
/// `ended` resolves (then what is left is sent) or the receiver is dropped. Lines that are none are skipped.
pub async fn read(
    path: &Path,
    options: ReadOptions,
    ended: impl Future<Output = ()> + Send,
    out: mpsc::Sender<Line>,
) -> io::Result<()> {
    let mut reader = Reader::new(path);
    let mut kept: VecDeque<Line> = VecDeque::new();
    let mut lines_kept = 0;
    let mut waits = Vec::new();
    loop {
        let lines = reader.next()?;
        let more = !lines.is_empty();
        for line in lines.into_iter().filter(|line| options.wants(line)) {
            let Some(tail) = options.tail else {
                waits.push(line);
                continue;
            };
            lines_kept += usize::from(!line.partial);
            kept.push_back(line);
            let open = usize::from(kept.back().is_some_and(|line| line.partial));
            while lines_kept + open > tail && !kept.is_empty() {
                lines_kept -= usize::from(kept.pop_front().is_some_and(|line| !line.partial));
            }
        }
        for line in waits.drain(..) {
            if out.send(line).await.is_err() {
                return Ok(());
            }
        }
        if !more {
            break;
        }
    }
    for line in kept {
        if out.send(line).await.is_err() {
            return Ok(());
        }
    }
    if !options.follow {
        return Ok(());
    }
    let mut ended = pin!(ended);
    loop {
        let last_look = tokio::select! {
            () = &mut ended => true,
            () = out.closed() => return Ok(()),
            () = tokio::time::sleep(FOLLOW_EVERY) => false,
        };
        loop {
            let lines = reader.next()?;
            if lines.is_empty() {
                break;
            }
            for line in lines.into_iter().filter(|line| options.wants(line)) {
                if out.send(line).await.is_err() {
                    return Ok(());
                }
            }
        }
        let over = options.until.is_some_and(|until| Timestamp::now() > until);
        if last_look || over {
            return Ok(());
        }
    }
}

/// Parses one line of a log file, without its newline; `None` when it is not one.
///
/// Format (kubernetes/design-proposals, CRI logging): `TIME stdout|stderr TAGS CONTENT`; tags are separated by colons, `P` is partial.
pub fn parse_line(line: &[u8]) -> Option<Line> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let at = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let stream = match parts.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let partial = match parts.next()?.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Line {
        at,
        stream,
        partial,
        content: Bytes::copy_from_slice(parts.next().unwrap_or_default()),
    })
}

impl ReadOptions {
    fn wants(&self, line: &Line) -> bool {
        self.since.is_none_or(|since| line.at >= since)
            && self.until.is_none_or(|until| line.at <= until)
    }
}

/// Reads a log and its rotated predecessors from the oldest on, in pieces.
struct Reader {
    path: PathBuf,
    file: Option<File>,
    /// The end of a file whose newline has not come yet.
    rest: Vec<u8>,
    started: bool,
}

impl Reader {
    fn new(path: &Path) -> Reader {
        Reader {
            path: path.to_owned(),
            file: None,
            rest: Vec::new(),
            started: false,
        }
    }

    /// More lines; none when there are none now.
    fn next(&mut self) -> io::Result<Vec<Line>> {
        if !self.started {
            self.started = true;
            self.file = self.oldest();
        }
        loop {
            if self.file.is_none() {
                self.file = open(&self.path)?;
            }
            let Some(file) = &mut self.file else {
                return Ok(Vec::new());
            };
            let mut chunk = vec![0; CHUNK_LENGTH];
            let count = file.read(&mut chunk)?;
            if count == 0 {
                match self.newer()? {
                    Some(newer) => {
                        // A file that was rotated away gets no more; a torn last line is lost with its writer.
                        self.rest.clear();
                        self.file = Some(newer);
                        continue;
                    }
                    None => return Ok(Vec::new()),
                }
            }
            self.rest.extend_from_slice(&chunk[..count]);
            let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
                if self.rest.len() > LINE_LENGTH_MAX {
                    self.rest.clear();
                }
                continue;
            };
            let rest = self.rest.split_off(end + 1);
            let whole = std::mem::replace(&mut self.rest, rest);
            let lines: Vec<Line> = whole
                .split(|byte| *byte == b'\n')
                .filter_map(parse_line)
                .collect();
            if !lines.is_empty() {
                return Ok(lines);
            }
        }
    }

    fn oldest(&self) -> Option<File> {
        let last = (1..FILES_MAX)
            .take_while(|number| rotated(&self.path, *number).exists())
            .last();
        last.and_then(|number| File::open(rotated(&self.path, number)).ok())
    }

    /// The file after the one that is read, when it is not the newest.
    fn newer(&mut self) -> io::Result<Option<File>> {
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        let own = file.metadata()?;
        let current = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            // Between rotation and the next write.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if (current.dev(), current.ino()) == (own.dev(), own.ino()) {
            if own.len() < file.stream_position()? {
                // Truncated in place.
                file.seek(SeekFrom::Start(0))?;
            }
            return Ok(None);
        }
        // It may have got its last lines between the read and the rotation.
        if file.stream_position()? < own.len() {
            return Ok(None);
        }
        let same = |number: &u32| {
            fs::metadata(rotated(&self.path, *number))
                .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (own.dev(), own.ino()))
        };
        match (1..FILES_MAX)
            .take_while(|number| rotated(&self.path, *number).exists())
            .find(same)
        {
            Some(number) if number > 1 => open(&rotated(&self.path, number - 1)),
            // Rotated out of existence: what is left starts with the oldest.
            None if rotated(&self.path, 1).exists() => Ok(self.oldest()),
            _ => open(&self.path),
        }
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
