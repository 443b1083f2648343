//! Who may use a volume: the pod's fsGroup owns it, its directories hand the group on, its files let the group read (and
//! write, where the volume can be written). Follows kubernetes `pkg/volume/volume_linux.go`.
//!
//! Another pod may have the same volume open and swap files for links meanwhile; every step is taken by descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags};
use rustix::io::Errno;

const WRITABLE: u32 = 0o660;
const READABLE: u32 = 0o440;
const SEARCHABLE: u32 = 0o110;
const SET_GROUP: u32 = 0o2000;
/// Each level holds a descriptor.
const DEPTH_MAX: u32 = 256;

/// Gives the volume to the group. `on_root_mismatch`: only if its top directory is not the group's already.
///
/// What cannot be given (a file system without owners, a file that may not be changed) stays as it is, and is logged, as
/// upstream does: the pod starts. So does what lies deeper than 256 directories.
///
/// # Errors
/// What the kernel says about a directory that cannot be read.
pub fn give(root: &Path, group: u32, read_only: bool, on_root_mismatch: bool) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(root, flags, Mode::empty())?;
    if on_root_mismatch {
        let stat = rustix::fs::fstat(&directory)?;
        let wanted = if read_only { READABLE } else { WRITABLE } | SEARCHABLE | SET_GROUP;
        if stat.st_gid == group && stat.st_mode & wanted == wanted {
            return Ok(());
        }
    }
    let group = Gid::from_raw(group);
    let mut refused = Refused::default();
    contents(&directory, (group, read_only), 0, &mut refused)?;
    // the top comes last: what it says is true of everything beneath it
    refused.note(one(&directory, group, read_only));
    if let Some(error) = refused.first {
        let (volume, refused) = (root.display(), refused.count);
        tracing::warn!(%volume, refused, %error, "a volume could not be given to its pod's group as a whole");
    }
    Ok(())
}

/// What could not be given.
#[derive(Default)]
struct Refused {
    count: usize,
    first: Option<io::Error>,
}

impl Refused {
    fn note(&mut self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            self.count += 1;
            self.first.get_or_insert(error);
        }
    }
}

fn contents(
    directory: &OwnedFd,
    (group, read_only): (Gid, bool),
    depth: u32,
    refused: &mut Refused,
) -> io::Result<()> {
    if depth == DEPTH_MAX {
        let why = format!("it is deeper than {DEPTH_MAX} directories");
        refused.note(Err(io::Error::other(why)));
        return Ok(());
    }
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            outcome => outcome?,
        };
        let is_directory = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode).is_dir();
        if is_directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = rustix::fs::openat(&found, c".", flags, Mode::empty())?;
            contents(&open, (group, read_only), depth + 1, refused)?;
        }
        refused.note(one(&found, group, read_only));
    }
    Ok(())
}

fn one(found: &OwnedFd, group: Gid, read_only: bool) -> io::Result<()> {
    rustix::fs::chownat(found.as_fd(), c"", None, Some(group), AtFlags::EMPTY_PATH)?;
    let mode = rustix::fs::fstat(found)?.st_mode;
    let kind = FileType::from_raw_mode(mode);
    if kind.is_symlink() {
        return Ok(());
    }
    let mut wanted = mode & 0o7777 | if read_only { READABLE } else { WRITABLE };
    if kind.is_dir() {
        wanted |= SEARCHABLE | SET_GROUP;
    }
    std::fs::set_permissions(
        format!("/proc/self/fd/{}", found.as_raw_fd()),
        std::fs::Permissions::from_mode(wanted),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn the_group_gets_everything_and_nothing_else() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let held = tempfile::Builder::new()
            .prefix("plimsoll-volume-")
            .tempdir()
            .expect("directory");
        let (volume, outside) = (held.path().join("v"), held.path().join("outside"));
        fs::create_dir_all(volume.join("deep")).expect("made");
        fs::write(volume.join("deep/file"), "x").expect("written");
        fs::write(&outside, "x").expect("written");
        symlink(&outside, volume.join("link")).expect("linked");
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
        };
        set(&volume.join("deep/file"), 0o600);
        set(&volume, 0o700);
        let of = |path: &Path| {
            let data = fs::symlink_metadata(path).expect("there");
            (data.gid(), data.mode() & 0o7777)
        };
        give(&volume, 4242, false, false).expect("given");
        assert_eq!(of(&volume), (4242, 0o2770));
        assert_eq!(of(&volume.join("deep")), (4242, 0o2775));
        assert_eq!(of(&volume.join("deep/file")), (4242, 0o660));
        assert_eq!(of(&volume.join("link")).0, 4242);
        assert_eq!(of(&outside).0, 0, "links are not followed");
        set(&volume.join("deep/file"), 0o600);
        give(&volume, 4242, false, true).expect("nothing to do");
        assert_eq!(
            of(&volume.join("deep/file")),
            (4242, 0o600),
            "the top matched"
        );
        give(&volume, 4243, true, true).expect("given");
        assert_eq!(of(&volume.join("deep/file")), (4243, 0o640));
    }
    #[test]
    fn what_cannot_be_given_stays_and_the_rest_is_given() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let held = tempfile::Builder::new()
            .prefix("plimsoll-volume-")
            .tempdir()
            .expect("directory");
        let volume = held.path();
        let deepest = volume.join(vec!["d"; DEPTH_MAX as usize + 2].join("/"));
        fs::create_dir_all(&deepest).expect("made");
        fs::write(volume.join("file"), "x").expect("written");
        // a file system of another, which nobody may change
        fs::create_dir(volume.join("disk")).expect("made");
        let options = c"mode=0755";
        let flags = rustix::mount::MountFlags::RDONLY;
        rustix::mount::mount("tmpfs", volume.join("disk"), "tmpfs", flags, options)
            .expect("mounted");
        let given = give(volume, 4242, false, false);
        let group = |path: &Path| fs::symlink_metadata(path).expect("there").gid();
        let groups = ["file", "disk", "d/d"].map(|name| group(&volume.join(name)));
        let last = group(&deepest);
        rustix::mount::unmount(volume.join("disk"), rustix::mount::UnmountFlags::DETACH)
            .expect("unmounted");
        given.expect("the pod starts");
        assert_eq!((groups, last), ([4242, 0, 4242], 0));
    }
}
