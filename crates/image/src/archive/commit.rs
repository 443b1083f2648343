//! `docker commit`: what a snapshot changed becomes a layer.

use std::sync::mpsc;

use crate::archive::import::{blocking, layer_directory};
use crate::error::Error;
use crate::model::{ConfigFile, History, Image};
use crate::store::Store;
use crate::store::names::local_tag;
use crate::unpack::{Unpack, canonical};

pub(crate) async fn commit(
    store: &Store,
    snapshot_id: &str,
    base: &Image,
    reference: Option<&str>,
    edit: impl FnOnce(&mut ConfigFile) + Send,
) -> Result<Image, Error> {
    let tags: Vec<String> = reference.map(local_tag).transpose()?.into_iter().collect();
    let _busy = store.busy();
    let record = store.snapshots.record(snapshot_id)?;
    let upper = store.snapshots.path(snapshot_id).join("upper");
    let diff_id = blocking(|| copy_layer(store, &upper))?;
    let now = jiff::Timestamp::now().to_string();
    let mut file = base.file.clone();
    file.rootfs.diff_ids = record.layers;
    file.rootfs.diff_ids.push(diff_id);
    file.created = Some(now.clone());
    file.history.push(History {
        created: Some(now),
        comment: "commit".into(),
        ..History::default()
    });
    edit(&mut file);
    store.add_image(&file, None, &tags, None, true)
}

/// Copies through the canonical archive: the same rules decide what belongs to a layer everywhere.
fn copy_layer(store: &Store, upper: &std::path::Path) -> Result<String, Error> {
    let directory = store.temporary()?;
    let layer = layer_directory(&directory)?;
    let (reader, mut writer) = std::io::pipe().map_err(Error::io("create a pipe for", upper))?;
    let (send, receive) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = send.send(canonical::write(upper, &mut writer));
        });
        let unpacked = Unpack::layer(&layer, store.options.limits).run(reader);
        // The writer's error explains a broken archive better than the reader's.
        receive.recv().unwrap_or(Ok(())).and(unpacked)
    })?;
    store.install_directory(&layer)
}
