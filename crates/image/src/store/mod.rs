//! Everything that is kept on disk, and the locks that let several builds, pulls and containers share it.
//!
//! `index.json` names images and layers, `blobs/` holds configurations and compressed layers, `layers/` unpacked ones,
//! `snapshots/` mounted roots, `tmp/` what is not finished (emptied at start), `cache.json` the build
//! cache, `cache-mounts/` what steps keep from build to build.

pub(crate) mod blobs;
pub(crate) mod cache;
pub(crate) mod deletion;
pub(crate) mod durable;
mod garbage;
mod implied;
pub(crate) mod index;
pub(crate) mod keyed;
pub(crate) mod layers;
pub(crate) mod mounts;
pub(crate) mod names;
mod pending;
mod pressure;
mod removal;
pub mod snapshots;
mod uses;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::FlockOperation;

use crate::error::Error;
use crate::images::Options;
use crate::model::{ConfigFile, Image, Usage};
use crate::unpack::canonical;
use blobs::Blobs;
use cache::Cache;
use index::{BlobRecord, ImageRecord, Index, LayerRecord, TagRecord};
use keyed::Keyed;
use layers::{Layers, tree_size};
use snapshots::{Record, SnapshotInfo, Snapshots};
use uses::Uses;

pub(crate) struct Store {
    pub root: PathBuf,
    pub options: Options,
    pub blobs: Blobs,
    pub layers: Layers,
    pub snapshots: Snapshots,
    /// One at a time per blob or layer digest.
    pub fetching: Keyed,
    pub uses: Uses,
    state: Mutex<State>,
    // Released by the kernel when dropped, also when killed.
    _lock: File,
}

struct State {
    index: Index,
    files: HashMap<String, Arc<ConfigFile>>,
    cache: Cache,
    /// Pulls, builds and the like that hold content which no record names yet.
    busy: usize,
    garbage: bool,
    dirty: bool,
}

/// Held by whoever adds content: garbage collection waits until the last one is gone.
pub(crate) struct Busy<'a>(&'a Store);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Store {
    pub fn open(root: PathBuf, options: Options) -> Result<Store, Error> {
        fs::create_dir_all(&root).map_err(Error::io("create", &root))?;
        // Mount points are compared as the kernel writes them: without symbolic links.
        let root = root.canonicalize().map_err(Error::io("resolve", &root))?;
        let lock_path = root.join("lock");
        let lock = File::create(&lock_path).map_err(Error::io("open", &lock_path))?;
        if !take_lock(&lock) {
            return Err(Error::Locked(root));
        }
        let temporary = root.join("tmp");
        // emptied, not made anew: a start must not need space on the disk
        fs::create_dir_all(&temporary).map_err(Error::io("create", &temporary))?;
        for entry in fs::read_dir(&temporary).map_err(Error::io("read", &temporary))? {
            let entry = entry.map_err(Error::io("read", &temporary))?;
            durable::delete_tree(&entry.path())?;
        }
        let blobs = Blobs::open(&root, &temporary)?;
        let layers = Layers::open(&root)?;
        let snapshots = Snapshots::open(&root, &temporary)?;
        let mut index = Index::read(&root.join("index.json"))?;
        let files = read_files(&mut index, &blobs);
        let known = |id: &String| files.contains_key(id);
        index.tags.retain(|_, tag| known(&tag.id));
        index.digests.retain(|_, id| known(id));
        let before = index.layers.len();
        index.layers.retain(|id, _| layers.has(id));
        let dirty = index.layers.len() != before;
        let cache = Cache::read(&root.join("cache.json"), options.cache_entries);
        let state = State {
            index,
            files,
            cache,
            busy: 0,
            garbage: false,
            dirty,
        };
        let uses = Uses::read(&root);
        let store = Store {
            uses,
            root,
            options,
            blobs,
            layers,
            snapshots,
            fetching: Keyed::default(),
            state: Mutex::new(state),
            _lock: lock,
        };
        if let Err(error) = store.collect_garbage() {
            tracing::warn!(%error, "garbage of the image store stays for the time being");
            store.state.lock().garbage = true;
        }
        Ok(store)
    }

