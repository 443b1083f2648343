//! `docker rmi`: names first, then images.

use super::{State, Store};
use crate::error::Error;
use crate::model::{Image, Removed};
use crate::reference::{Reference, is_digest};

impl Store {
    pub fn remove(&self, reference: &str, force: bool) -> Result<Vec<Removed>, Error> {
        let in_use = |reason: String| Error::InUse {
            reference: reference.to_owned(),
            reason,
        };
        let mut removed = Vec::new();
        {
            let mut state = self.state.lock();
            let (id, _) = state.find(reference)?;
            let names = state.names_of(&id);
            let named = names.iter().find(|n| is_name(reference, n)).cloned();
            let last = names.iter().filter(|n| !n.contains('@')).count() <= 1;
            let snapshot = self.user_of(&id);
            match named {
                Some(name) if name.contains('@') || !last => {
                    state.untag(&name, &mut removed);
                    if !state.names_of(&id).is_empty() {
                        self.write(&mut state)?;
                        return Ok(removed);
                    }
                }
                Some(_) => {}
                None if !last && !force => {
                    return Err(in_use(format!(
                        "image is referenced by {}",
                        names.join(", ")
                    )));
                }
                None => {}
            }
            if let Some(snapshot) = snapshot.filter(|_| !force) {
                return Err(in_use(format!(
                    "container or snapshot {snapshot} is using it"
                )));
            }
            state.drop_image(&id, &mut removed);
            self.write(&mut state)?;
        }
        removed.extend(self.collect()?.0.into_iter().map(Removed::Deleted));
        Ok(removed)
    }

    pub fn prune(&self, all: bool, wanted: impl Fn(&Image) -> bool) -> Result<Vec<Removed>, Error> {
        let mut removed = Vec::new();
        {
            let mut state = self.state.lock();
            let ids: Vec<String> = state.index.images.keys().cloned().collect();
            for id in ids {
                let tagged = state.names_of(&id).iter().any(|n| !n.contains('@'));
                let image = state.files.get(&id);
                let image = image.map(|file| state.image(&id, file, state.is_local(&id)));
                // of one that cannot be described nothing is known that would spare it
                let wanted = image.is_none_or(|image| wanted(&image));
                if self.user_of(&id).is_none() && (all || !tagged) && wanted {
                    state.drop_image(&id, &mut removed);
                }
            }
            self.write(&mut state)?;
        }
        removed.extend(self.collect()?.0.into_iter().map(Removed::Deleted));
        Ok(removed)
    }

    fn user_of(&self, id: &str) -> Option<String> {
        let records = self.snapshots.records();
        records
            .into_iter()
            .find(|(_, record)| record.image == id)
            .map(|(name, _)| name)
    }
}

impl State {
    /// Tags and digests of an image.
    fn names_of(&self, id: &str) -> Vec<String> {
        let tags = self
            .index
            .tags
            .iter()
            .filter(|(_, t)| t.id == id)
            .map(|(n, _)| n);
        let digests = self
            .index
            .digests
            .iter()
            .filter(|(_, i)| *i == id)
            .map(|(n, _)| n);
        tags.chain(digests).cloned().collect()
    }

    fn untag(&mut self, name: &str, removed: &mut Vec<Removed>) {
        self.index.tags.remove(name);
        self.index.digests.remove(name);
        removed.push(Removed::Untagged(name.to_owned()));
    }

    pub(super) fn drop_image(&mut self, id: &str, removed: &mut Vec<Removed>) {
        for name in self.names_of(id) {
            self.untag(&name, removed);
        }
        self.index.images.remove(id);
        removed.push(Removed::Deleted(id.to_owned()));
        // Steps that led to this image would otherwise keep its layers on disk for ever.
        if let Some(file) = self.files.remove(id) {
            let kept: std::collections::HashSet<String> =
                self.image_layers().into_iter().map(str::to_owned).collect();
            self.cache
                .forget(|layer| file.rootfs.diff_ids.contains(layer) && !kept.contains(layer));
        }
    }
}

/// Whether the text means this name, and not an id.
fn is_name(text: &str, name: &str) -> bool {
    if is_digest(text) {
        return false;
    }
    Reference::parse(text).is_ok_and(|r| match &r.digest {
        Some(digest) => format!("{}@{digest}", r.familiar_name()) == name,
        None => r.familiar_tag().as_deref() == Some(name),
    })
}
