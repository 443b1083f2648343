//! A disk in a file: ext4 on a loop device, which can be filled up, and whose power can be cut.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::run::{command, eventually, run};

/// What is not synced reaches the disk late, and replacing a file by renaming promises nothing by itself: whoever wants to
/// find something after a power cut must have asked for it.
const OPTIONS: &str = "loop,commit=300,noauto_da_alloc";
/// Stops the file system as a power cut does: at once, without writing anything (EXT4_IOC_SHUTDOWN, flag 2).
const SHUT_DOWN: &str = r#"open(my $d, "<", $ARGV[0]) or die "$!\n"; my $flag = pack("I", 2); ioctl($d, 0x8004587d, $flag) or die "$!\n""#;

pub struct Disk {
    directory: tempfile::TempDir,
}

impl Disk {
    /// A mounted one of so many MiB.
    pub fn new(mib: u64) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-durability-")
            .tempdir()
            .expect("a directory");
        let disk = Self { directory };
        File::create(disk.image())
            .expect("a file")
            .set_len(mib << 20)
            .expect("its length");
        fs::create_dir(disk.path()).expect("a directory");
        run(command(
            "/usr/sbin/mkfs.ext4",
            &format!("-q -F -m 0 {}", disk.image().display()),
        ))
        .ok();
        disk.mount();
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    /// A directory beside it, on another disk.
    pub fn outside(&self) -> &Path {
        self.directory.path()
    }

    pub fn mount(&self) {
        // as long as anybody has the old one, mounting would bring that back as it is: without power
        eventually("nobody uses the disk of before", || {
            let used = run(command(
                "/usr/sbin/losetup",
                &format!("-j {}", self.image().display()),
            ))
            .ok();
            if used.is_empty() { Ok(()) } else { Err(used) }
        });
        run(command(
            "mount",
            &format!(
                "-o {OPTIONS} {} {}",
                self.image().display(),
                self.path().display()
            ),
        ))
        .ok();
    }

    /// What was not synced is lost, and nothing can be read or written any more.
    pub fn cut_power(&self) {
        let mut perl = command("perl", "-e");
        perl.arg(SHUT_DOWN).arg(self.path());
        run(perl).ok();
    }

    /// Waits for the last user to go.
    pub fn unmount(&self) {
        eventually("the disk is unmounted", || {
            if !self.is_mounted() {
                return Ok(());
            }
            let ran = run(command("umount", &self.path().display().to_string()));
            if ran.code == 0 {
                Ok(())
            } else {
                Err(ran.to_string())
            }
        });
    }

    /// Takes all the space that is left.
    pub fn fill(&self) {
        let mut left = 1 << 20;
        let file = self.filler();
        // the last blocks by ever smaller pieces
        while left >= 1 {
            let dd = format!(
                "if=/dev/zero of={} bs={left} count=4096 oflag=append conv=notrunc",
                file.display()
            );
            let ran = run(command("dd", &dd));
            if ran.code != 0 {
                left /= 64;
            }
        }
        File::open(&file)
            .and_then(|file| file.sync_all())
            .expect("synced");
    }

    /// Gives it back.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("removed");
        // otherwise a power cut brings it back
        File::open(self.path())
            .and_then(|directory| directory.sync_all())
            .expect("synced");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn is_mounted(&self) -> bool {
        let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
        device(&self.path()) != device(self.directory.path())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted() {
            // a test that failed may have left it in use
            run(command("umount", &format!("-l {}", self.path().display())));
        }
    }
}
