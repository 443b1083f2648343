//! The power goes at any moment: what was acknowledged is there afterwards, whole, and what was not is not half there.
//!
//! On ext4 in a file, which is stopped as a power cut stops it (EXT4_IOC_SHUTDOWN): what was not synced is lost. Commits of
//! its journal by themselves are put off, and replacing a file by renaming promises nothing, so that nothing survives by luck.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use common::{archive, file, import, is_root};
use image::{BuildRequest, Image, Images, Options};

const ROUNDS: u64 = 12;
const DISK_BYTES: u64 = 256 << 20;

/// A file system in a file; unmounted and deleted when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Disk {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-power-")
            .tempdir()
            .unwrap();
        let disk = Disk(directory);
        let image = std::fs::File::create(disk.0.path().join("image")).unwrap();
        image.set_len(DISK_BYTES).unwrap();
        std::fs::create_dir(disk.path()).unwrap();
        run(
            "/usr/sbin/mkfs.ext4",
            &["-q", "-F", disk.0.path().join("image").to_str().unwrap()],
        );
        disk.mount();
        disk
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("disk")
    }

    fn mount(&self) {
        // As long as anybody has the old one, mounting would bring that back as it is: without power.
        let is_used = || {
            let shown = Command::new("/usr/sbin/losetup")
                .arg("-j")
                .arg(self.0.path().join("image"))
                .output()
                .unwrap();
            !shown.stdout.is_empty()
        };
        for _ in 0..600 {
            if !is_used() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(!is_used(), "the disk is still in use");
        let (image, path) = (self.0.path().join("image"), self.path());
        let options = "loop,commit=300,noauto_da_alloc";
        run(
            "mount",
            &[
                "-o",
                options,
                image.to_str().unwrap(),
                path.to_str().unwrap(),
            ],
        );
    }

    fn cut_power(&self) {
        let program = r#"open(my $d, "<", $ARGV[0]) or die "$!\n"; my $flag = pack("I", 2); ioctl($d, 0x8004587d, $flag) or die "$!\n""#;
        run("perl", &["-e", program, self.path().to_str().unwrap()]);
    }

    /// What is mounted beneath it goes first; it may be in use for a moment yet.
    fn unmount(&self) {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        let mut points: Vec<&str> = points
            .filter(|point| Path::new(point).starts_with(self.path()))
            .collect();
        points.reverse();
        for point in points {
            let gone = (0..100).any(|_| {
                let done = Command::new("umount")
                    .arg(point)
                    .output()
                    .unwrap()
                    .status
                    .success();
                if !done {
                    std::thread::sleep(Duration::from_millis(50));
                }
                done
            });
            if !gone {
                let _ = Command::new("umount").args(["-l", point]).status();
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
    }
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

/// What each name was told to hold in `/etc/a`; `None` while that is being changed.
type Told = Mutex<BTreeMap<String, Option<String>>>;

/// Imports, builds, tags and removes until it fails, which it does when the power has gone.
async fn live(images: &Images, context: &Path, round: u64, told: &Told) {
    for number in 0.. {
        let name = format!("plim-{round}-{number}");
        let content = format!("{round} {number}\n");
        told.lock().unwrap().insert(name.clone(), None);
        let done = match number % 4 {
            0 => {
                let names: Vec<String> = (0..40).map(|n| format!("many/{n}")).collect();
                let mut files = vec![file("etc/a", &content)];
                files.extend(names.iter().map(|name| file(name, &content)));
                import(images, &name, archive(&files)).await.is_ok()
            }
            1 => {
                let text = format!(
                    "FROM plim-base\nWORKDIR /w\nCOPY <<EOF /etc/a\n{content}EOF\nRUN echo {number}\n"
                );
                let request = BuildRequest {
                    dockerfile_text: Some(text),
                    context: context.into(),
                    tags: vec![name.clone()],
                    ..BuildRequest::default()
                };
                let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
                let drain = async { while receiver.recv().await.is_some() {} };
                let (built, ()) =
                    futures::join!(images.build(request, &common::Chroot, sender), drain);
                built.is_ok()
            }
            2 => {
                let from = format!("plim-{round}-{}", number - 1);
                let content = told.lock().unwrap().get(&from).cloned().flatten();
                let tagged = images.tag(&from, &name).is_ok();
                if tagged {
                    told.lock().unwrap().insert(name, content);
                }
                if !tagged {
                    return;
                }
                continue;
            }
            _ => {
                let gone = format!("plim-{round}-{}", number - 3);
                told.lock().unwrap().remove(&name);
                told.lock().unwrap().insert(gone.clone(), None);
                if images.remove(&gone, true).is_err() {
                    return;
                }
                told.lock().unwrap().insert(gone, Some(GONE.to_owned()));
                continue;
            }
        };
        if !done {
            return;
        }
        told.lock().unwrap().insert(name, Some(content));
    }
}

/// Stands for the content of what was removed.
const GONE: &str = "gone";

/// The content of `/etc/a`, and whether all files have the length that they should have.
fn content(images: &Images, image: &Image) -> String {
    let root = images.prepare(image, "plim-read").unwrap();
    let text = std::fs::read_to_string(root.join("etc/a")).unwrap_or_default();
    for entry in std::fs::read_dir(root.join("many")).into_iter().flatten() {
        let path = entry.unwrap().path();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            text,
            "{}",
            path.display()
        );
    }
    images.remove_snapshot("plim-read").unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_power_cut() {
    if !is_root() {
        return;
    }
    let disk = Disk::new();
    let root = disk.path().join("images");
    let context = disk.0.path().join("context");
    std::fs::create_dir(&context).unwrap();
    let images = Images::open(&root, Options::default()).unwrap();
    images
        .base_from_busybox(&common::busybox(), "plim-base")
        .await
        .unwrap();
    drop(images);
    let told: Told = Mutex::default();
    told.lock()
        .unwrap()
        .insert("plim-base".into(), Some(String::new()));
    let (mut random, mut checked) = (5_u64, 0);
    for round in 0..ROUNDS {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let until = Duration::from_millis(20 + (random >> 33) % 900);
        let images = Images::open(&root, Options::default()).unwrap();
        let cut = async {
            tokio::time::sleep(until).await;
            tokio::task::block_in_place(|| disk.cut_power());
        };
        let ((), ()) = futures::join!(live(&images, &context, round, &told), cut);
        drop(images);
        disk.unmount();
        disk.mount();

        let images = Images::open(&root, Options::default())
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        for (name, known) in told.lock().unwrap().iter_mut() {
            let found = images.resolve(name).map(|image| content(&images, &image));
            match known.as_deref() {
                Some(GONE) => assert_eq!(found, None, "round {round}: {name} came back"),
                Some(wanted) => {
                    assert_eq!(found.as_deref(), Some(wanted), "round {round}: {name}");
                    checked += 1;
                }
                // was being made or removed: either, but not half
                None => *known = Some(found.unwrap_or_else(|| GONE.to_owned())),
            }
        }
        for image in images.list() {
            content(&images, &image);
        }
    }
    println!("{ROUNDS} power cuts, {checked} times an acknowledged image was found whole");
    assert!(checked > ROUNDS * 3, "only {checked} checks");
}
