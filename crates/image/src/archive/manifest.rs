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

    /// Entry of an index for a platform: with the same variant, or else the first of the architecture.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let manifests = self.manifests.as_deref().unwrap_or_default();
        let fits = |d: &&Descriptor| {
            d.platform
                .as_ref()
                .is_some_and(|p| p.os == platform.os && p.architecture == platform.architecture)
        };
        let exact = |d: &&Descriptor| {
            fits(d)
                && d.platform
                    .as_ref()
                    .is_some_and(|p| platform.variant.is_none() || p.variant == platform.variant)
        };
        let unnamed = || {
            manifests
                .first()
                .filter(|d| manifests.len() == 1 && d.platform.is_none())
        };
        manifests
            .iter()
            .find(exact)
            .or_else(|| manifests.iter().find(fits))
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
