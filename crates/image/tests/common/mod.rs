//! A store in a temporary directory that unmounts itself, a runner that is `chroot`, and small archives.
#![allow(dead_code)] // each test program uses its part

pub mod debian;
pub mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use async_trait::async_trait;
use bytes::Bytes;
use engine::runner::{RunError, RunStep, Runner};
use image::{BuildError, BuildEvent, BuildRequest, Image, ImageConfig, Images, Options};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

/// Root, or the test cannot mount.
pub fn is_root() -> bool {
    let root = std::fs::metadata("/proc/self")
        .map(|m| std::os::unix::fs::MetadataExt::uid(&m))
        .is_ok_and(|uid| uid == 0);
    if !root {
        eprintln!("SKIPPED: needs root");
    }
    root
}

pub fn busybox() -> PathBuf {
    let found = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .map(PathBuf::from)
        .find(|p| p.exists());
    found.expect("busybox-static is needed")
}

/// Unmounts and deletes on drop, also when a test panics.
pub struct Home {
    pub images: Images,
    pub dir: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Home {
        Home::with(Options::default())
    }

    pub fn with(options: Options) -> Home {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-image-")
            .tempdir()
            .unwrap();
        let images = Images::open(dir.path().join("images"), options).unwrap();
        Home { images, dir }
    }