    pub fn busy(&self) -> Busy<'_> {
        self.begin();
        Busy(self)
    }

    /// From here to [`Store::end`], which must follow, nothing is collected.
    pub fn begin(&self) {
        self.state.lock().busy += 1;
    }

    /// The last one collects what has become garbage meanwhile.
    pub fn end(&self) {
        let collect = {
            let mut state = self.state.lock();
            state.busy -= 1;
            if state.busy == 0
                && state.dirty
                && let Err(error) = self.write(&mut state)
            {
                tracing::warn!(%error, "image index not written");
            }
            state.busy == 0 && std::mem::take(&mut state.garbage)
        };
        if collect && let Err(error) = self.collect_garbage() {
            tracing::warn!(%error, "image garbage not collected");
        }
    }

    /// A new directory for something unfinished, on the same file system as the layers.
    pub fn temporary(&self) -> Result<tempfile::TempDir, Error> {
        let parent = self.root.join("tmp");
        tempfile::Builder::new()
            .prefix("plimsoll-")
            .tempdir_in(&parent)
            .map_err(Error::io("create a directory in", parent))
    }

    /// Makes durable what the index is going to name; done before the state is locked it keeps nobody waiting.
    fn settle(&self) -> Result<(), Error> {
        self.blobs.pending.settle()?;
        self.layers.pending.settle()
    }

    fn write(&self, state: &mut State) -> Result<(), Error> {
        self.settle()?;
        state.index.write(&self.root.join("index.json"))?;
        state.dirty = false;
        Ok(())
    }

    /// Whether the layer is here, complete.
    pub fn has_layer(&self, diff_id: &str) -> bool {
        self.state.lock().index.layers.contains_key(diff_id) && self.layers.has(diff_id)
    }

    pub fn layer(&self, diff_id: &str) -> Option<LayerRecord> {
        self.state.lock().index.layers.get(diff_id).cloned()
    }

    /// Takes a finished directory over as a layer. The caller is [`Busy`]; an image or the cache will name the layer.
    pub fn install_layer(
        &self,
        directory: &Path,
        diff_id: &str,
        blob: Option<BlobRecord>,
        implied: Vec<String>,
    ) -> Result<(), Error> {
        let size = tree_size(directory);
        self.layers.adopt(directory, diff_id)?;
        let mut state = self.state.lock();
        state.dirty = true;
        let record = state
            .index
            .layers
            .entry(diff_id.to_owned())
            .or_insert(LayerRecord {
                size,
                blob: None,
                implied: Vec::new(),
            });
        if !implied.is_empty() {
            record.implied = implied;
        }
        if blob.is_some() {
            record.blob = blob;
        }
        Ok(())
    }

    /// As [`Store::install_layer`], with the digest of the directory's canonical archive as diff id, which is returned.
    pub fn install_directory(&self, directory: &Path) -> Result<String, Error> {
        let diff_id = canonical::digest(directory)?;
        self.install_layer(directory, &diff_id, None, Vec::new())?;
        Ok(diff_id)
    }

    /// Stores a configuration file as an image; its layers must be installed. Durable when it returns.
    pub fn add_image(
        &self,
        file: &ConfigFile,
        bytes: Option<&[u8]>,
        tags: &[String],
        digest: Option<String>,
        local: bool,
    ) -> Result<Image, Error> {
        let id = match bytes {
            Some(bytes) => self.blobs.put(bytes)?,
            None => {
                let bytes = serde_json::to_vec(file)
                    .map_err(|e| Error::malformed("image configuration", e))?;
                self.blobs.put(&bytes)?
            }
        };
        self.settle()?;
        self.uses.note(&id, jiff::Timestamp::now());
        let mut state = self.state.lock();
        if let Some(missing) = file
            .rootfs
            .diff_ids
            .iter()
            .find(|l| !state.index.layers.contains_key(*l))
        {
            return Err(Error::malformed(
                format!("image {id}"),
                format!("layer {missing} is missing"),
            ));
        }
        state.index.images.insert(id.clone(), ImageRecord {});
        state.files.insert(id.clone(), Arc::new(file.clone()));
        for tag in tags {
            state.index.tags.insert(
                tag.clone(),
                TagRecord {
                    id: id.clone(),
                    local,
                },
            );
        }
        if let Some(digest) = digest {
            state.index.digests.insert(digest, id.clone());
        }
        self.write(&mut state)?;
        state.cache.write(&self.root.join("cache.json"));
        let file = Arc::new(file.clone());
        let local = local || tags.is_empty() && state.is_local(&id);
        Ok(state.image(&id, &file, local))
    }

    /// Mounts a snapshot of an image.
    pub fn prepare(
        &self,
        image: &Image,
        snapshot_id: &str,
        owners: Option<&mounts::Owners>,
    ) -> Result<PathBuf, Error> {
        // Removal of the image meanwhile must wait until the snapshot is recorded.
        let _busy = self.busy();
        self.uses.note(&image.id, jiff::Timestamp::now());
        let record = Record {
            image: image.id.clone(),
            layers: image.layers().to_vec(),
        };
        self.mount_snapshot(snapshot_id, record, false, owners)
    }

    /// Mounts a snapshot of layers.
    pub fn mount_snapshot(
        &self,
        id: &str,
        record: Record,
        volatile: bool,
        owners: Option<&mounts::Owners>,
    ) -> Result<PathBuf, Error> {
        let mut layers = Vec::new();
        for diff_id in &record.layers {
            layers.push(implied::Layer {
                directory: self.layers.path(diff_id)?,
                implied: self
                    .layer(diff_id)
                    .map(|layer| layer.implied.into_iter().collect())
                    .unwrap_or_default(),
            });
        }
        let first_id = owners.map_or(0, |owners| owners.first_id);
        let start = |upper: &Path| implied::restore(upper, &layers, first_id);
        self.snapshots
            .prepare(id, record, &self.layers, volatile, owners, start)
    }

    pub fn unmount_snapshot(&self, id: &str) -> Result<(), Error> {
        self.snapshots.unmount(id)
    }

    pub fn remove_snapshot(&self, id: &str) -> Result<(), Error> {
        let record = self.snapshots.record(id).ok();
        self.snapshots.remove(id)?;
        if let Some(record) = record.as_ref().filter(|record| !record.image.is_empty()) {
            self.uses.note(&record.image, jiff::Timestamp::now());
        }
        // Layers of an image that was removed under a running container go with the container.
        let orphaned = {
            let state = self.state.lock();
            record
                .is_some_and(|r| !r.image.is_empty() && !state.index.images.contains_key(&r.image))
        };
        if orphaned {
            self.collect_garbage()?;
        }
        Ok(())
    }

    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        self.snapshots.list()
    }

    pub fn snapshot_size(&self, id: &str) -> Result<u64, Error> {
        self.snapshots.record(id)?;
        Ok(tree_size(&self.snapshots.path(id).join("upper")))
    }

    pub fn changes(&self, id: &str) -> Result<Vec<(char, String)>, Error> {
        let record = self.snapshots.record(id)?;
        let mut lower = Vec::new();
        for layer in record.layers.iter().rev() {
            lower.push(self.layers.path(layer)?);
        }
        canonical::changes(&self.snapshots.path(id).join("upper"), &lower)
    }

    pub fn unmount_all(&self) -> Result<(), Error> {
        self.snapshots.unmount_all()
    }

    pub fn usage(&self) -> Usage {
        let snapshots_bytes = self
            .snapshots
            .records()
            .keys()
            .map(|id| tree_size(&self.snapshots.path(id).join("upper")))
            .sum();
        let blobs_bytes = self
            .blobs
            .list()
            .map_or(0, |list| list.iter().map(|(_, size)| size).sum());
        let state = self.state.lock();
        let used = state.image_layers();
        let mut usage = Usage {
            snapshots_bytes,
            blobs_bytes,
            build_cache_bytes: tree_size(&self.cache_mounts()),
            ..Usage::default()
        };
        for (id, record) in &state.index.layers {
            if used.contains(id.as_str()) {
                usage.layers_bytes += record.size;
            } else {
                usage.build_cache_bytes += record.size;
            }
        }
        usage
    }

    /// Looks a build step up; a hit moves it to the end of the line for removal.
    pub fn cached(&self, key: &str) -> Option<cache::CacheRecord> {
        let mut state = self.state.lock();
        let record = state.cache.get(key)?;
        let here = record
            .layer
            .as_ref()
            .is_none_or(|l| state.index.layers.contains_key(l));
        here.then_some(record)
    }

    /// Remembers the result of a build step.
    pub fn remember(&self, key: &str, record: cache::CacheRecord) {
        let mut state = self.state.lock();
        state.cache.put(key, record);
        state.dirty = true;
    }

    /// Writes index and cache, for a build that failed half-way: its finished steps need not run again.
    pub fn flush(&self) -> Result<(), Error> {
        self.settle()?;
        let mut state = self.state.lock();
        self.write(&mut state)?;
        state.cache.write(&self.root.join("cache.json"));
        Ok(())
    }
}

/// Takes the lock, soon or not at all: a child that a killed process was about to start holds it until its exec.
fn take_lock(lock: &File) -> bool {
    const ATTEMPTS: u32 = 40;
    const PAUSE: Duration = Duration::from_millis(50);
    (0..ATTEMPTS).any(|n| {
        if n > 0 {
            std::thread::sleep(PAUSE);
        }
        rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok()
    })
}

/// Parses the configurations of all images; an image whose configuration is damaged is dropped, with a warning.
fn read_files(index: &mut Index, blobs: &Blobs) -> HashMap<String, Arc<ConfigFile>> {
    let mut files = HashMap::new();
    index.images.retain(|id, _| {
        let read = blobs.read(id).and_then(|bytes| {
            serde_json::from_slice::<ConfigFile>(&bytes)
                .map_err(|e| Error::malformed(format!("configuration of image {id}"), e))
        });
        match read {
            Ok(file) => {
                files.insert(id.clone(), Arc::new(file));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "image dropped");
                false
            }
        }
    });
    files
}
