//! `docker load`: archives of `docker save` and OCI layouts.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;
use serde::Deserialize;
use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use super::import::{in_background, layer_directory, unpack_compressed};
use super::layer;
use super::manifest::{Descriptor, Manifest};
use crate::error::Error;
use crate::model::{ConfigFile, Image, Platform};
use crate::reference::{Reference, is_digest};
use crate::store::Store;
use crate::store::durable::{Hashing, digest_of};
use crate::unpack::Unpack;
use crate::unpack::confine::{Links, Root, clean, explain};

/// Metadata files in an archive are read whole up to this size.
const METADATA_BYTES_MAX: u64 = 16 << 20;

pub(crate) async fn load(
    store: &Arc<Store>,
    archive: impl AsyncRead + Send + Unpin + 'static,
) -> Result<Vec<Image>, Error> {
    let store = store.clone();
    let bridge = SyncIoBridge::new(archive);
    in_background(move || {
        let _busy = store.busy();
        let directory = store.temporary()?;
        let path = layer_directory(&directory)?;
        // Unpacking the outer archive confines its names once for all.
        let unpack = Unpack {
            whiteouts: false,
            owner: Some((0, 0)),
            ..Unpack::layer(&path, store.options.limits)
        };
        unpack_compressed(bridge, &unpack)?;
        let archive = Archive {
            store: &store,
            root: Root::open(&path, Links::Beneath)?,
        };
        if archive.open("manifest.json").is_ok() {
            archive.docker()
        } else {
            archive.layout()
        }
    })
    .await
}

struct Archive<'a> {
    store: &'a Store,
    root: Root,
}

/// An element of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

impl Archive<'_> {
    fn open(&self, name: &str) -> Result<File, Error> {
        let refuse = |reason: String| Error::Entry {
            entry: name.to_owned(),
            reason,
        };
        let path = clean(name.as_bytes()).map_err(|e| refuse(e.into()))?;
        let fd = self
            .root
            .open_at(&path, OFlags::RDONLY | OFlags::NONBLOCK)
            .map_err(|e| refuse(explain(e)))?;
        let file = File::from(fd);
        if !file.metadata().is_ok_and(|m| m.is_file()) {
            return Err(refuse("not a regular file".into()));
        }
        Ok(file)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.open(name)?
            .take(METADATA_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", name))?;
        Ok(bytes)
    }

    fn docker(&self) -> Result<Vec<Image>, Error> {
        let bytes = self.read("manifest.json")?;
        let saved: Vec<Saved> =
            serde_json::from_slice(&bytes).map_err(|e| Error::malformed("manifest.json", e))?;
        let mut images = Vec::new();
        for saved in saved {
            let config = self.read(&saved.config)?;
            let layers: Vec<(String, Option<&Descriptor>)> =
                saved.layers.into_iter().map(|l| (l, None)).collect();
            images.push(self.image(&config, &layers, &saved.repo_tags.unwrap_or_default())?);
        }
        Ok(images)
    }

    fn layout(&self) -> Result<Vec<Image>, Error> {
        let index = self.read("index.json").map_err(|_| {
            Error::malformed("archive", "it has neither manifest.json nor index.json: not an image archive (import takes root filesystems)")
        })?;
        let index = Manifest::parse(&index, "index.json")?;
        let mut images = Vec::new();
        for descriptor in index.manifests.as_deref().unwrap_or_default() {
            let annotations = descriptor.annotations.clone().unwrap_or_default();
            let names = [
                "io.containerd.image.name",
                "org.opencontainers.image.ref.name",
            ];
            let name = names
                .iter()
                .find_map(|n| annotations.get(*n))
                .filter(|n| n.contains([':', '/']));
            let mut manifest = Manifest::parse(&self.blob(descriptor)?, "manifest")?;
            if manifest.manifests.is_some() {
                let Some(selected) = manifest.select(&Platform::host()) else {
                    continue;
                };
                manifest = Manifest::parse(&self.blob(selected)?, "manifest")?;
            }
            let (config, layers) = manifest.image("manifest")?;
            let config = self.blob(config)?;
            let layers = layers
                .iter()
                .map(|l| Ok((blob_path(l)?, Some(l))))
                .collect::<Result<Vec<_>, Error>>()?;
            images.push(self.image(
                &config,
                &layers,
                &name.cloned().into_iter().collect::<Vec<_>>(),
            )?);
        }
        Ok(images)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let bytes = self.read(&blob_path(descriptor)?)?;
        let actual = digest_of(&bytes);
        if actual != descriptor.digest {
            return Err(Error::DigestMismatch {
                what: "archived blob".into(),
                expected: descriptor.digest.clone(),
                actual,
            });
        }
        Ok(bytes)
    }

    fn image(
        &self,
        config: &[u8],
        layers: &[(String, Option<&Descriptor>)],
        names: &[String],
    ) -> Result<Image, Error> {
        let file: ConfigFile = serde_json::from_slice(config)
            .map_err(|e| Error::malformed("image configuration", e))?;
        if file.rootfs.diff_ids.len() != layers.len() {
            let counts = format!(
                "{} layers, but {} diff ids",
                layers.len(),
                file.rootfs.diff_ids.len()
            );
            return Err(Error::malformed("image configuration", counts));
        }
        for ((path, descriptor), diff_id) in layers.iter().zip(&file.rootfs.diff_ids) {
            if self.store.has_layer(diff_id) {
                continue;
            }
            let archive = self.open(path)?;
            if let Some(descriptor) = descriptor {
                verify(&archive, descriptor)?;
            }
            layer::install(self.store, &self.open(path)?, diff_id, None, |_| {})?;
        }
        let tags = names
            .iter()
            .filter_map(|n| Reference::parse(n).ok()?.familiar_tag())
            .collect::<Vec<_>>();
        self.store.add_image(&file, Some(config), &tags, None, true)
    }
}

fn verify(file: &File, descriptor: &Descriptor) -> Result<(), Error> {
    let mut hash = Hashing::new(file);
    std::io::copy(&mut hash, &mut std::io::sink())
        .map_err(Error::io("read", "an archived layer"))?;
    let (_, actual, _) = hash.finish();
    if actual != descriptor.digest {
        return Err(Error::DigestMismatch {
            what: "archived layer".into(),
            expected: descriptor.digest.clone(),
            actual,
        });
    }
    Ok(())
}

fn blob_path(descriptor: &Descriptor) -> Result<String, Error> {
    if !is_digest(&descriptor.digest) {
        return Err(Error::malformed(
            format!("digest {:?}", descriptor.digest),
            "only sha256 is supported",
        ));
    }
    let path = Path::new("blobs/sha256").join(&descriptor.digest["sha256:".len()..]);
    Ok(path.to_string_lossy().into_owned())
}
