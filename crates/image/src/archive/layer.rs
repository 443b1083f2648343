//! A layer archive in a file becomes an unpacked layer, verified.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::archive::import::layer_directory;
use crate::error::Error;
use crate::store::Store;
use crate::store::durable::Hashing;
use crate::store::index::BlobRecord;
use crate::unpack::compression::{Compression, decompress, detect};
use crate::unpack::{Unpack, canonical};

pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const TAR_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Unpacks an archive and installs it as the layer it must be. `read` sees the number of compressed bytes of each read.
///
/// # Errors
/// [`Error::DigestMismatch`] when the content has another digest than `diff_id`; then nothing is installed.
pub(crate) fn install(
    store: &Store,
    file: &File,
    diff_id: &str,
    blob: Option<BlobRecord>,
    read: impl FnMut(usize),
) -> Result<(), Error> {
    let directory = store.temporary()?;
    let layer = layer_directory(&directory)?;
    let input = Counted { input: file, read };
    let plain = decompress(input).map_err(|e| Error::malformed(format!("layer {diff_id}"), e))?;
    let mut plain = Hashing::new(plain);
    let implied = Unpack::layer(&layer, store.options.limits).run(&mut plain)?;
    let (_, actual, _) = plain.finish();
    if actual != diff_id {
        return Err(Error::DigestMismatch {
            what: "layer content".into(),
            expected: diff_id.into(),
            actual,
        });
    }
    // What the directory gives again by itself need not be kept a second time.
    let blob = match blob {
        Some(blob) => Some(blob),
        None if canonical::digest(&layer)? == diff_id => None,
        None => Some(keep(store, file)?),
    };
    store.install_layer(&layer, diff_id, blob, implied)
}

fn keep(store: &Store, mut file: &File) -> Result<BlobRecord, Error> {
    let broken = || Error::io("copy", "a layer archive");
    file.seek(SeekFrom::Start(0)).map_err(broken())?;
    let mut writer = store.blobs.writer()?;
    std::io::copy(&mut file, &mut writer).map_err(broken())?;
    let (digest, size) = store.blobs.commit(writer, None)?;
    let media_type = media_type(&store.blobs.open_blob(&digest)?);
    Ok(BlobRecord {
        digest,
        media_type,
        size,
    })
}

/// OCI media type by content.
pub(crate) fn media_type(file: &File) -> String {
    let mut start = Vec::new();
    // An unreadable file shows itself when it is used.
    let _ = file.take(6).read_to_end(&mut start);
    match detect(&start) {
        Some(Compression::Gzip) => TAR_GZIP,
        Some(Compression::Zstd) => TAR_ZSTD,
        None => TAR,
    }
    .to_owned()
}

struct Counted<'a, F> {
    input: &'a File,
    read: F,
}

impl<F: FnMut(usize)> Read for Counted<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buffer)?;
        (self.read)(n);
        Ok(n)
    }
}
