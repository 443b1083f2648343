//! The public face of the store: one cheap handle for everything that can be done with images.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::runner::Runner;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::build::{BuildError, BuildEvent, BuildRequest};
use crate::error::Error;
use crate::model::{Auth, ConfigFile, Freed, Image, ImageConfig, Platform, Removed, Usage};
use crate::progress::ProgressSender;
use crate::registries::Registries;
use crate::store::Store;
use crate::store::mounts::Owners;
use crate::store::snapshots::SnapshotInfo;
use crate::unpack::Limits;

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bounds on what one layer may unpack to.
    pub limits: Limits,
    /// Layers downloaded at the same time per pull.
    pub parallel_layers: usize,
    /// Build cache records kept; the longest unused go first.
    pub cache_entries: usize,
    /// What is said about registries.
    pub registries: Registries,
    /// Directory with a directory per registry (host or host:port) whose `*.crt` files are certificate authorities to be
    /// trusted there besides the system's, as Docker has them.
    pub certificates: PathBuf,
    /// How long a registry may stay silent. A manifest or a token may take twice that in all.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            limits: Limits::default(),
            parallel_layers: 3,
            cache_entries: 2000,
            registries: Registries::default(),
            certificates: PathBuf::from("/etc/docker/certs.d"),
            timeout: Duration::from_secs(60),
        }
    }
}

/// Handle on an image directory; clones share it. Methods that are not `async` block on disk.
#[derive(Clone)]
pub struct Images {
    pub(crate) store: Arc<Store>,
}

impl Images {
    /// Opens or creates the directory, removes what a crash left half done, and holds a lock on it until dropped.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it and still does two seconds later, [`Error::NewerFormat`],
    /// [`Error::Malformed`] for a damaged index.
    pub fn open(root: impl Into<PathBuf>, options: Options) -> Result<Images, Error> {
        Ok(Images {
            store: Arc::new(Store::open(root.into(), options)?),
        })
    }

    /// The image behind `name[:tag][@digest]`, an id or the beginning of an id (with or without `sha256:`).
    pub fn resolve(&self, reference: &str) -> Option<Image> {
        self.store.resolve(reference).ok()
    }

    /// As [`Images::resolve`], telling why not.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], [`Error::InvalidReference`].
    pub fn get(&self, reference: &str) -> Result<Image, Error> {
        self.store.resolve(reference)
    }

    /// All images, newest first.
    pub fn list(&self) -> Vec<Image> {
        self.store.list()
    }

    /// Bytes of the image's layers, the lowest first.
    pub fn layer_sizes(&self, image: &Image) -> Vec<u64> {
        let layers = image.layers().iter();
        layers
            .map(|layer| self.store.layer(layer).map_or(0, |record| record.size))
            .collect()
    }

    /// Gives the image another name; a name that another image had moves.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the source, [`Error::InvalidReference`] for the target (a digest cannot be set).
    pub fn tag(&self, source: &str, target: &str) -> Result<(), Error> {
        self.store.tag(source, target)
    }

    /// Removes a name; with its last name, or by id, the image and what only it used.
    ///
    /// # Errors
    /// [`Error::NotFound`]; without `force` [`Error::InUse`] when an id has several names or a snapshot uses the image.
    pub fn remove(&self, reference: &str, force: bool) -> Result<Vec<Removed>, Error> {
        self.store.remove(reference, force)
    }

