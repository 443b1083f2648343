//! `docker save`: one tar that Docker, podman and skopeo read, as docker-archive or as OCI layout.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

use serde_json::json;
use tokio::io::AsyncWrite;
use tokio_util::io::SyncIoBridge;

use super::import::in_background;
use super::layer::{TAR, media_type};
use super::manifest::{CONFIG, Descriptor, INDEX, MANIFEST, Manifest};
use crate::error::Error;
use crate::model::Image;
use crate::reference::is_digest;
use crate::store::Store;
use crate::store::durable::{Hashing, digest_of};
use crate::unpack::canonical;

pub(crate) async fn save(
    store: &Arc<Store>,
    references: &[String],
    out: impl AsyncWrite + Send + Unpin + 'static,
) -> Result<(), Error> {
    let store = store.clone();
    let mut images = Vec::new();
    for reference in references {
        let image = store.resolve(reference)?;
        // A name saves that name, an id all names.
        let by_id = is_digest(reference)
            || image
                .id
                .trim_start_matches("sha256:")
                .starts_with(reference.as_str());
        let tag = crate::reference::Reference::parse(reference)
            .ok()
            .and_then(|r| r.familiar_tag());
        let tags = match tag.filter(|t| !by_id && image.tags.contains(t)) {
            Some(tag) => vec![tag],
            None => image.tags.clone(),
        };
        images.push((image, tags));
    }
    let bridge = SyncIoBridge::new(out);
    in_background(move || {
        let _busy = store.busy();
        let mut saver = Saver {
            store: &store,
            tar: tar::Builder::new(bridge),
            written: HashSet::new(),
        };
        saver.all(&images)?;
        let mut bridge = saver.tar.into_inner().map_err(broken())?;
        bridge
            .flush()
            .and_then(|()| bridge.shutdown())
            .map_err(broken())
    })
    .await
}

struct Saver<'a, W: Write> {
    store: &'a Store,
    tar: tar::Builder<W>,
    written: HashSet<String>,
}

impl<W: Write> Saver<'_, W> {
    fn all(&mut self, images: &[(Image, Vec<String>)]) -> Result<(), Error> {
        let mut docker = Vec::new();
        let mut index = Vec::new();
        for (image, tags) in images {
            let config_bytes = self.store.blobs.read(&image.id)?;
            let config = self.blob(CONFIG, &config_bytes)?;
            let mut layers = Vec::new();
            for diff_id in image.layers() {
                layers.push(self.layer(diff_id)?);
            }
            docker.push(json!({
                "Config": path(&config.digest),
                "RepoTags": tags,
                "Layers": layers.iter().map(|l| path(&l.digest)).collect::<Vec<_>>(),
            }));
            let manifest = Manifest {
                schema_version: 2,
                media_type: MANIFEST.into(),
                config: Some(config),
                layers: Some(layers),
                manifests: None,
            };
            let bytes = to_json(&manifest)?;
            let descriptor = self.blob(MANIFEST, &bytes)?;
            if tags.is_empty() {
                index.push(descriptor.clone());
            }
            for tag in tags {
                let full = crate::reference::Reference::parse(tag)?;
                let name = format!(
                    "{}/{}:{}",
                    full.registry,
                    full.repository,
                    full.tag.as_deref().unwrap_or("latest")
                );
                let annotations = BTreeMap::from([
                    ("io.containerd.image.name".to_owned(), name),
                    (
                        "org.opencontainers.image.ref.name".to_owned(),
                        full.tag.clone().unwrap_or_default(),
                    ),
                ]);
                index.push(Descriptor {
                    annotations: Some(annotations),
                    ..descriptor.clone()
                });
            }
        }
        let index = Manifest {
            schema_version: 2,
            media_type: INDEX.into(),
            manifests: Some(index),
            ..Manifest::default()
        };
        self.file("index.json", &to_json(&index)?)?;
        self.file("manifest.json", &to_json(&docker)?)?;
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    fn layer(&mut self, diff_id: &str) -> Result<Descriptor, Error> {
        let (mut file, descriptor) = open_layer(self.store, diff_id)?;
        if self.written.insert(descriptor.digest.clone()) {
            file.seek(SeekFrom::Start(0)).map_err(broken())?;
            let header = header(descriptor.size);
            self.tar
                .append_data(&mut header.clone(), path(&descriptor.digest), file)
                .map_err(broken())?;
        }
        Ok(descriptor)
    }

    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, Error> {
        let digest = digest_of(bytes);
        if self.written.insert(digest.clone()) {
            self.file(&path(&digest), bytes)?;
        }
        Ok(Descriptor {
            media_type: media_type.into(),
            digest,
            size: bytes.len() as u64,
            ..Descriptor::default()
        })
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.tar
            .append_data(&mut header(bytes.len() as u64), name, bytes)
            .map_err(broken())
    }
}

/// The archive of a layer: the one it came in, or the canonical one in a temporary file.
pub(crate) fn open_layer(store: &Store, diff_id: &str) -> Result<(File, Descriptor), Error> {
    let record = store
        .layer(diff_id)
        .ok_or_else(|| Error::NotFound(format!("layer {diff_id}")))?;
    if let Some(blob) = record.blob {
        let media_type = media_type(&store.blobs.open_blob(&blob.digest)?);
        let file = store.blobs.open_blob(&blob.digest)?;
        return Ok((
            file,
            Descriptor {
                media_type,
                digest: blob.digest,
                size: blob.size,
                ..Descriptor::default()
            },
        ));
    }
    let file = tempfile::tempfile_in(store.root.join("tmp")).map_err(broken())?;
    let mut out = Hashing::new(std::io::BufWriter::new(file));
    canonical::write(&store.layers.path(diff_id)?, &mut out)?;
    let (buffer, digest, size) = out.finish();
    let file = buffer.into_inner().map_err(|e| broken()(e.into_error()))?;
    if digest != diff_id {
        return Err(Error::DigestMismatch {
            what: "stored layer".into(),
            expected: diff_id.into(),
            actual: digest,
        });
    }
    Ok((
        file,
        Descriptor {
            media_type: TAR.into(),
            digest,
            size,
            ..Descriptor::default()
        },
    ))
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    header
}

fn path(digest: &str) -> String {
    format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"))
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|e| Error::malformed("manifest", e))
}

fn broken() -> impl FnOnce(std::io::Error) -> Error {
    Error::io("write", "image archive")
}
