//! What nothing refers to goes: layers first from the index, then from the disk.

use std::collections::HashSet;
use std::path::PathBuf;

use super::Store;
use super::layers::{self, tree_size};
use crate::error::Error;

impl Store {
    pub fn collect_garbage(&self) -> Result<u64, Error> {
        Ok(self.collect()?.1)
    }

    /// Layers deleted and bytes freed. While content is being added nothing is done now, but at the end of that.
    pub(super) fn collect(&self) -> Result<(Vec<String>, u64), Error> {
        // The lock is kept: nothing may become referenced between looking and deleting.
        let mut state = self.state.lock();
        if state.busy > 0 {
            state.garbage = true;
            return Ok((Vec::new(), 0));
        }
        let mut layers: HashSet<String> = state
            .image_layers()
            .into_iter()
            .map(str::to_owned)
            .collect();
        layers.extend(state.cache.layers().map(str::to_owned));
        layers.extend(
            self.snapshots
                .records()
                .into_values()
                .flat_map(|r| r.layers),
        );

        let before = state.index.layers.len();
        let mut freed = 0;
        state.index.layers.retain(|id, record| {
            let keep = layers.contains(id);
            freed += if keep { 0 } else { record.size };
            keep
        });
        if state.index.layers.len() != before || state.dirty {
            self.write(&mut state)?;
            state.cache.write(&self.root.join("cache.json"));
        }
        let trash = self.root.join("tmp");
        let mut deleted = Vec::new();
        for id in self.layers.list()? {
            if !state.index.layers.contains_key(&id) {
                self.layers.delete(&id, &trash)?;
                deleted.push(id);
            }
        }
        let mut blobs: HashSet<&str> = state.index.images.keys().map(String::as_str).collect();
        blobs.extend(
            state
                .index
                .layers
                .values()
                .filter_map(|l| Some(l.blob.as_ref()?.digest.as_str())),
        );
        for (digest, size) in self.blobs.list()? {
            if !blobs.contains(digest.as_str()) {
                self.blobs.delete(&digest)?;
                freed += size;
            }
        }
        Ok((deleted, freed))
    }

    pub fn prune_build_cache(&self) -> Result<u64, Error> {
        let mut freed = 0;
        {
            let mut state = self.state.lock();
            state.cache.forget_all();
            state.cache.write(&self.root.join("cache.json"));
            // A running step may have one of them mounted.
            if state.busy == 0 {
                let directory = self.cache_mounts();
                freed = tree_size(&directory);
                layers::discard(&directory, &self.root.join("tmp"))?;
            }
        }
        Ok(freed + self.collect_garbage()?)
    }

    /// Holds a directory for every cache mount.
    pub fn cache_mounts(&self) -> PathBuf {
        self.root.join("cache-mounts")
    }
}
