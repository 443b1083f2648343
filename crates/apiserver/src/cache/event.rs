//! A change, and its line in the stream of a watch.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use store::Revision;

use crate::object::Object;

/// One change, as every watcher sees it.
pub(crate) struct Event {
    pub revision: Revision,
    /// The object after the change; `None` for a deletion.
    pub current: Option<Arc<Object>>,
    /// The object before the change; `None` for a creation.
    pub previous: Option<Arc<Object>>,
    /// When it came into the window.
    pub(super) seen: Instant,
}

impl Event {
    /// Upstream's event type for a watcher without selectors.
    pub fn kind(&self) -> &'static str {
        match (&self.current, &self.previous) {
            (Some(_), None) => "ADDED",
            (Some(_), Some(_)) => "MODIFIED",
            (None, _) => "DELETED",
        }
    }

    /// What it counts for. The object before is the one after an earlier change, or of one that has gone.
    pub(super) fn bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 500;
        let object = self.current.as_ref().or(self.previous.as_ref());
        OVERHEAD_BYTES + object.map_or(0, |object| object.json_bytes())
    }

    /// The JSON line for a watcher without selectors.
    pub fn frame(&self) -> Bytes {
        match (&self.current, &self.previous) {
            (Some(object), _) => object_frame(self.kind(), object, object.revision),
            (None, Some(object)) => object_frame("DELETED", object, self.revision),
            (None, None) => Bytes::new(),
        }
    }
}

/// One line of a watch stream: the object under `revision`.
pub(crate) fn object_frame(kind: &str, object: &Object, revision: Revision) -> Bytes {
    framed(kind, object.json_bytes(), |out| {
        object.write_json(revision, out);
    })
}

/// One line of a watch stream.
pub(crate) fn frame(kind: &str, json: &[u8]) -> Bytes {
    framed(kind, json.len(), |out| out.extend_from_slice(json))
}

fn framed(kind: &str, bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(bytes + kind.len() + 24);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    write(&mut out);
    out.extend_from_slice(b"}\n");
    Bytes::from(out)
}
