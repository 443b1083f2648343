//! Directories that a layer has files in without naming them.
//!
//! Layers lie side by side and are shared, so such a directory cannot have there what the layers below say of it; it is root's and
//! covers theirs. A snapshot gets it right in its own writable part. Behaviour: containerd's `pkg/archive`, which makes a missing
//! parent like that of the layers below.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags};

use crate::error::Error;
use crate::unpack::canonical::is_opaque;
use crate::unpack::confine::{Links, Root};

/// Such directories of all layers together that are looked at: each is looked for in every layer, and hostile ones have many.
/// The rest stay as they were made.
const LOOKED_AT_MAX: usize = 4000;

/// A layer's directory, and the paths in it that its archive did not name.
pub(crate) struct Layer {
    pub directory: PathBuf,
    pub implied: BTreeSet<String>,
}

/// Mode and owner.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
}

/// What a directory has that nobody named.
const NOBODYS: Attributes = Attributes {
    mode: 0o755,
    uid: 0,
    gid: 0,
};

/// Makes in an empty `upper` those implied directories of the layers, the lowest first, that are not as the layers below have them.
/// Owners are moved up by `first_id`.
pub(crate) fn restore(upper: &Path, layers: &[Layer], first_id: u32) -> Result<(), Error> {
    let paths: BTreeSet<&str> = layers
        .iter()
        .flat_map(|layer| &layer.implied)
        .map(String::as_str)
        .collect();
    if paths.is_empty() {
        return Ok(());
    }
    let stack = layers
        .iter()
        .map(|layer| Ok((Root::open(&layer.directory, Links::Nowhere)?, layer)))
        .collect::<Result<Vec<_>, Error>>()?;
    // A directory comes before what is in it.
    for path in paths.into_iter().take(LOOKED_AT_MAX) {
        let path = Path::new(path);
        let covered = attributes(&stack, path).filter(|(_, covered)| *covered);
        if covered.is_none_or(|(found, _)| found == NOBODYS) {
            continue;
        }
        let mut above: Vec<&Path> = path.ancestors().filter(|p| *p != Path::new("")).collect();
        above.reverse();
        for directory in above {
            let made = upper.join(directory);
            match fs::create_dir(&made) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(Error::io("create", made)(e)),
            }
            let (found, _) = attributes(&stack, directory).unwrap_or((NOBODYS, false));
            let moved = |id: u32| id.saturating_add(first_id);
            let (uid, gid) = (moved(found.uid), moved(found.gid));
            std::os::unix::fs::chown(&made, Some(uid), Some(gid))
                .and_then(|()| fs::set_permissions(&made, PermissionsExt::from_mode(found.mode)))
                .map_err(Error::io("restore the owner and mode of", &made))?;
        }
    }
    Ok(())
}

/// What the uppermost layer that names a directory says of it, and whether one above covers that; `None` when none does, or when it
/// is no directory any more.
fn attributes(stack: &[(Root, &Layer)], path: &Path) -> Option<(Attributes, bool)> {
    let mut covered = false;
    for (root, layer) in stack.iter().rev() {
        // What is below is not seen through a file, a link or a deletion.
        let mut above = path.ancestors().skip(1);
        if above.any(|p| kind(root, p).is_some_and(|(kind, _)| kind != FileType::Directory)) {
            return None;
        }
        match kind(root, path) {
            Some((FileType::Directory, found)) => {
                let named = path
                    .to_str()
                    .is_none_or(|path| !layer.implied.contains(path));
                if named {
                    return Some((found, covered));
                }
                covered = true;
            }
            Some(_) => return None,
            None => {}
        }
        let hides = path
            .ancestors()
            .filter(|p| *p != Path::new(""))
            .any(|p| kind(root, p).is_some() && is_opaque(&layer.directory.join(p)));
        if hides {
            return None;
        }
    }
    None
}

fn kind(root: &Root, path: &Path) -> Option<(FileType, Attributes)> {
    let fd = root.open_at(path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
    let stat = rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH).ok()?;
    let found = Attributes {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    };
    Some((FileType::from_raw_mode(stat.st_mode), found))
}
