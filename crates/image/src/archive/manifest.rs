//! Image manifests and indexes as OCI and Docker write them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::model::Platform;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A manifest (with `config` and `layers`) or an index (with `manifests`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<Descriptor>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<Descriptor>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DescriptorPlatform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Manifest {
    pub fn parse(bytes: &[u8], what: &str) -> Result<Manifest, Error> {
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|e| Error::malformed(what, e))?;
        if manifest.schema_version != 2 {
            return Err(Error::malformed(
                what,
                format!(
                    "schema version {} is not supported",
                    manifest.schema_version
                ),
            ));
        }
        Ok(manifest)
    }

    /// Entry of an index that runs on a platform: the first of the nearest variant, or else of the architecture of half the width
    /// (as containerd's platforms). One entry that names no platform is for all of them.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let manifests = self.manifests.as_deref().unwrap_or_default();
        let of = |architecture: &str, variant: u32| {
            manifests.iter().find(|d| {
                d.platform.as_ref().is_some_and(|p| {
                    p.os == platform.os
                        && p.architecture == architecture
                        && level(&p.architecture, p.variant.as_deref()) == Some(variant)
                })
            })
        };
        let narrower = || match platform.architecture.as_str() {
            "amd64" => of("386", 1),
            "arm64" => (0..=8).rev().find_map(|variant| of("arm", variant)),
            _ => None,
        };
        let same_name = || {
            manifests.iter().find(|d| {
                d.platform.as_ref().is_some_and(|p| {
                    (&p.os, &p.architecture, &p.variant)
                        == (&platform.os, &platform.architecture, &platform.variant)
                })
            })
        };
        let unnamed = || {
            manifests
                .first()
                .filter(|d| manifests.len() == 1 && d.platform.is_none())
        };
        match level(&platform.architecture, platform.variant.as_deref()) {
            // A machine runs what was made for its predecessors, never the reverse.
            Some(wanted) => (0..=wanted)
                .rev()
                .find_map(|variant| of(&platform.architecture, variant)),
            None => same_name(),
        }
        .or_else(narrower)
        .or_else(unnamed)
    }

    /// Configuration and layers of an image manifest.
    pub fn image(&self, what: &str) -> Result<(&Descriptor, &[Descriptor]), Error> {
        match (&self.config, &self.layers) {
            (Some(config), Some(layers)) => Ok((config, layers)),
            _ => Err(Error::malformed(
                what,
                "it has no config or no layers: not an image",
            )),
        }
    }
}

/// Place of a variant among its architecture's, each of which runs what was made for those before it; none means the
/// common one. `None` for a variant that is no number.
fn level(architecture: &str, variant: Option<&str>) -> Option<u32> {
    let common = match architecture {
        "arm" => 7,
        "arm64" => 8,
        _ => 1,
    };
    match variant {
        None | Some("") => Some(common),
        Some(text) => text.strip_prefix('v')?.parse().ok().filter(|n| *n < 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_run_what_was_made_for_their_predecessors() {
        let index = |platforms: &[&str]| Manifest {
            manifests: Some(
                platforms
                    .iter()
                    .map(|text| {
                        let mut parts = text.split('/').map(str::to_owned);
                        Descriptor {
                            digest: (*text).to_owned(),
                            platform: Some(DescriptorPlatform {
                                os: parts.next().unwrap(),
                                architecture: parts.next().unwrap(),
                                variant: parts.next(),
                            }),
                            ..Descriptor::default()
                        }
                    })
                    .collect(),
            ),
            ..Manifest::default()
        };
        let arm = [
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/arm/v6",
            "unknown/unknown",
        ];
        for (entries, wanted, expected) in [
            (&arm[..], "linux/arm/v7", Some("linux/arm/v7")),
            (&arm[..], "linux/arm", Some("linux/arm/v7")),
            (&arm[..], "linux/arm/v6", Some("linux/arm/v6")),
            (&arm[..1], "linux/arm/v7", Some("linux/arm/v5")),
            (&arm[1..2], "linux/arm/v6", None),
            (&arm[..], "linux/arm64", Some("linux/arm/v7")),
            (
                &["linux/arm/v7", "linux/arm64"],
                "linux/arm64",
                Some("linux/arm64"),
            ),
            (&["linux/386"], "linux/amd64", Some("linux/386")),
            (
                &["linux/386", "linux/amd64"],
                "linux/amd64",
                Some("linux/amd64"),
            ),
            (&["linux/amd64"], "linux/386", None),
            (&["windows/386"], "linux/amd64", None),
            (&["linux/arm64/v8"], "linux/arm64", Some("linux/arm64/v8")),
            (&["linux/arm64"], "linux/arm64/v8", Some("linux/arm64")),
            (&["linux/amd64/v3"], "linux/amd64", None),
            (
                &["linux/amd64/v3", "linux/amd64"],
                "linux/amd64",
                Some("linux/amd64"),
            ),
            (
                &["linux/amd64/v3", "linux/amd64"],
                "linux/amd64/v4",
                Some("linux/amd64/v3"),
            ),
            (&["windows/amd64"], "linux/amd64", None),
            (
                &["linux/mips/softfloat"],
                "linux/mips/softfloat",
                Some("linux/mips/softfloat"),
            ),
            (&["linux/mips/softfloat"], "linux/mips/hardfloat", None),
            (&["unknown/unknown"], "linux/amd64", None),
            (&[], "linux/amd64", None),
        ] {
            let index = index(entries);
            let platform = Platform::parse(wanted).unwrap();
            let found = index.select(&platform).map(|d| d.digest.as_str());
            assert_eq!(found, expected, "{wanted} of {entries:?}");
        }
    }
}