    /// Removes images without a name (`docker image prune`), or all that no snapshot uses; of them those that are `wanted`.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn prune(&self, all: bool, wanted: impl Fn(&Image) -> bool) -> Result<Vec<Removed>, Error> {
        self.store.prune(all, wanted)
    }

    /// Forgets the build cache and removes what only it held; bytes freed.
    ///
    /// # Errors
    /// When the index cannot be written.
    pub fn prune_build_cache(&self) -> Result<u64, Error> {
        self.store.prune_build_cache()
    }

    /// Removes blobs and layers that nothing refers to; bytes freed. Does nothing while a pull or build runs (they do it
    /// themselves at their end).
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn collect_garbage(&self) -> Result<u64, Error> {
        self.store.collect_garbage()
    }

    /// Deletes what can be made or fetched again, until so many bytes are free or nothing is left that may go: first what nothing
    /// names, images without a name and the build cache, then images that came from a registry, the longest unused first. An image
    /// goes only if no snapshot uses it, if none of its names was set here (build, load, tag, commit, import: nobody could fetch it
    /// again), and if it has been here, and unused, for `age_min`.
    ///
    /// # Errors
    /// When the index cannot be written or a directory cannot be deleted; what was deleted before stays so.
    pub fn free_space(&self, bytes: u64, age_min: Duration) -> Result<Freed, Error> {
        self.store
            .free_space(bytes, age_min, jiff::Timestamp::now())
    }

    /// The image is about to be used: it is not collected in the next moment, and counts as used now.
    pub fn note_use(&self, image: &Image) {
        self.store.uses.note(&image.id, jiff::Timestamp::now());
    }

    /// Writes down when images were used last, if that has changed.
    ///
    /// # Errors
    /// When the file cannot be written; it is tried again the next time.
    pub fn remember_uses(&self) -> Result<(), Error> {
        self.store.uses.write()
    }

    /// Where everything lies.
    pub fn directory(&self) -> &Path {
        &self.store.root
    }

    /// What was said about registries.
    pub fn registries(&self) -> &Registries {
        &self.store.options.registries
    }

    /// While what is returned lives, no blob and no layer is deleted: whoever reads the directory finds all that
    /// the index names. What has become garbage meanwhile is collected afterwards.
    pub fn keep_everything(&self) -> Kept {
        self.store.begin();
        Kept(self.store.clone())
    }

    /// Disk usage now. Walks the writable parts of snapshots.
    pub fn usage(&self) -> Usage {
        self.store.usage()
    }

    /// Fetches an image. Layers that are here, or that another pull is fetching, are not fetched again.
    ///
    /// # Errors
    /// [`Error::RemoteNotFound`], [`Error::Unauthorized`], [`Error::Unreachable`], [`Error::DigestMismatch`],
    /// [`Error::NoPlatform`], and all that unpacking can say.
    pub async fn pull(
        &self,
        reference: &str,
        auth: Option<Auth>,
        platform: Option<Platform>,
        progress: ProgressSender,
    ) -> Result<Image, Error> {
        crate::registry::pull::pull(&self.store, reference, auth, platform, progress).await
    }

    /// Uploads an image under its name; returns the manifest's digest.
    ///
    /// # Errors
    /// As [`Images::pull`].
    pub async fn push(
        &self,
        reference: &str,
        auth: Option<Auth>,
        progress: ProgressSender,
    ) -> Result<String, Error> {
        crate::registry::push::push(&self.store, reference, auth, progress).await
    }

    /// Mounts a writable root filesystem of the image and returns its path. Calling it again for the same snapshot returns
    /// the same mount, and mounts it again after a reboot.
    ///
    /// # Errors
    /// [`Error::SnapshotExists`] when the snapshot belongs to another image, [`Error::TooManyLayers`], I/O.
    pub fn prepare(&self, image: &Image, snapshot_id: &str) -> Result<PathBuf, Error> {
        self.store.prepare(image, snapshot_id, None)
    }

    /// As [`Images::prepare`], for a container in a user namespace: owned by its ids. The same snapshot must always be asked for
    /// with the same owners.
    ///
    /// # Errors
    /// As there; and [`Error::Mapping`] when kernel or file system cannot map the owners of layers.
    pub fn prepare_owned(
        &self,
        image: &Image,
        snapshot_id: &str,
        owners: &Owners,
    ) -> Result<PathBuf, Error> {
        self.store.prepare(image, snapshot_id, Some(owners))
    }

    /// Unmounts a snapshot; its content stays.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or the kernel's refusal.
    pub fn unmount(&self, snapshot_id: &str) -> Result<(), Error> {
        self.store.unmount_snapshot(snapshot_id)
    }

    /// Unmounts a snapshot and deletes its content; no error when there is none.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove_snapshot(&self, snapshot_id: &str) -> Result<(), Error> {
        self.store.remove_snapshot(snapshot_id)
    }

    /// All snapshots, by name.
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        self.store.snapshots()
    }

    /// The directory in which the writable part of a snapshot lies.
    pub fn snapshot_directory(&self, snapshot_id: &str) -> PathBuf {
        self.store.snapshots.path(snapshot_id)
    }

    /// Bytes in the writable part of a snapshot.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`].
    pub fn snapshot_size(&self, snapshot_id: &str) -> Result<u64, Error> {
        self.store.snapshot_size(snapshot_id)
    }

    /// What a snapshot changed: (`'A'` added, `'C'` changed, `'D'` deleted; absolute path), sorted.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], I/O.
    pub fn changes(&self, snapshot_id: &str) -> Result<Vec<(char, String)>, Error> {
        self.store.changes(snapshot_id)
    }

    /// Builds a Dockerfile. Dropping the future abandons the build and removes its snapshots.
    ///
    /// # Errors
    /// [`BuildError`] with line and column, or the exit code of a failed step.
    pub async fn build(
        &self,
        request: BuildRequest,
        runner: &dyn Runner,
        progress: mpsc::Sender<BuildEvent>,
    ) -> Result<Image, BuildError> {
        crate::build::build(self, request, runner, progress).await
    }

    /// Reads a `docker save` archive or an OCI layout in a tar, plain or gzip or zstd.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::DigestMismatch`], and all that unpacking can say.
    pub async fn load(
        &self,
        archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<Vec<Image>, Error> {
        crate::archive::load::load(&self.store, archive).await
    }

    /// Writes images as one tar that is a `docker save` archive and an OCI layout at once.
    ///
    /// # Errors
    /// [`Error::NotFound`], I/O.
    pub async fn save(
        &self,
        references: &[String],
        out: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(), Error> {
        crate::archive::save::save(&self.store, references, out).await
    }

    /// Makes a one-layer image of a root filesystem in a tar (`docker import`).
    ///
    /// # Errors
    /// As [`Images::load`].
    pub async fn import(
        &self,
        archive: impl AsyncRead + Send + Unpin + 'static,
        reference: Option<&str>,
        config: ImageConfig,
    ) -> Result<Image, Error> {
        crate::archive::import::import(&self.store, archive, reference, config).await
    }

    /// Makes a one-layer image of a single static program with its applets (busybox), without a registry.
    ///
    /// # Errors
    /// When the program cannot be read.
    pub async fn base_from_busybox(&self, program: &Path, reference: &str) -> Result<Image, Error> {
        crate::archive::import::busybox(&self.store, program, reference).await
    }

    /// Makes an image of a snapshot's present content (`docker commit`): the base's layers and one more. The snapshot stays
    /// as it is. `edit` sees the base's configuration file and may change it.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], I/O.
    pub async fn commit(
        &self,
        snapshot_id: &str,
        base: &Image,
        reference: Option<&str>,
        edit: impl FnOnce(&mut ConfigFile) + Send,
    ) -> Result<Image, Error> {
        crate::archive::commit::commit(&self.store, snapshot_id, base, reference, edit).await
    }

    /// Unmounts everything of this directory. Content stays: the caller deletes the directory if it wants.
    ///
    /// # Errors
    /// The first refusal, after trying all.
    pub fn purge(&self) -> Result<(), Error> {
        self.store.unmount_all()
    }
}

/// See [`Images::keep_everything`].
pub struct Kept(Arc<Store>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.end();
    }
}
