//! Pull: manifest, configuration, then layers side by side, each verified twice (as it came, and unpacked).
//!
//! When a pull fails, the layers that it completed stay until the next collection of garbage: another attempt finds them.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use oci_client::RegistryOperation;
use oci_client::errors::OciDistributionError;
use reqwest::header::ACCEPT;

use super::Remote;
use super::answers::{self, MANIFEST_BYTES_MAX};
use super::download::download;
use super::failure::is_unauthorized;
use crate::archive::import::{blocking, in_background};
use crate::archive::layer;
use crate::archive::manifest::{Descriptor, INDEX, MANIFEST, Manifest};
use crate::error::Error;
use crate::model::{Auth, ConfigFile, Image, Platform};
use crate::progress::{ProgressSender, PullEvent, tell, tick};
use crate::reference::{HUB, Reference, is_digest};
use crate::store::Store;
use crate::store::durable::digest_of;
use crate::store::index::BlobRecord;

const ACCEPTED: [&str; 4] = [
    MANIFEST,
    INDEX,
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A configuration larger than this is not one.
const CONFIG_BYTES_MAX: u64 = 8 << 20;

pub(crate) async fn pull(
    store: &Arc<Store>,
    reference: &str,
    auth: Option<Auth>,
    platform: Option<Platform>,
    progress: ProgressSender,
) -> Result<Image, Error> {
    let name = Reference::parse(reference)?;
    if name.registry == HUB {
        for mirror in &store.options.registries.mirrors {
            let pulled = async {
                let remote = Remote::at(store, mirror, &name).await?;
                pull_from(store, &name, &remote, platform.as_ref(), &progress).await
            };
            match pulled.await {
                Ok(image) => return Ok(image),
                Err(error) => {
                    tracing::warn!(%mirror, image = %name, %error, "no help from a mirror")
                }
            }
        }
    }
    let remote = Remote::open(store, name.clone(), auth).await?;
    pull_from(store, &name, &remote, platform.as_ref(), &progress).await
}

/// Pulls what is called so here from that registry.
async fn pull_from(
    store: &Arc<Store>,
    name: &Reference,
    remote: &Remote,
    platform: Option<&Platform>,
    progress: &ProgressSender,
) -> Result<Image, Error> {
    // A refusal is told when something is asked for there: perhaps everybody may have this.
    if let Err(error @ Error::Unreachable { .. }) = remote.login(RegistryOperation::Pull).await {
        return Err(error);
    }
    let (bytes, digest) = manifest(remote, None).await?;
    let tag = name.digest.clone().or(name.tag.clone()).unwrap_or_default();
    let repository = if name.registry == HUB {
        name.repository.clone()
    } else {
        name.familiar_name()
    };
    tell(progress, PullEvent::Pulling { tag, repository }).await;

    let mut manifest_ = Manifest::parse(&bytes, &format!("manifest of {name}"))?;
    if manifest_.manifests.is_some() {
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        let selected = manifest_
            .select(&platform)
            .ok_or_else(|| no_platform(name, &platform))?;
        let (bytes, _) = manifest(remote, Some(&selected.digest)).await?;
        if bytes.len() as u64 != selected.size {
            return Err(Error::malformed(
                format!("manifest of {name}"),
                format!("{} bytes instead of {}", bytes.len(), selected.size),
            ));
        }
        manifest_ = Manifest::parse(&bytes, &format!("manifest of {name}"))?;
    }
    let (config, layers) = manifest_.image(&format!("manifest of {name}"))?;
    // From here on there is content that nothing names yet.
    let _busy = store.busy();
    let config_bytes = configuration(store, remote, config).await?;
    let file: ConfigFile = serde_json::from_slice(&config_bytes)
        .map_err(|e| Error::malformed(format!("configuration of {name}"), e))?;
    // An index was asked for the platform; a single image must be told apart by what it says itself.
    if let Some(platform) = platform
        && (file.os != platform.os || file.architecture != platform.architecture)
    {
        return Err(no_platform(name, platform));
    }
    if file.rootfs.diff_ids.len() != layers.len() || layers.len() > crate::store::layers::LAYERS_MAX
    {
        return Err(match layers.len() {
            n if n > crate::store::layers::LAYERS_MAX => Error::TooManyLayers(n),
            n => Error::malformed(
                format!("configuration of {name}"),
                format!("{n} layers, {} diff ids", file.rootfs.diff_ids.len()),
            ),
        });
    }
    for layer in layers {
        tell(
            progress,
            PullEvent::Waiting {
                id: short(&layer.digest),
            },
        )
        .await;
    }
    let fetches: Vec<_> = layers
        .iter()
        .zip(&file.rootfs.diff_ids)
        .map(|(layer, diff_id)| fetch(store, remote, layer, diff_id, progress))
        .collect();
    let parallel = store.options.parallel_layers.max(1);
    futures::stream::iter(fetches)
        .buffer_unordered(parallel)
        .try_collect::<Vec<()>>()
        .await?;

    let tags: Vec<String> = if name.digest.is_some() {
        Vec::new()
    } else {
        name.familiar_tag().into_iter().collect()
    };
    let before = store.resolve(&name.to_string()).ok().map(|i| i.id);
    let named = format!("{}@{digest}", name.familiar_name());
    let image =
        blocking(|| store.add_image(&file, Some(&config_bytes), &tags, Some(named), false))?;
    tell(progress, PullEvent::Digest(digest)).await;
    let status = if before.as_deref() == Some(&image.id) {
        "Image is up to date for"
    } else {
        "Downloaded newer image for"
    };
    tell(
        progress,
        PullEvent::Status(format!("Status: {status} {name}")),
    )
    .await;
    Ok(image)
}

/// Fetches a manifest and verifies it against the digest it was asked for by.
async fn manifest(remote: &Remote, digest: Option<&str>) -> Result<(Vec<u8>, String), Error> {
    let ask = || remote.soon("the manifest", remote.manifest(digest));
    let mut result = ask().await?;
    if matches!(&result, Err(e) if is_unauthorized(e)) {
        remote.login(RegistryOperation::Pull).await?;
        result = ask().await?;
    }
    let bytes = result.map_err(|e| remote.error("the manifest", e))?;
    let bytes = bytes.ok_or_else(|| {
        let reason = format!("it is larger than {} MiB", MANIFEST_BYTES_MAX >> 20);
        Error::malformed(format!("manifest of {}", remote.name), reason)
    })?;
    let actual = digest_of(&bytes);
    if let Some(expected) = digest
        .or(remote.name.digest.as_deref())
        .filter(|d| *d != actual)
    {
        return Err(Error::DigestMismatch {
            what: "manifest".into(),
            expected: expected.into(),
            actual,
        });
    }
    Ok((bytes, actual))
}

impl Remote {
    /// A manifest as the registry has it; `None` when it is longer than one may be.
    async fn manifest(
        &self,
        digest: Option<&str>,
    ) -> Result<Option<Vec<u8>>, OciDistributionError> {
        let reference = self.reference(digest);
        let named = reference.digest().or(reference.tag()).unwrap_or("latest");
        let url = self.url(&format!("{}/manifests/{named}", reference.repository()));
        let request = self.http.get(url).header(ACCEPT, ACCEPTED.join(", "));
        let response = self.authorized(request).send().await?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(answers::refusal(response).await);
        }
        answers::body(response, MANIFEST_BYTES_MAX).await
    }
}

