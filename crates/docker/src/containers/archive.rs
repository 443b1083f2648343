//! `/containers/ID/archive`: `docker cp`, in both directions.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Container;
use crate::query::Query;
use crate::reply::{Answer, Body, Refusal, empty, full, stream};
use crate::tree::{Existing, Found, Tree};
use crate::{Docker, body};

const STAT_HEADER: &str = "x-docker-container-path-stat";
/// Pieces of an archive that wait to be sent.
const PIECES_MAX: usize = 16;
const PIECE_BYTES: usize = 64 * 1024;

/// What lies at a path, in a header.
pub async fn stat(docker: &Docker, container: &Container, query: &Query) -> Answer {
    let path = path_of(query)?;
    let root = root(docker, container).await?;
    tokio::task::spawn_blocking(move || {
        let found = find(&root, &path)?;
        describe(Response::new(full("")), &path, &found)
    })
    .await?
}

/// What lies at a path, as a tar archive whose first entry bears its name.
pub async fn get(docker: &Docker, container: &Container, query: &Query) -> Answer {
    let path = path_of(query)?;
    let root = root(docker, container).await?;
    let (path, found) =
        tokio::task::spawn_blocking(move || Ok::<_, Refusal>((path.clone(), find(&root, &path)?)))
            .await??;
    let (pieces_in, pieces) = mpsc::channel(PIECES_MAX);
    let response = describe(
        stream("application/x-tar", ReceiverStream::new(pieces))?,
        &path,
        &found,
    )?;
    tokio::task::spawn_blocking(move || {
        let out = std::io::BufWriter::with_capacity(PIECE_BYTES, Pieces(pieces_in));
        if let Err(error) = found.pack(&base(&path), out) {
            tracing::debug!(%error, path, "an archive of a container's files was not finished");
        }
    });
    Ok(response)
}

/// Unpacks the request's body, plain or gzip, in a directory of the container.
pub async fn put(
    docker: &Docker,
    container: &Container,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let path = path_of(query)?;
    // a running one has its mounts, of which some may be written to: the kernel knows which
    if container.record.host.readonly_rootfs && !container.running() {
        return Err(read_only());
    }
    let existing = if query.flag("noOverwriteDirNonDir") {
        Existing::Refuse
    } else {
        Existing::Replace
    };
    let root = root(docker, container).await?;
    // opened before the upload, which takes its time: its process may end meanwhile, and another have its number
    let tree = tokio::task::spawn_blocking(move || open(&root)).await??;
    let file = body::file(docker, request.into_body()).await?;
    tokio::task::spawn_blocking(move || {
        let target = Path::new("/").join(path.trim_start_matches('/'));
        tree.find(&format!("{}/", target.display()))
            .map_err(|error| match error.raw_os_error() {
                Some(20) => Refusal::bad("extraction point is not a directory"),
                _ => missing(&path, &error),
            })?;
        let reader = body::decompressed(file)?;
        tree.unpack(&path, reader, existing)
            .map_err(|error| match error.kind() {
                ErrorKind::ReadOnlyFilesystem => read_only(),
                _ => Refusal::bad(format!(
                    "the archive could not be unpacked in {path}: {error}"
                )),
            })
    })
    .await??;
    empty(StatusCode::OK)
}

fn read_only() -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "container rootfs is marked read-only",
    )
}

fn path_of(query: &Query) -> Result<String, Refusal> {
    query
        .get("path")
        .map(str::to_owned)
        .ok_or_else(|| Refusal::bad("missing parameter: path"))
}

/// A running container's files are seen with its mounts, as its own processes see them.
async fn root(docker: &Docker, container: &Container) -> Result<PathBuf, Refusal> {
    if let Some(pid) = container.status.pid.filter(|_| container.running()) {
        return Ok(Path::new("/proc").join(pid.to_string()).join("root"));
    }
    let (images, id) = (docker.inner.images.clone(), container.id().to_owned());
    let image = images.get(&container.record.image_id)?;
    Ok(tokio::task::spawn_blocking(move || images.prepare(&image, &id)).await??)
}

fn open(root: &Path) -> Result<Tree, Refusal> {
    Tree::open(root).map_err(|error| {
        Refusal::internal(format!(
            "the container's files at {} cannot be opened: {error}",
            root.display()
        ))
    })
}

fn find(root: &Path, path: &str) -> Result<Found, Refusal> {
    open(root)?
        .find(path)
        .map_err(|error| missing(path, &error))
}

fn missing(path: &str, error: &std::io::Error) -> Refusal {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            Refusal::not_found(format!("Could not find the file {path} in the container"))
        }
        _ => Refusal::bad(format!("{path} in the container: {error}")),
    }
}

/// The last part of a path; `.` where it means what is inside a directory.
fn base(path: &str) -> String {
    let last = path
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    if last.is_empty() {
        ".".to_owned()
    } else {
        last.to_owned()
    }
}

fn describe(mut response: Response<Body>, path: &str, found: &Found) -> Answer {
    let stat = &found.stat;
    let at = Timestamp::new(stat.st_mtime, 0).unwrap_or_default();
    let text = json!({
        "name": base(path), "size": stat.st_size, "mode": go_mode(stat.st_mode), "mtime": at.to_string(), "linkTarget": found.link_target(),
    });
    let encoded = base64::engine::general_purpose::STANDARD.encode(text.to_string());
    let value =
        HeaderValue::from_str(&encoded).map_err(|error| Refusal::internal(error.to_string()))?;
    response.headers_mut().insert(STAT_HEADER, value);
    Ok(response)
}

/// Mode bits as Go's `os.FileMode` has them, which is what clients read.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o020_000 => 1 << 26 | 1 << 21,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 23), (0o2000, 22), (0o1000, 20)];
    let bits: u32 = special
        .iter()
        .filter(|(bit, _)| mode & bit != 0)
        .map(|(_, at)| 1u32 << at)
        .sum();
    mode & 0o777 | kind | bits
}

/// A pipe from a blocking writer to a stream; writing fails when nobody reads any more.
struct Pieces(mpsc::Sender<Bytes>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .blocking_send(Bytes::copy_from_slice(bytes))
            .map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (unix, go) in [
            (0o100_644, 0o644),
            (0o040_755, 0x8000_0000 | 0o755),
            (0o104_755, 0x0080_0000 | 0o755),
            (0o120_777, 0x0800_0000 | 0o777),
        ] {
            assert_eq!(go_mode(unix), go, "{unix:o}");
        }
    }

    #[test]
    fn names() {
        for (path, want) in [
            ("/a/b", "b"),
            ("/a/b/", "b"),
            ("/a/b/.", "."),
            ("/", "."),
            ("b", "b"),
        ] {
            assert_eq!(base(path), want, "{path}");
        }
    }
}
