//! Push: layers are compressed now, not before; what the registry has is not sent again.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::sync::Arc;

use futures::TryStreamExt;
use oci_client::RegistryOperation;
use oci_client::errors::OciDistributionError;
use tokio_util::io::ReaderStream;

use super::Remote;
use super::pull::short;
use crate::archive::import::{blocking, in_background};
use crate::archive::layer::{TAR, TAR_GZIP};
use crate::archive::manifest::{CONFIG, Descriptor, MANIFEST, Manifest};
use crate::archive::save::open_layer;
use crate::error::Error;
use crate::model::Auth;
use crate::progress::{ProgressSender, PullEvent, tell};
use crate::reference::Reference;
use crate::store::Store;
use crate::store::durable::Hashing;

pub(crate) async fn push(
    store: &Arc<Store>,
    reference: &str,
    auth: Option<Auth>,
    progress: ProgressSender,
) -> Result<String, Error> {
    let name = Reference::parse(reference)?;
    let image = store.resolve(reference)?;
    let remote = Remote::open(store, name, auth).await?;
    let _busy = store.busy();
    let target = remote.reference(None);
    remote.login(RegistryOperation::Push).await?;

    let mut layers = Vec::new();
    for diff_id in image.layers() {
        let (background, diff_id) = (store.clone(), diff_id.clone());
        let id = short(&diff_id);
        tell(
            &progress,
            PullEvent::Push {
                id: id.clone(),
                status: "Preparing",
            },
        )
        .await;
        let (file, descriptor) = in_background(move || compressed(&background, &diff_id)).await?;
        let sent = blob(&remote, &target, file, &descriptor, &progress, &id).await?;
        let status = if sent {
            "Pushed"
        } else {
            "Layer already exists"
        };
        tell(&progress, PullEvent::Push { id, status }).await;
        layers.push(descriptor);
    }
    let config_bytes = store.blobs.read(&image.id)?;
    let config = Descriptor {
        media_type: CONFIG.into(),
        digest: image.id.clone(),
        size: config_bytes.len() as u64,
        ..Descriptor::default()
    };
    let file = store.blobs.open_blob(&image.id)?;
    blob(
        &remote,
        &target,
        file,
        &config,
        &progress,
        &short(&image.id),
    )
    .await?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST.into(),
        config: Some(config),
        layers: Some(layers),
        manifests: None,
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|e| Error::malformed("manifest", e))?;
    let (digest, size) = (crate::store::durable::digest_of(&bytes), bytes.len() as u64);
    let media_type = http::HeaderValue::from_static(MANIFEST);
    remote
        .client
        .push_manifest_raw(&target, bytes, media_type)
        .await
        .map_err(|e| remote.error("the manifest", e))?;
    let named = format!("{}@{digest}", remote.name.familiar_name());
    blocking(|| store.add_digest(named, &image.id))?;
    let tag = remote.name.tag.clone().unwrap_or_default();
    let pushed = PullEvent::Pushed {
        tag,
        digest: digest.clone(),
        size,
    };
    tell(&progress, pushed).await;
    Ok(digest)
}

/// Sends a blob unless the registry has it; whether it was sent.
async fn blob(
    remote: &Remote,
    target: &oci_client::Reference,
    file: File,
    descriptor: &Descriptor,
    progress: &ProgressSender,
    id: &str,
) -> Result<bool, Error> {
    // A registry that cannot say is one that does not have it.
    if remote
        .client
        .blob_exists(target, &descriptor.digest)
        .await
        .unwrap_or(false)
    {
        return Ok(false);
    }
    tell(
        progress,
        PullEvent::Push {
            id: id.to_owned(),
            status: "Pushing",
        },
    )
    .await;
    let stream =
        ReaderStream::new(tokio::fs::File::from_std(file)).map_err(OciDistributionError::from);
    remote
        .client
        .push_blob_stream(target, stream, &descriptor.digest, Some(descriptor.size))
        .await
        .map_err(|e| remote.error(&format!("blob {id}"), e))?;
    Ok(true)
}

/// A layer's archive, compressed: as it came, or made now. The same layer always gives the same bytes.
fn compressed(store: &Store, diff_id: &str) -> Result<(File, Descriptor), Error> {
    let fail = || Error::io("compress", format!("layer {diff_id}"));
    let (mut plain, descriptor) = open_layer(store, diff_id)?;
    plain.seek(SeekFrom::Start(0)).map_err(fail())?;
    if descriptor.media_type != TAR {
        return Ok((plain, descriptor));
    }
    let file = tempfile::tempfile_in(store.root.join("tmp")).map_err(fail())?;
    let mut gzip =
        flate2::write::GzEncoder::new(Hashing::new(file), flate2::Compression::default());
    std::io::copy(&mut plain, &mut gzip).map_err(fail())?;
    let (mut file, digest, size) = gzip.finish().map_err(fail())?.finish();
    file.seek(SeekFrom::Start(0)).map_err(fail())?;
    Ok((
        file,
        Descriptor {
            media_type: TAR_GZIP.into(),
            digest,
            size,
            ..Descriptor::default()
        },
    ))
}
