//! From names to images.

use std::collections::HashSet;
use std::sync::Arc;

use super::{State, Store, TagRecord};
use crate::error::Error;
use crate::model::{ConfigFile, Image};
use crate::reference::{Reference, is_digest};

impl State {
    pub(super) fn is_local(&self, id: &str) -> bool {
        let mut tags = self.index.tags.values().filter(|t| t.id == id).peekable();
        match tags.peek() {
            Some(_) => tags.any(|t| t.local),
            // Only a pull by digest leaves an image without a tag but with a digest.
            None => !self.index.digests.values().any(|d| d == id),
        }
    }

    pub(super) fn image(&self, id: &str, file: &Arc<ConfigFile>, local: bool) -> Image {
        let tags = self
            .index
            .tags
            .iter()
            .filter(|(_, t)| t.id == id)
            .map(|(n, _)| n.clone())
            .collect();
        let digests = self
            .index
            .digests
            .iter()
            .filter(|(_, i)| *i == id)
            .map(|(n, _)| n.clone())
            .collect();
        let sizes = file.rootfs.diff_ids.iter().collect::<HashSet<_>>();
        let size_bytes = sizes
            .iter()
            .filter_map(|l| self.index.layers.get(*l))
            .map(|l| l.size)
            .sum();
        let created = file.created.as_deref().and_then(|t| t.parse().ok());
        Image {
            id: id.to_owned(),
            tags,
            digests,
            config: file.config.clone(),
            architecture: file.architecture.clone(),
            os: file.os.clone(),
            created: created.unwrap_or(jiff::Timestamp::UNIX_EPOCH),
            size_bytes,
            local,
            file: ConfigFile::clone(file),
        }
    }

    /// Layers that some image is made of.
    pub(super) fn image_layers(&self) -> HashSet<&str> {
        self.files
            .values()
            .flat_map(|f| &f.rootfs.diff_ids)
            .map(String::as_str)
            .collect()
    }

    /// Id and whether the name that led to it was set here.
    pub(super) fn find(&self, reference: &str) -> Result<(String, bool), Error> {
        let missing = || Error::NotFound(reference.to_owned());
        if is_digest(reference) {
            let id = self
                .index
                .images
                .get_key_value(reference)
                .ok_or_else(missing)?
                .0;
            return Ok((id.clone(), self.is_local(id)));
        }
        let parsed = Reference::parse(reference);
        if let Ok(name) = &parsed
            && let Some(found) = self.find_name(name)
        {
            return Ok(found);
        }
        let hex = reference.strip_prefix("sha256:").unwrap_or(reference);
        let is_hex = !hex.is_empty() && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex {
            return parsed.and_then(|_| Err(missing()));
        }
        let prefix = format!("sha256:{hex}");
        let mut ids = self
            .index
            .images
            .keys()
            .filter(|id| id.starts_with(&prefix));
        match (ids.next(), ids.next()) {
            (Some(id), None) => Ok((id.clone(), self.is_local(id))),
            (Some(_), Some(_)) => Err(Error::Ambiguous(reference.to_owned())),
            (None, _) => Err(missing()),
        }
    }

    fn find_name(&self, name: &Reference) -> Option<(String, bool)> {
        if let Some(digest) = &name.digest {
            let key = format!("{}@{digest}", name.familiar_name());
            let known = self.index.digests.get(&key).cloned();
            // `name@sha256:…` with an image's own id is accepted as Docker does.
            let id = known.or_else(|| {
                let id = self
                    .index
                    .images
                    .contains_key(digest)
                    .then(|| digest.clone())?;
                let prefix = format!("{}:", name.familiar_name());
                let named = self
                    .index
                    .tags
                    .iter()
                    .any(|(t, r)| r.id == id && t.starts_with(&prefix));
                named.then_some(id)
            })?;
            return Some((id, false));
        }
        let tag = self.index.tags.get(&name.familiar_tag()?)?;
        Some((tag.id.clone(), tag.local))
    }
}

impl Store {
    pub fn resolve(&self, reference: &str) -> Result<Image, Error> {
        let state = self.state.lock();
        let (id, local) = state.find(reference)?;
        let file = state
            .files
            .get(&id)
            .ok_or_else(|| Error::NotFound(reference.to_owned()))?;
        Ok(state.image(&id, file, local))
    }

    pub fn list(&self) -> Vec<Image> {
        let state = self.state.lock();
        let mut images: Vec<Image> = state
            .files
            .iter()
            .map(|(id, file)| state.image(id, file, state.is_local(id)))
            .collect();
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        images
    }

    pub fn tag(&self, source: &str, target: &str) -> Result<(), Error> {
        let name = local_tag(target)?;
        let mut state = self.state.lock();
        let (id, _) = state.find(source)?;
        state.index.tags.insert(name, TagRecord { id, local: true });
        self.write(&mut state)
    }

    /// Remembers by which `name@digest` a registry has an image. One that is gone meanwhile needs none.
    pub fn add_digest(&self, name: String, id: &str) -> Result<(), Error> {
        let mut state = self.state.lock();
        if !state.index.images.contains_key(id) {
            return Ok(());
        }
        state.index.digests.insert(name, id.to_owned());
        self.write(&mut state)
    }
}

/// Short `name:tag` for a name that is to be set here.
pub(crate) fn local_tag(text: &str) -> Result<String, Error> {
    let bad = |reason: &str| Error::InvalidReference {
        reference: text.to_owned(),
        reason: reason.to_owned(),
    };
    let name = Reference::parse(text)?;
    if name.digest.is_some() {
        return Err(bad("a digest cannot be set, only a tag"));
    }
    name.familiar_tag().ok_or_else(|| bad("a tag is needed"))
}