    /// As after a restart.
    pub fn reopen(&mut self) {
        let root = self.path("images");
        // the lock goes with the last handle
        let elsewhere = Images::open(self.path("elsewhere"), Options::default()).unwrap();
        drop(std::mem::replace(&mut self.images, elsewhere));
        self.images = Images::open(root, Options::default()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes files of a build context; a name that ends with '/' is a directory.
    pub fn context(&self, files: &[(&str, &str)]) -> PathBuf {
        let context = tempfile::Builder::new()
            .prefix("plimsoll-context-")
            .tempdir_in(self.dir.path())
            .unwrap()
            .keep();
        for (name, content) in files {
            let path = context.join(name);
            if name.ends_with('/') {
                std::fs::create_dir_all(path).unwrap();
                continue;
            }
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        context
    }

    /// Directories beneath the snapshots directory, and mounts beneath the store.
    pub fn leftovers(&self) -> Vec<String> {
        let snapshots = std::fs::read_dir(self.path("images/snapshots")).unwrap();
        let temporary = std::fs::read_dir(self.path("images/tmp")).unwrap();
        let mut left: Vec<String> = snapshots
            .chain(temporary)
            .map(|e| e.unwrap().path().display().to_string())
            .collect();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = self.dir.path().display().to_string();
        left.extend(
            mounts
                .lines()
                .filter(|l| l.contains(&root))
                .map(str::to_owned),
        );
        left
    }

    pub async fn base(&self) -> Image {
        self.images
            .base_from_busybox(&busybox(), "plim-base")
            .await
            .unwrap()
    }

    pub async fn build(&self, files: &[(&str, &str)]) -> Built {
        self.request(BuildRequest {
            context: self.context(files),
            ..BuildRequest::default()
        })
        .await
    }

    pub async fn request(&self, request: BuildRequest) -> Built {
        let (sender, mut receiver) = mpsc::channel(16);
        let collect = async {
            let mut events = Vec::new();
            while let Some(event) = receiver.recv().await {
                events.push(event);
            }
            events
        };
        let (result, events) = futures::join!(self.images.build(request, &Chroot, sender), collect);
        Built { result, events }
    }

    /// Reads files of an image through a snapshot: (path, content), `None` for what is missing.
    pub fn read(&self, image: &Image, path: &str) -> Option<String> {
        let id = "plim-read";
        let root = self.images.prepare(image, id).unwrap();
        let content = std::fs::read_to_string(root.join(path)).ok();
        self.images.remove_snapshot(id).unwrap();
        content
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = self.images.purge() {
            eprintln!("cleaning up: {error}");
        }
        // Other handles on this directory may have left theirs when a test panicked.
        let root = self.dir.path().display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in mounts.lines().filter_map(|l| l.split(' ').nth(4)) {
            if point.starts_with(&root) {
                let _ = std::process::Command::new("umount")
                    .args(["-l", point])
                    .status();
            }
        }
    }
}

pub struct Built {
    pub result: Result<Image, BuildError>,
    pub events: Vec<BuildEvent>,
}

impl Built {
    pub fn image(&self) -> &Image {
        match &self.result {
            Ok(image) => image,
            Err(error) => panic!("{error}\n{}", self.output()),
        }
    }

    pub fn error(&self) -> String {
        match &self.result {
            Ok(image) => panic!("built {} instead of failing", image.id),
            Err(error) => error.to_string(),
        }
    }

    pub fn cached(&self) -> usize {
        self.events
            .iter()
            .filter(|e| **e == BuildEvent::Cached)
            .count()
    }

    pub fn output(&self) -> String {
        let outputs = self.events.iter().filter_map(|e| match e {
            BuildEvent::Output(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        });
        outputs.collect()
    }
}

/// Runs steps with chroot(8): no isolation, enough for what tests run.
pub struct Chroot;

#[async_trait]
impl Runner for Chroot {
    async fn run(&self, step: RunStep, output: mpsc::Sender<Bytes>) -> Result<i32, RunError> {
        // Mounts live in a namespace of the step's own and are gone with it.
        let mut script = String::from("set -e\n");
        for mount in &step.mounts {
            let target = format!("{}{}", step.rootfs.display(), mount.target);
            let source = mount.source.display();
            let read_only = if mount.read_only { ",ro" } else { "" };
            script.push_str(&match mount.kind {
                engine::MountKind::Tmpfs => format!(
                    "mkdir -p {target}; mount -t tmpfs -o mode=755{} tmpfs {target}\n",
                    mount.options.iter().map(|o| format!(",{o}")).collect::<String>()
                ),
                engine::MountKind::Bind => format!(
                    "if [ -d {source} ]; then mkdir -p {target}; else mkdir -p $(dirname {target}); touch {target}; fi\n\
                     mount --bind {source} {target}; mount -o remount,bind{read_only} {target}\n"
                ),
            });
        }
        let mut command = tokio::process::Command::new("unshare");
        command.args([
            "-m",
            "sh",
            "-c",
            &format!("{script}exec chroot \"$@\""),
            "sh",
        ]);
        if !step.user.is_empty() {
            command.arg(format!("--userspec={}", step.user));
        }
        command.arg(&step.rootfs).args([
            "/bin/busybox",
            "sh",
            "-c",
            "cd \"$0\" && exec 2>&1 && exec \"$@\"",
            &step.cwd,
        ]);
        command.args(&step.argv).env_clear();
        command.envs(step.env.iter().filter_map(|e| e.split_once('=')));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut buffer = vec![0; 4096];
        while let Ok(n @ 1..) = stdout.read(&mut buffer).await {
            let _ = output.send(Bytes::copy_from_slice(&buffer[..n])).await;
        }
        Ok(child.wait().await.unwrap().code().unwrap_or(137))
    }
}

/// One archive entry.
pub struct Entry<'a> {
    pub path: &'a str,
    pub kind: tar::EntryType,
    pub link: &'a str,
    pub content: &'a [u8],
    pub mode: u32,
    pub owner: (u64, u64),
    pub device: (u32, u32),
    pub xattrs: BTreeMap<&'a str, &'a [u8]>,
}

pub fn file<'a>(path: &'a str, content: &'a str) -> Entry<'a> {
    Entry {
        path,
        kind: tar::EntryType::Regular,
        link: "",
        content: content.as_bytes(),
        mode: 0o644,
        owner: (0, 0),
        device: (0, 0),
        xattrs: BTreeMap::new(),
    }
}

pub fn dir(path: &str) -> Entry<'_> {
    Entry {
        kind: tar::EntryType::Directory,
        mode: 0o755,
        ..file(path, "")
    }
}

pub fn link<'a>(path: &'a str, target: &'a str) -> Entry<'a> {
    Entry {
        kind: tar::EntryType::Symlink,
        link: target,
        ..file(path, "")
    }
}

pub fn hard<'a>(path: &'a str, target: &'a str) -> Entry<'a> {
    Entry {
        kind: tar::EntryType::Link,
        link: target,
        ..file(path, "")
    }
}

/// An archive exactly as told: paths are not checked.
pub fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        if !entry.xattrs.is_empty() {
            let names: Vec<String> = entry
                .xattrs
                .keys()
                .map(|k| format!("SCHILY.xattr.{k}"))
                .collect();
            let pairs = names
                .iter()
                .map(String::as_str)
                .zip(entry.xattrs.values().copied());
            builder.append_pax_extensions(pairs).unwrap();
        }
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..entry.path.len()].copy_from_slice(entry.path.as_bytes());
        header.as_old_mut().linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_size(entry.content.len() as u64);
        header.set_mtime(1_600_000_000);
        header.set_device_major(entry.device.0).unwrap();
        header.set_device_minor(entry.device.1).unwrap();
        header.set_cksum();
        builder.append(&header, entry.content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub async fn import(images: &Images, name: &str, archive: Vec<u8>) -> Result<Image, image::Error> {
    images
        .import(
            std::io::Cursor::new(archive),
            Some(name),
            ImageConfig::default(),
        )
        .await
}

pub fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
