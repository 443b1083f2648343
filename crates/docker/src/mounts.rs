//! What a container mounts where: a pure reading of `-v`, `--mount`, `--tmpfs`, `--volumes-from` and the image's volumes, with
//! Docker's order of precedence and its words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::MountKind;

use crate::names;
use crate::record::{Config, HostConfig, MountRequest};
use crate::reply::Refusal;

const PROPAGATION: [&str; 6] = [
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];
/// What SELinux and other systems' file sharing want to know; it means nothing here.
const HARMLESS: [&str; 6] = ["z", "Z", "cached", "delegated", "consistent", "rw"];
const TMPFS_FLAGS: [&str; 16] = [
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
];
const TMPFS_VALUES: [&str; 7] = [
    "size",
    "mode",
    "uid",
    "gid",
    "nr_inodes",
    "nr_blocks",
    "mpol",
];

/// Where the content comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A file or directory of this machine; made if it is missing and `make` is set.
    Host {
        path: PathBuf,
        make: bool,
    },
    /// A volume; without a name one that belongs to this container alone.
    Volume {
        name: Option<String>,
        /// A new one gets what the image has at that place.
        copy: bool,
        labels: BTreeMap<String, String>,
    },
    Tmpfs,
}

/// One mount.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub source: Source,
    pub target: String,
    pub read_only: bool,
    pub options: Vec<String>,
}

/// A mount of another container, for `--volumes-from`.
pub struct Borrowed {
    pub mount: engine::Mount,
    /// Its volume's name, if it is one.
    pub volume: Option<String>,
    pub read_only: bool,
}

/// Every mount of a container. What is named first by the user counts: binds and mounts over what is borrowed, all of them
/// over what the image declares.
pub fn plan(
    config: &Config,
    host: &HostConfig,
    image_volumes: impl Iterator<Item = String>,
    borrowed: Vec<Borrowed>,
) -> Result<Vec<Point>, Refusal> {
    let mut points: BTreeMap<String, Point> = BTreeMap::new();
    for one in borrowed
        .into_iter()
        .filter(|one| one.mount.kind == MountKind::Bind)
    {
        let source = match one.volume {
            Some(name) => Source::Volume {
                name: Some(name),
                copy: false,
                labels: BTreeMap::new(),
            },
            None => Source::Host {
                path: one.mount.source,
                make: false,
            },
        };
        let point = Point {
            source,
            target: one.mount.target,
            read_only: one.mount.read_only || one.read_only,
            options: one.mount.options,
        };
        points.insert(point.target.clone(), point);
    }
    let mut named = Vec::new();
    for text in &host.binds {
        named.push(bind(text)?);
    }
    for request in &host.mounts {
        named.push(mount(request)?);
    }
    for (target, options) in &host.tmpfs {
        named.push(tmpfs(&absolute(target)?, options)?);
    }
    let mut seen = Vec::new();
    for point in named {
        if seen.contains(&point.target) {
            return Err(Refusal::bad(format!(
                "Duplicate mount point: {}",
                point.target
            )));
        }
        seen.push(point.target.clone());
        points.insert(point.target.clone(), point);
    }
    for target in config.volumes.keys().cloned().chain(image_volumes) {
        let target = absolute(&target)?;
        points.entry(target.clone()).or_insert_with(|| Point {
            source: Source::Volume {
                name: None,
                copy: true,
                labels: BTreeMap::new(),
            },
            target,
            read_only: false,
            options: Vec::new(),
        });
    }
    Ok(points.into_values().collect())
}

