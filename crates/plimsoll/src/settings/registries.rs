//! What is set about registries.

use std::ffi::OsString;

use image::{Host, Mirror};
use serde::{Deserialize, Deserializer};

/// The key `registries` of the file; as flags and variables they stand beside the others.
#[derive(clap::Args, Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Registries {
    /// Registry that is spoken to without a certificate that somebody vouches for, or by HTTP where it has no TLS: Docker's
    /// `insecure-registries` (those of this machine need not be named)
    #[arg(
        long = "insecure-registry",
        env = "PLIMSOLL_INSECURE_REGISTRIES",
        value_name = "HOST[:PORT]",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "texts")]
    pub insecure: Vec<Host>,
    /// Mirror that is asked for Docker Hub's images before Docker Hub: Docker's `registry-mirrors`
    #[arg(
        long = "registry-mirror",
        env = "PLIMSOLL_REGISTRY_MIRRORS",
        value_name = "https://HOST[:PORT]",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "texts")]
    pub mirrors: Vec<Mirror>,
}

impl Registries {
    /// These, and where they say nothing, `below`.
    pub fn over(self, below: Self) -> Self {
        Self {
            insecure: or(self.insecure, below.insecure),
            mirrors: or(self.mirrors, below.mirrors),
        }
    }

    /// The flags that say the same, for a process that this one starts.
    pub fn flags(&self) -> Vec<OsString> {
        let insecure = self
            .insecure
            .iter()
            .map(|host| ("insecure-registry", host.to_string()));
        let mirrors = self
            .mirrors
            .iter()
            .map(|mirror| ("registry-mirror", mirror.to_string()));
        insecure
            .chain(mirrors)
            .map(|(name, value)| format!("--{name}={value}").into())
            .collect()
    }

    /// What the image store is given.
    pub fn resolve(&self) -> image::Registries {
        image::Registries {
            insecure: self.insecure.clone(),
            mirrors: self.mirrors.clone(),
        }
    }
}

fn or<T>(above: Vec<T>, below: Vec<T>) -> Vec<T> {
    if above.is_empty() { below } else { above }
}

fn texts<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err = String>,
{
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed = texts.iter().map(|text| text.parse());
    parsed
        .collect::<Result<_, _>>()
        .map_err(serde::de::Error::custom)
}
