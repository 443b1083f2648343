//! What an image is: its identity, its configuration file and small types that go with it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// An image stored here. A copy: later changes of tags do not show in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Digest of the configuration file, `sha256:…`.
    pub id: String,
    /// `repository:tag` names, short form (`busybox:latest`, not `docker.io/library/busybox:latest`).
    pub tags: Vec<String>,
    /// `repository@sha256:…` names known from registries.
    pub digests: Vec<String>,
    /// What to run and how.
    pub config: ImageConfig,
    /// Whole configuration file, with history and layer list.
    pub file: ConfigFile,
    /// Processor architecture in Go's words.
    pub architecture: String,
    /// Operating system in Go's words.
    pub os: String,
    /// When it was made; the epoch if unknown.
    pub created: jiff::Timestamp,
    /// Bytes of all its unpacked layers.
    pub size_bytes: u64,
    /// Whether the tag it was resolved by (or, by id, any tag) was last set on this machine: build, load, tag, commit,
    /// import. Such a tag satisfies `imagePullPolicy: Always`.
    pub local: bool,
}

impl Image {
    /// Digests of the uncompressed layers, lowest first.
    pub fn layers(&self) -> &[String] {
        &self.file.rootfs.diff_ids
    }
}

/// The image configuration file as OCI and Docker write it; unknown fields are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// Processor architecture.
    #[serde(default, deserialize_with = "null_default")]
    pub architecture: String,
    /// Author, from MAINTAINER or commit.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_default"
    )]
    pub author: String,
    /// Run configuration.
    #[serde(default, deserialize_with = "null_default")]
    pub config: ImageConfig,
    /// RFC 3339 time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// How each layer came to be.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_default"
    )]
    pub history: Vec<History>,
    /// Operating system.
    #[serde(default, deserialize_with = "null_default")]
    pub os: String,
    /// Layer list.
    #[serde(default)]
    pub rootfs: RootFs,
    /// Processor variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Layer list of a configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<String>,
}

impl Default for RootFs {
    fn default() -> Self {
        RootFs {
            kind: "layers".into(),
            diff_ids: Vec::new(),
        }
    }
}

/// One line of `docker history`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339 time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What made it.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_default"
    )]
    pub created_by: String,
    /// Author.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_default"
    )]
    pub author: String,
    /// Free text.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_default"
    )]
    pub comment: String,
    /// Whether it added no layer.
    #[serde(
        default,
        skip_serializing_if = "is_false",
        deserialize_with = "null_default"
    )]
    pub empty_layer: bool,
}

/// The `config` object: what a container of this image runs by default. Unknown fields are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `uid`, `name`, with optional `:group`.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_default"
    )]
    pub user: String,
    /// `80/tcp` and the like.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "go_set")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_default"
    )]
    pub env: Vec<String>,
    /// Words before the arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Health probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Paths that get a volume of their own.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "go_set")]
    pub volumes: BTreeSet<String>,
    /// Absolute path.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_default"
    )]
    pub working_dir: String,
    /// Labels.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_default"
    )]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks it to end, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Shell of the shell form, if not `/bin/sh -c`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Instructions for images built from this one.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_default"
    )]
    pub on_build: Vec<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A health probe; times in nanoseconds, 0 = default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    #[serde(deserialize_with = "null_default")]
    pub test: Vec<String>,
    /// Between probes.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// For one probe.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Before failures count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between probes during the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// A platform such as `linux/arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// In Go's words.
    pub os: String,
    /// In Go's words.
    pub architecture: String,
    /// `v7` and the like.
    pub variant: Option<String>,
}

impl Platform {
    /// The platform of this program.
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        }
    }

    /// Reads `os/arch[/variant]`, `arch` or `os`, with the usual synonyms; `None` when it is no platform.
    pub fn parse(text: &str) -> Option<Platform> {
        let words: Vec<&str> = text.split('/').collect();
        if words.iter().any(|w| {
            w.is_empty()
                || !w
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        }) {
            return None;
        }
        let arch = |word: &str| match word.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            "i386" => "386".to_owned(),
            "armhf" | "armel" => "arm".to_owned(),
            other => other.to_owned(),
        };
        let mut platform = match words.as_slice() {
            ["linux" | "local"] => Platform::host(),
            [a] => Platform {
                architecture: arch(a),
                ..Platform::host()
            },
            [os, a] => Platform {
                os: os.to_ascii_lowercase(),
                architecture: arch(a),
                variant: None,
            },
            [os, a, v] => Platform {
                os: os.to_ascii_lowercase(),
                architecture: arch(a),
                variant: Some((*v).to_owned()),
            },
            _ => return None,
        };
        if platform.architecture == "arm64" && platform.variant.as_deref() == Some("v8") {
            platform.variant = None;
        }
        Some(platform)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// User name and password (or personal token).
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
    /// A token that the registry takes as it is.
    Bearer(String),
    /// A token for which the registry's token server gives others: Docker's identity token.
    Refresh(String),
}

impl std::fmt::Debug for Auth {
    // Secrets must not get into logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Auth::Basic { username, .. } => write!(f, "Auth::Basic({username}, ***)"),
            Auth::Bearer(_) => f.write_str("Auth::Bearer(***)"),
            Auth::Refresh(_) => f.write_str("Auth::Refresh(***)"),
        }
    }
}

/// What a removal did, in the words of `docker rmi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// This name is gone.
    Untagged(String),
    /// This image or layer is gone (`sha256:…`).
    Deleted(String),
}

/// What making room gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Bytes of layers and blobs that are gone.
    pub bytes: u64,
    /// Ids of images that are gone, and the names that each had.
    pub images: Vec<(String, Vec<String>)>,
    /// A pull, a build or a backup was at work, so that nothing (more) could be deleted.
    pub busy: bool,
}

/// Disk usage in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Unpacked layers that some image uses.
    pub layers_bytes: u64,
    /// Compressed blobs, manifests and configurations.
    pub blobs_bytes: u64,
    /// Writable parts of snapshots.
    pub snapshots_bytes: u64,
    /// Layers that only the build cache holds.
    pub build_cache_bytes: u64,
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// Go writes `null` for empty lists and maps.
fn null_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Go's sets: an object whose values are empty objects.
mod go_set {
    use super::*;
    use serde::ser::SerializeMap;

    pub fn serialize<S: Serializer>(set: &BTreeSet<String>, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(set.len()))?;
        for key in set {
            map.serialize_entry(key, &serde_json::Map::new())?;
        }
        map.end()
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, Value>>::deserialize(d)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}
