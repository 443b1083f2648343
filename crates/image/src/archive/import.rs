//! Images from a root filesystem in a tar, or from one static program.

use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use crate::error::Error;
use crate::model::{ConfigFile, History, Image, ImageConfig, Platform};
use crate::store::Store;
use crate::store::names::local_tag;
use crate::unpack::{Unpack, compression};

pub(crate) async fn import(
    store: &Arc<Store>,
    archive: impl AsyncRead + Send + Unpin + 'static,
    reference: Option<&str>,
    config: ImageConfig,
) -> Result<Image, Error> {
    let tags: Vec<String> = reference.map(local_tag).transpose()?.into_iter().collect();
    let store = store.clone();
    let bridge = SyncIoBridge::new(archive);
    in_background(move || {
        let _busy = store.busy();
        let directory = store.temporary()?;
        let layer = layer_directory(&directory)?;
        unpack_compressed(bridge, &Unpack::layer(&layer, store.options.limits))?;
        let diff_id = store.install_directory(&layer)?;
        store.add_image(
            &one_layer(diff_id, config, "Imported from a tar archive"),
            None,
            &tags,
            None,
            true,
        )
    })
    .await
}

/// Runs blocking work on a thread of its own; it goes on to its end when the caller gives up.
pub(crate) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Applets that a shell script in an image expects; the program knows more by its first argument.
const APPLETS: &str = "[ ash awk basename cat chgrp chmod chown cp cut date dd df dirname du echo env expr false find free \
    grep gunzip gzip head hostname httpd id install ip kill killall ln ls md5sum mkdir mkfifo mknod mktemp more mount mv nc \
    netstat nohup nslookup od paste pgrep pidof ping printenv printf ps pwd readlink realpath rm rmdir route sed seq sh \
    sha256sum sleep sort stat stty sync tail tar tee telnet test time timeout top touch tr traceroute true truncate tty \
    umount uname uniq unzip uptime usleep vi watch wc wget which whoami xargs yes zcat";

pub(crate) async fn busybox(
    store: &Store,
    program: &Path,
    reference: &str,
) -> Result<Image, Error> {
    let tag = local_tag(reference)?;
    let _busy = store.busy();
    let diff_id = blocking(|| {
        let directory = store.temporary()?;
        let root = layer_directory(&directory)?;
        fill_busybox(&root, program).map_err(Error::io("make a root filesystem of", program))?;
        // The same program gives the same layer, whenever it is done.
        set_times(&root)?;
        store.install_directory(&root)
    })?;
    let config = ImageConfig {
        env: vec![crate::build::DEFAULT_PATH.to_owned()],
        cmd: Some(vec!["sh".into()]),
        ..ImageConfig::default()
    };
    store.add_image(
        &one_layer(diff_id, config, "busybox"),
        None,
        &[tag],
        None,
        true,
    )
}

fn fill_busybox(root: &Path, program: &Path) -> std::io::Result<()> {
    for directory in [
        "bin", "etc", "dev", "home", "proc", "root", "sys", "tmp", "usr/bin", "usr/sbin", "sbin",
        "var/run",
    ] {
        std::fs::create_dir_all(root.join(directory))?;
    }
    std::fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777))?;
    std::fs::copy(program, root.join("bin/busybox"))?;
    std::fs::set_permissions(root.join("bin/busybox"), PermissionsExt::from_mode(0o755))?;
    for applet in APPLETS.split_whitespace() {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let nobody = "nobody:x:65534:65534:nobody:/home:/bin/false\n";
    std::fs::write(
        root.join("etc/passwd"),
        format!("root:x:0:0:root:/root:/bin/sh\n{nobody}"),
    )?;
    std::fs::write(root.join("etc/group"), "root:x:0:\nnobody:x:65534:\n")
}

fn set_times(directory: &Path) -> Result<(), Error> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
    let epoch = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: epoch,
        last_modification: epoch,
    };
    for entry in std::fs::read_dir(directory).map_err(Error::io("read", directory))? {
        let path = entry.map_err(Error::io("read", directory))?.path();
        if path.is_dir() && !path.is_symlink() {
            set_times(&path)?;
        }
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(Error::io("set times of", &path))?;
    }
    Ok(())
}

fn one_layer(diff_id: String, config: ImageConfig, comment: &str) -> ConfigFile {
    let now = jiff::Timestamp::now().to_string();
    let platform = Platform::host();
    let mut file = ConfigFile {
        architecture: platform.architecture,
        os: platform.os,
        config,
        created: Some(now.clone()),
        history: vec![History {
            created: Some(now),
            comment: comment.into(),
            ..History::default()
        }],
        ..ConfigFile::default()
    };
    file.rootfs.diff_ids.push(diff_id);
    file
}

/// A directory with the mode of a root, in a private temporary one.
pub(crate) fn layer_directory(parent: &tempfile::TempDir) -> Result<std::path::PathBuf, Error> {
    let path = parent.path().join("layer");
    std::fs::create_dir(&path)
        .and_then(|()| std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)))
        .map_err(Error::io("create", &path))?;
    Ok(path)
}

/// Unpacks an archive that may be compressed.
pub(crate) fn unpack_compressed(input: impl Read, unpack: &Unpack<'_>) -> Result<(), Error> {
    let plain = compression::decompress(input).map_err(|e| Error::malformed("archive", e))?;
    unpack.run(plain).map(drop)
}

/// Runs blocking work on this thread, telling a multi-threaded runtime to move its other tasks away.
pub(crate) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|h| h.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