fn no_platform(name: &Reference, platform: &Platform) -> Error {
    Error::NoPlatform {
        reference: name.to_string(),
        platform: platform.to_string(),
    }
}

async fn configuration(store: &Store, remote: &Remote, d: &Descriptor) -> Result<Vec<u8>, Error> {
    if d.size > CONFIG_BYTES_MAX || !is_digest(&d.digest) {
        return Err(Error::malformed(
            "image configuration",
            "it is larger than 8 MiB or not named by sha256",
        ));
    }
    let _turn = store.fetching.lock(&d.digest).await;
    if !store.blobs.has(&d.digest) {
        download(store, remote, d, "the configuration", |_| {}).await?;
    }
    blocking(|| store.blobs.read(&d.digest))
}

/// Makes one layer be here. Whoever comes second waits and finds it.
async fn fetch(
    store: &Arc<Store>,
    remote: &Remote,
    d: &Descriptor,
    diff_id: &str,
    progress: &ProgressSender,
) -> Result<(), Error> {
    let id = short(&d.digest);
    if !is_digest(&d.digest) || !is_digest(diff_id) {
        return Err(Error::malformed(
            format!("layer {}", d.digest),
            "only sha256 digests are supported",
        ));
    }
    if !d.media_type.contains("tar") {
        return Err(Error::malformed(
            format!("layer {}", d.digest),
            format!("unsupported media type {}", d.media_type),
        ));
    }
    let _turn = store.fetching.lock(diff_id).await;
    if store.has_layer(diff_id) {
        tell(progress, PullEvent::Exists { id }).await;
        return Ok(());
    }
    if !store.blobs.has(&d.digest) {
        let count = |current| {
            let id = id.clone();
            let total = d.size;
            tick(progress, PullEvent::Downloading { id, current, total });
        };
        download(store, remote, d, &format!("layer {id}"), count).await?;
    }
    tell(progress, PullEvent::Downloaded { id: id.clone() }).await;
    let (background, blob, diff_id) = (store.clone(), d.clone(), diff_id.to_owned());
    let (events, layer_id) = (progress.clone(), id.clone());
    in_background(move || {
        let file = background.blobs.open_blob(&blob.digest)?;
        let total = blob.size;
        let record = BlobRecord {
            digest: blob.digest,
            media_type: blob.media_type,
            size: total,
        };
        let mut current = 0;
        layer::install(&background, &file, &diff_id, Some(record), |n| {
            current += n as u64;
            tick(
                &events,
                PullEvent::Extracting {
                    id: layer_id.clone(),
                    current,
                    total,
                },
            );
        })
    })
    .await?;
    tell(progress, PullEvent::Complete { id }).await;
    Ok(())
}

/// Twelve hex digits of a digest.
pub(super) fn short(digest: &str) -> String {
    digest
        .trim_start_matches("sha256:")
        .chars()
        .take(12)
        .collect()
}
