//! When each image came here and was used last: `uses.json`, written now and then. What a crash takes of it is a few minutes of
//! knowledge about what is old.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store::durable;

/// Of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Use {
    /// First seen here.
    pub since: Timestamp,
    /// A container of it was made or ended.
    pub last: Timestamp,
}

pub(crate) struct Uses {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    uses: BTreeMap<String, Use>,
    dirty: bool,
}

impl Uses {
    /// A damaged or missing file is an empty one: images are then as old as this start.
    pub fn read(root: &Path) -> Self {
        let path = root.join("uses.json");
        let uses = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let state = State { uses, dirty: false };
        Self {
            path,
            state: Mutex::new(state),
        }
    }

    /// The image is being used.
    pub fn note(&self, id: &str, now: Timestamp) {
        let mut state = self.state.lock();
        let entry = state.uses.entry(id.to_owned()).or_insert(Use {
            since: now,
            last: now,
        });
        // a clock that was set back does not make an image older than it is
        entry.last = entry.last.max(now);
        state.dirty = true;
    }

    /// Of these images, which are all that there are; one that was not known is new.
    pub fn of<'a>(
        &self,
        ids: impl Iterator<Item = &'a String>,
        now: Timestamp,
    ) -> BTreeMap<String, Use> {
        let mut state = self.state.lock();
        let fresh = Use {
            since: now,
            last: now,
        };
        let uses: BTreeMap<String, Use> = ids
            .map(|id| (id.clone(), state.uses.get(id).copied().unwrap_or(fresh)))
            .collect();
        if uses != state.uses {
            state.uses.clone_from(&uses);
            state.dirty = true;
        }
        uses
    }

    /// When this image was used last.
    pub fn last(&self, id: &str) -> Option<Timestamp> {
        self.state.lock().uses.get(id).map(|one| one.last)
    }

    /// Writes the file if something changed.
    pub fn write(&self) -> Result<(), Error> {
        let bytes = {
            let mut state = self.state.lock();
            if !std::mem::take(&mut state.dirty) {
                return Ok(());
            }
            serde_json::to_vec(&state.uses)
                .map_err(|error| Error::malformed(self.path.display().to_string(), error))?
        };
        let written = durable::write_atomic(&self.path, &bytes);
        if written.is_err() {
            self.state.lock().dirty = true;
        }
        written
    }
}
