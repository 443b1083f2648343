//! Reading request bodies, with a limit on each.

use std::fs::File;
use std::io::{BufRead, ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Docker;
use crate::reply::Refusal;

const JSON_BYTES_MAX: usize = 4 << 20;
/// A build context or an image; on disk, never in memory.
const FILE_BYTES_MAX: u64 = 64 << 30;
/// How much, and how long, a refused upload is listened to.
const DRAIN_BYTES_MAX: usize = 64 << 20;
const DRAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// A JSON document; an empty body is its default.
pub async fn json<T: DeserializeOwned + Default>(body: Incoming) -> Result<T, Refusal> {
    let bytes = Limited::new(body, JSON_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request's body is larger than {JSON_BYTES_MAX} bytes"),
            ),
            None => Refusal::bad(format!("the request's body could not be read: {error}")),
        })?
        .to_bytes();
    if bytes.is_empty() {
        return Ok(T::default());
    }
    parsed(&bytes)
}

/// Members whose names are the user's: one that is `null` is there all the same, as with Go's maps.
const MAPS: [&str; 11] = [
    "Annotations",
    "DriverOpts",
    "EndpointsConfig",
    "ExposedPorts",
    "Labels",
    "Options",
    "PortBindings",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];
/// Those whose values are words; their `null` is the empty one.
const MAPS_OF_WORDS: [&str; 7] = [
    "Annotations",
    "DriverOpts",
    "Labels",
    "Options",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
];

/// The document, in which `null` stands for what is not given: some clients write it for every field that nobody set.
fn parsed<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T, Refusal> {
    let wrong = |error| Refusal::bad(format!("invalid JSON: {error}"));
    let mut document: Value = serde_json::from_slice(bytes).map_err(wrong)?;
    if document.is_null() {
        return Ok(T::default());
    }
    drop_nulls(&mut document);
    serde_json::from_value(document).map_err(wrong)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            for (name, member) in members {
                match member {
                    Value::Object(map) if MAPS.contains(&name.as_str()) => {
                        for one in map.values_mut() {
                            if one.is_null() && MAPS_OF_WORDS.contains(&name.as_str()) {
                                *one = "".into();
                            }
                            drop_nulls(one);
                        }
                    }
                    member => drop_nulls(member),
                }
            }
        }
        _ => {}
    }
}

/// The body in a temporary file beneath the data directory, at its beginning. A client that goes away leaves nothing.
pub async fn file(docker: &Docker, body: Incoming) -> Result<File, Refusal> {
    let mut body = body;
    let kept = keep(docker, &mut body).await;
    if kept.is_err() {
        drain(&mut body).await;
    }
    kept
}