/// A clean absolute path that is not the root.
fn absolute(target: &str) -> Result<String, Refusal> {
    if !target.starts_with('/') {
        return Err(Refusal::bad(format!(
            "invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(Refusal::bad(format!(
            "invalid volume specification: '{target}': destination can't be '/'"
        )));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// `[SOURCE:]TARGET[:OPTIONS]`; the source is an absolute path or the name of a volume.
fn bind(text: &str) -> Result<Point, Refusal> {
    let wrong = || Refusal::bad(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        // Docker takes `TARGET:MODE` for a source and a target too, and refuses it
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(wrong()),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(wrong());
    }
    let mut point = Point {
        source: if source.starts_with('/') {
            Source::Host {
                path: PathBuf::from(source),
                make: true,
            }
        } else if source.is_empty() || names::valid(source) {
            Source::Volume {
                name: Some(source.to_owned()).filter(|name| !name.is_empty()),
                copy: true,
                labels: BTreeMap::new(),
            }
        } else {
            return Err(Refusal::bad(format!(
                "create {source}: \"{source}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
            )));
        },
        target: absolute(target)?,
        read_only: false,
        options: Vec::new(),
    };
    let is_host = matches!(point.source, Source::Host { .. });
    let (mut access, mut propagation) = (0, 0);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match (option, &mut point.source) {
            ("ro" | "rw", _) => {
                access += 1;
                point.read_only = option == "ro";
            }
            ("nocopy", Source::Volume { copy, .. }) => *copy = false,
            (option, _) if PROPAGATION.contains(&option) && is_host => {
                propagation += 1;
                point.options.push(option.to_owned());
            }
            (option, _) if HARMLESS.contains(&option) => {}
            _ => return Err(Refusal::bad(format!("invalid mode: {options}"))),
        }
    }
    if access > 1 || propagation > 1 {
        return Err(Refusal::bad(format!("invalid mode: {options}")));
    }
    Ok(point)
}

/// One `--mount`.
fn mount(request: &MountRequest) -> Result<Point, Refusal> {
    let kind = request.kind.as_str();
    let wrong =
        |why: String| Refusal::bad(format!("invalid mount config for type {kind:?}: {why}"));
    if request.target.is_empty() {
        return Err(wrong("field Target must not be empty".into()));
    }
    let target = absolute(&request.target)?;
    let mut options = Vec::new();
    let source = match kind {
        "bind" => {
            if request.source.is_empty() {
                return Err(wrong("field Source must not be empty".into()));
            }
            if !request.source.starts_with('/') {
                return Err(wrong(format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    request.source
                )));
            }
            let bind = request.bind_options.clone().unwrap_or_default();
            if !bind.propagation.is_empty() {
                if !PROPAGATION.contains(&bind.propagation.as_str()) {
                    return Err(wrong(format!(
                        "invalid propagation mode: {}",
                        bind.propagation
                    )));
                }
                options.push(bind.propagation);
            }
            if bind.non_recursive {
                options.push("bind".into());
            }
            let path = PathBuf::from(&request.source);
            if !bind.create_mountpoint && !path.exists() {
                return Err(wrong(format!(
                    "bind source path does not exist: {}",
                    request.source
                )));
            }
            Source::Host {
                path,
                make: bind.create_mountpoint,
            }
        }
        "volume" => {
            let volume = request.volume_options.clone().unwrap_or_default();
            let driver = volume.driver_config.unwrap_or_default();
            if !matches!(driver.name.as_str(), "" | "local") {
                // not as "not found": clients take that for a missing image
                return Err(Refusal::bad(format!(
                    "error looking up volume plugin {}: plugin not found",
                    driver.name
                )));
            }
            if !volume.subpath.is_empty() {
                return Err(wrong(format!(
                    "a part of a volume (volume-subpath {:?}) is not supported; mount the whole volume",
                    volume.subpath
                )));
            }
            if let Some(option) = driver.options.keys().next() {
                return Err(wrong(format!(
                    "volume options ({option}) are not supported; a volume is a directory of this machine"
                )));
            }
            if !request.source.is_empty() && !names::valid(&request.source) {
                return Err(wrong(format!(
                    "\"{}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed",
                    request.source
                )));
            }
            Source::Volume {
                name: Some(request.source.clone()).filter(|name| !name.is_empty()),
                copy: !volume.no_copy,
                labels: volume.labels,
            }
        }
        "tmpfs" => {
            if !request.source.is_empty() {
                return Err(wrong("field Source must not be specified".into()));
            }
            let of = request.tmpfs_options.clone().unwrap_or_default();
            if of.size_bytes < 0 {
                return Err(wrong(format!("invalid tmpfs size: {}", of.size_bytes)));
            }
            let mut text = Vec::new();
            if of.size_bytes > 0 {
                text.push(format!("size={}", of.size_bytes));
            }
            if of.mode > 0 {
                text.push(format!("mode={:o}", of.mode));
            }
            let mut point = tmpfs(&target, &text.join(","))?;
            point.read_only = request.read_only;
            return Ok(point);
        }
        other => {
            return Err(Refusal::bad(format!(
                "mount type unknown or not supported: {other:?}; bind, volume and tmpfs are"
            )));
        }
    };
    Ok(Point {
        source,
        target,
        read_only: request.read_only,
        options,
    })
}

fn tmpfs(target: &str, text: &str) -> Result<Point, Refusal> {
    let mut options: Vec<String> = Vec::new();
    let mut read_only = false;
    for option in text.split(',').filter(|option| !option.is_empty()) {
        let known = match option.split_once('=') {
            Some((key, value)) => TMPFS_VALUES.contains(&key) && !value.is_empty(),
            None => TMPFS_FLAGS.contains(&option),
        };
        if !known {
            return Err(Refusal::bad(format!("invalid tmpfs option [{option:?}]")));
        }
        match option {
            "ro" | "rw" => read_only = option == "ro",
            option => options.push(option.to_owned()),
        }
    }
    if !options.iter().any(|option| option == "exec") {
        options.push("noexec".into());
    }
    options.retain(|option| option != "exec");
    Ok(Point {
        source: Source::Tmpfs,
        target: target.to_owned(),
        read_only,
        options,
    })
}

/// `CONTAINER[:ro|rw]`.
pub fn borrowed_from(text: &str) -> Result<(&str, bool), Refusal> {
    let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
    match mode {
        "ro" | "rw" if !name.is_empty() => Ok((name, mode == "ro")),
        _ => Err(Refusal::bad(format!("invalid mode: {mode}"))),
    }
}

/// How mounts on one side reach the other, as `inspect` shows it.
pub fn propagation(mount: &engine::Mount) -> &str {
    let found = mount
        .options
        .iter()
        .find(|option| PROPAGATION.contains(&option.as_str()));
    found.map_or("rprivate", String::as_str)
}

/// Whether a path of this machine is there; Docker makes directories that are missing.
pub fn make_source(path: &Path) -> Result<(), Refusal> {
    if path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(path).map_err(|error| {
        Refusal::bad(format!(
            "error while creating mount source path '{}': {error}",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests;
