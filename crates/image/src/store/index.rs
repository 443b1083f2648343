//! The one file that says which images, names and layers there are.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store::durable;

const FORMAT: u32 = 1;

/// Content of `index.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    pub format: u32,
    /// Image ids.
    pub images: BTreeMap<String, ImageRecord>,
    /// Short `name:tag` → image.
    pub tags: BTreeMap<String, TagRecord>,
    /// Short `name@digest` → image id.
    pub digests: BTreeMap<String, String>,
    /// By diff id.
    pub layers: BTreeMap<String, LayerRecord>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TagRecord {
    pub id: String,
    pub local: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Bytes of files, unpacked.
    pub size: u64,
    /// The archive it was unpacked from, when the canonical archive of the directory would not have the same digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobRecord>,
    /// Directories that it has files in without naming them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub implied: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BlobRecord {
    pub digest: String,
    pub media_type: String,
    pub size: u64,
}

impl Index {
    /// Reads the file; none yet is an empty index.
    pub fn read(path: &Path) -> Result<Index, Error> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Ok(Index {
                    format: FORMAT,
                    ..Index::default()
                });
            }
            Err(e) => return Err(Error::io("read", path)(e)),
        };
        #[derive(Deserialize)]
        struct Stamp {
            format: u32,
        }
        let what = || path.display().to_string();
        let stamp: Stamp =
            serde_json::from_slice(&bytes).map_err(|e| Error::malformed(what(), e))?;
        if stamp.format > FORMAT {
            return Err(Error::NewerFormat {
                path: path.into(),
                found: stamp.format,
                known: FORMAT,
            });
        }
        serde_json::from_slice(&bytes).map_err(|e| Error::malformed(what(), e))
    }

    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::malformed(path.display().to_string(), e))?;
        durable::write_atomic(path, &bytes)
    }
}