/// Takes what a refused client still sends, within bounds: one that finds its connection closed while it writes tells its user of
/// a broken pipe, not of the refusal.
async fn drain(body: &mut Incoming) {
    let all = async {
        let mut taken = 0;
        while let Some(Ok(frame)) = body.frame().await {
            taken += frame.data_ref().map_or(0, bytes::Bytes::len);
            if taken > DRAIN_BYTES_MAX {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN, all).await;
}

async fn keep(docker: &Docker, body: &mut Incoming) -> Result<File, Refusal> {
    let directory = uploads(docker)?;
    // refused before half of it has been sent, where that can be told
    let announced = hyper::body::Body::size_hint(body).lower();
    let free = rustix::fs::statvfs(&directory)
        .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    if announced > FILE_BYTES_MAX || announced > free {
        return Err(full(&directory, announced, free));
    }
    let failed = |error: std::io::Error, total: u64| match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => full(&directory, total, 0),
        _ => Refusal::internal(format!(
            "the upload could not be kept in {}: {error}",
            directory.display()
        )),
    };
    let mut file = tempfile::tempfile_in(&directory).map_err(|error| failed(error, 0))?;
    let mut stream = body.into_data_stream();
    let mut total = 0u64;
    while let Some(chunk) = stream.next().await {
        let chunk =
            chunk.map_err(|error| Refusal::bad(format!("the upload broke off: {error}")))?;
        total += chunk.len() as u64;
        if total > FILE_BYTES_MAX {
            return Err(full(&directory, total, free));
        }
        // the page cache takes it; a block of the disk's time is rare enough not to need another thread
        file.write_all(&chunk)
            .map_err(|error| failed(error, total))?;
    }
    std::io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// Where uploads and build contexts lie, for nobody else to read; made when it is needed, emptied at every start.
pub fn uploads(docker: &Docker) -> Result<PathBuf, Refusal> {
    let directory = docker.inner.uploads.clone();
    let mut private = std::fs::DirBuilder::new();
    private.recursive(true).mode(0o700);
    private.create(&directory).map_err(|error| {
        Refusal::internal(format!(
            "cannot make {} for uploads: {error}",
            directory.display()
        ))
    })?;
    Ok(directory)
}

fn full(directory: &Path, bytes: u64, free: u64) -> Refusal {
    let text = format!(
        "the upload ({bytes} bytes so far) does not fit: {} has {free} bytes free, and at most {FILE_BYTES_MAX} are taken; leave out what is not needed (.dockerignore) or make room",
        directory.display()
    );
    Refusal::new(StatusCode::INSUFFICIENT_STORAGE, text)
}

/// What was uploaded, without its gzip if it has one.
pub fn decompressed(file: File) -> std::io::Result<Box<dyn Read>> {
    let mut reader = std::io::BufReader::new(file);
    let gzip = reader.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(if gzip {
        Box::new(flate2::read::MultiGzDecoder::new(reader))
    } else {
        Box::new(reader)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Config, HostConfig};

    #[test]
    fn null_is_what_is_not_given() {
        // as docker-java sends it: every field, most of them null
        let config: Config = parsed(
            br#"{"Hostname":null,"User":null,"Tty":null,"OpenStdin":null,"StdinOnce":null,"Image":"a","Cmd":["x"],"Entrypoint":null,
            "StopTimeout":null,"StopSignal":null,"NetworkDisabled":null,"Labels":{"a":null},"ExposedPorts":{"80/tcp":null},"Volumes":{"/v":null},
            "Healthcheck":{"Test":["NONE"],"Interval":null,"Timeout":null,"Retries":null,"StartPeriod":null}}"#,
        )
        .unwrap_or_else(|refusal| panic!("{}", refusal.message));
        assert_eq!((config.tty, config.open_stdin), (false, false));
        assert_eq!(config.labels["a"], "", "as Go reads it");
        assert!(config.exposed_ports.contains_key("80/tcp"));
        assert!(config.volumes.contains_key("/v"));
        let host: HostConfig = parsed(
            br#"{"Memory":null,"NanoCpus":null,"CpuShares":null,"CpuPeriod":null,"CpuQuota":null,"Privileged":null,"AutoRemove":null,
            "PublishAllPorts":null,"ReadonlyRootfs":null,"OomScoreAdj":null,"PidsLimit":null,"ShmSize":null,
            "RestartPolicy":{"Name":"always","MaximumRetryCount":null},"PortBindings":{"80/tcp":null,"81/tcp":[{"HostIp":null,"HostPort":"8081"}]},
            "Ulimits":[{"Name":"nofile","Soft":1,"Hard":null}],"Devices":[{"PathOnHost":"/dev/fuse","CgroupPermissions":null}],
            "Mounts":[{"Type":"bind","Source":"/a","Target":"/a","ReadOnly":null,"BindOptions":{"Propagation":null,"NonRecursive":null}}]}"#,
        )
        .unwrap_or_else(|refusal| panic!("{}", refusal.message));
        assert_eq!((host.memory, host.privileged), (0, false));
        assert_eq!(host.port_bindings["80/tcp"].as_ref().map(Vec::len), None);
        assert_eq!(host.restart_policy.name, "always");
        assert!(!host.rest.contains_key("ShmSize"));
        assert_eq!(
            parsed::<Config>(b"null").map(|c| c.image).ok(),
            Some(String::new())
        );
        let wrong = parsed::<HostConfig>(br#"{"Memory":"much"}"#).expect_err("no number");
        assert!(wrong.message.contains("expected i64"), "{}", wrong.message);
    }
}
