//! Snapshots: `snapshots/ID/{upper,work,merged}` and what they were made from. A crash leaves a directory that can be
//! mounted again or removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store::layers::{self, Layers};
use crate::store::{durable, mounts};

/// A snapshot as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name.
    pub id: String,
    /// Image it was made from, `sha256:…`.
    pub image: String,
    /// Where it is mounted, if it is.
    pub mounted: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub image: String,
    pub layers: Vec<String>,
}

pub(crate) struct Snapshots {
    directory: PathBuf,
    trash: PathBuf,
    records: Mutex<BTreeMap<String, Record>>,
}

impl Snapshots {
    /// Reads what is there; what has no valid record is unmounted and removed.
    pub fn open(root: &Path, trash: &Path) -> Result<Snapshots, Error> {
        let directory = root.join("snapshots");
        fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
        let mut records = BTreeMap::new();
        for entry in fs::read_dir(&directory).map_err(Error::io("read", &directory))? {
            let entry = entry.map_err(Error::io("read", &directory))?;
            let id = entry.file_name().to_string_lossy().into_owned();
            let record = fs::read(entry.path().join("snapshot.json")).ok();
            match record.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok()) {
                Some(record) if !id.starts_with(TEMPORARY) => {
                    records.insert(id, record);
                }
                _ => {
                    mounts::unmount(&entry.path().join("merged"))?;
                    mounts::unmount(&entry.path().join(mounts::MAPPED))?;
                    durable::delete_tree(&entry.path())?;
                }
            }
        }
        Ok(Snapshots {
            directory,
            trash: trash.into(),
            records: Mutex::new(records),
        })
    }

    pub fn path(&self, id: &str) -> PathBuf {
        self.directory.join(id)
    }

    /// Mounts, creating when new; `start` then fills the writable part. `volatile` skips the kernel's syncs: for snapshots that never outlive this process.
    pub fn prepare(
        &self,
        id: &str,
        record: Record,
        layers: &Layers,
        volatile: bool,
        owners: Option<&mounts::Owners>,
        start: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        check_name(id)?;
        let stack = layers.stack(&record.layers)?;
        let path = self.path(id);
        let mut records = self.records.lock();
        match records.get(id) {
            Some(known) if known.layers != record.layers => {
                return Err(Error::SnapshotExists {
                    id: id.into(),
                    image: known.image.clone(),
                });
            }
            Some(_) => {}
            None => {
                for part in ["upper", "work", "merged"] {
                    let dir = path.join(part);
                    fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
                }
                start(&path.join("upper"))?;
                let json = serde_json::to_vec(&record)
                    .map_err(|e| Error::malformed("snapshot record", e))?;
                let file = path.join("snapshot.json");
                // Not synced: what a power cut takes is a root that nothing durable was written to yet, and asking for
                // the snapshot again makes it anew.
                let new = path.join("snapshot.json.new");
                fs::write(&new, &json)
                    .and_then(|()| fs::rename(&new, &file))
                    .map_err(Error::io("write", &file))?;
                records.insert(id.to_owned(), record);
            }
        }
        let merged = path.join("merged");
        if mounts::is_mounted(&merged)? {
            if fs::read_dir(&merged).is_ok() {
                return Ok(merged);
            }
            mounts::unmount(&merged)?;
        }
        mounts::mount_overlay(layers.links(), &stack, &path, volatile, owners)
    }

    pub fn unmount(&self, id: &str) -> Result<(), Error> {
        let records = self.records.lock();
        if !records.contains_key(id) {
            return Err(Error::NoSnapshot(id.into()));
        }
        mounts::unmount(&self.path(id).join("merged"))
    }

    pub fn remove(&self, id: &str) -> Result<(), Error> {
        check_name(id)?;
        let path = self.path(id);
        let mut records = self.records.lock();
        mounts::unmount(&path.join("merged"))?;
        mounts::unmount(&path.join(mounts::MAPPED))?;
        // Without its record it is garbage, whatever happens next.
        durable::delete_tree(&path.join("snapshot.json"))?;
        records.remove(id);
        drop(records);
        layers::discard(&path, &self.trash)
    }

    pub fn record(&self, id: &str) -> Result<Record, Error> {
        self.records
            .lock()
            .get(id)
            .cloned()
            .ok_or_else(|| Error::NoSnapshot(id.into()))
    }

    pub fn records(&self) -> BTreeMap<String, Record> {
        self.records.lock().clone()
    }

    pub fn list(&self) -> Vec<SnapshotInfo> {
        let mounted = mounts::mount_points().unwrap_or_default();
        self.records()
            .into_iter()
            .map(|(id, record)| {
                let merged = self.path(&id).join("merged");
                SnapshotInfo {
                    id,
                    image: record.image,
                    mounted: mounted.contains(&merged).then_some(merged),
                }
            })
            .collect()
    }

    /// Unmounts everything beneath the directory, known or not.
    pub fn unmount_all(&self) -> Result<(), Error> {
        let _records = self.records.lock();
        let mut result = Ok(());
        for point in mounts::mount_points()? {
            if point.starts_with(&self.directory) {
                result = result.and(mounts::unmount(&point));
            }
        }
        result
    }
}

/// Names of snapshots that do not outlive the process begin so.
pub(crate) const TEMPORARY: &str = "tmp-";

fn check_name(id: &str) -> Result<(), Error> {
    let plain = id
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if !plain || id.is_empty() || id.len() > 200 || id.starts_with('.') {
        return Err(Error::InvalidSnapshot(id.chars().take(250).collect()));
    }
    Ok(())
}
