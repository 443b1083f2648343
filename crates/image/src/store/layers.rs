//! Unpacked layers: `layers/HEX/` by diff id, and short links `l/N` so that 127 of them fit into one mount call.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::error::Error;
use crate::reference::is_digest;
use crate::store::durable;
use crate::store::pending::Pending;

/// Layers an overlay is given at most; Docker's own limit.
pub(crate) const LAYERS_MAX: usize = 127;

pub(crate) struct Layers {
    directory: PathBuf,
    links: PathBuf,
    names: Mutex<Names>,
    pub pending: Pending,
}

#[derive(Default)]
struct Names {
    by_layer: HashMap<String, String>,
    next: u64,
}

impl Layers {
    pub fn open(root: &Path) -> Result<Layers, Error> {
        let directory = root.join("layers");
        let links = root.join("l");
        for dir in [&directory, &links, &directory.join("empty")] {
            fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        }
        let layers = Layers {
            pending: Pending::new(&directory),
            directory,
            links,
            names: Mutex::default(),
        };
        layers.read_links()?;
        Ok(layers)
    }

    fn read_links(&self) -> Result<(), Error> {
        let mut names = self.names.lock();
        let entries = fs::read_dir(&self.links).map_err(Error::io("read", &self.links))?;
        for entry in entries {
            let entry = entry.map_err(Error::io("read", &self.links))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let target = fs::read_link(entry.path()).unwrap_or_default();
            let hex = target
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            match u64::from_str_radix(&name, 16) {
                Ok(number) if self.directory.join(&hex).is_dir() => {
                    names.next = names.next.max(number + 1);
                    names.by_layer.insert(hex, name);
                }
                _ => durable::delete_tree(&entry.path())?,
            }
        }
        Ok(())
    }

    /// The directory that holds a layer's files.
    ///
    /// # Errors
    /// When the text is no digest.
    pub fn path(&self, diff_id: &str) -> Result<PathBuf, Error> {
        if !is_digest(diff_id) {
            return Err(Error::malformed(
                format!("layer {diff_id:?}"),
                "only sha256 is supported",
            ));
        }
        Ok(self.directory.join(&diff_id["sha256:".len()..]))
    }

    pub fn has(&self, diff_id: &str) -> bool {
        self.path(diff_id).is_ok_and(|p| p.is_dir())
    }

    /// Takes a finished directory over as this layer, durable when the index is written next; if the layer is there already the directory is deleted.
    pub fn adopt(&self, directory: &Path, diff_id: &str) -> Result<(), Error> {
        let path = self.path(diff_id)?;
        match fs::rename(directory, &path) {
            Ok(()) => {
                self.pending.add(&path);
                Ok(())
            }
            // An empty layer over itself: rename replaces an empty directory silently, a full one is refused.
            Err(_) if path.is_dir() => durable::delete_tree(directory),
            Err(e) => Err(Error::io("store layer", path)(e)),
        }
    }

    /// Link names relative to [`Layers::links`], uppermost first as overlay wants it.
    pub fn stack(&self, diff_ids: &[String]) -> Result<Vec<String>, Error> {
        if diff_ids.len() > LAYERS_MAX {
            return Err(Error::TooManyLayers(diff_ids.len()));
        }
        if diff_ids.is_empty() {
            return Ok(vec![self.link("empty")?]);
        }
        let mut stack: Vec<String> = Vec::new();
        for diff_id in diff_ids.iter().rev() {
            let path = self.path(diff_id)?;
            if !path.is_dir() {
                return Err(Error::NotFound(format!("layer {diff_id}")));
            }
            let link = self.link(&diff_id["sha256:".len()..])?;
            // The kernel refuses the same directory twice in a stack; the upper one decides anyway.
            if !stack.contains(&link) {
                stack.push(link);
            }
        }
        Ok(stack)
    }

    pub fn links(&self) -> &Path {
        &self.links
    }

    fn link(&self, hex: &str) -> Result<String, Error> {
        let mut names = self.names.lock();
        if let Some(name) = names.by_layer.get(hex) {
            return Ok(name.clone());
        }
        let name = format!("{:x}", names.next);
        let path = self.links.join(&name);
        symlink(Path::new("../layers").join(hex), &path)
            .map_err(Error::io("create link", &path))?;
        names.next += 1;
        names.by_layer.insert(hex.to_owned(), name.clone());
        Ok(name)
    }

    pub fn delete(&self, diff_id: &str, trash: &Path) -> Result<(), Error> {
        let path = self.path(diff_id)?;
        let mut names = self.names.lock();
        if let Some(name) = names.by_layer.remove(&diff_id["sha256:".len()..]) {
            durable::delete_tree(&self.links.join(name))?;
        }
        drop(names);
        discard(&path, trash)
    }

    /// Diff ids of all directories.
    pub fn list(&self) -> Result<Vec<String>, Error> {
        let entries = fs::read_dir(&self.directory).map_err(Error::io("read", &self.directory))?;
        Ok(entries
            .filter_map(|e| Some(format!("sha256:{}", e.ok()?.file_name().to_str()?)))
            .filter(|id| is_digest(id))
            .collect())
    }
}

/// Moves a tree out of the way at once, then deletes it.
pub(crate) fn discard(path: &Path, trash: &Path) -> Result<(), Error> {
    let made = tempfile::Builder::new()
        .prefix("plimsoll-trash-")
        .tempdir_in(trash);
    let Ok(target) = made else {
        // A full disk has no room for another directory; deleting makes some.
        return durable::delete_tree(path);
    };
    match fs::rename(path, target.path().join("x")) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(_) => durable::delete_tree(path)?,
        Ok(()) => {}
    }
    durable::delete_tree(&target.keep())
}

/// Bytes of the files beneath a directory; hard links count once.
pub(crate) fn tree_size(path: &Path) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let mut pending = vec![path.to_path_buf()];
    let mut bytes = 0;
    while let Some(directory) = pending.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                pending.push(entry.path());
            } else if meta.is_file() && (meta.nlink() == 1 || seen.insert(meta.ino())) {
                bytes += meta.len();
            }
        }
    }
    bytes
}
