//! A kind as requests hold it: a row of the table, or a kind that a CustomResourceDefinition describes.

use std::ops::Deref;
use std::sync::Arc;

use super::Kind;

/// Reads like the [`Kind`] that it stands for. Copying one of the table costs nothing, a custom one a count.
#[derive(Clone)]
pub enum KindRef {
    /// A row of the table.
    BuiltIn(&'static Kind),
    /// One of a CustomResourceDefinition. It stays usable for whoever holds it when the definition changes or goes.
    Custom(Arc<Kind>),
}

impl Deref for KindRef {
    type Target = Kind;

    fn deref(&self) -> &Kind {
        match self {
            KindRef::BuiltIn(kind) => kind,
            KindRef::Custom(kind) => kind,
        }
    }
}

impl From<&'static Kind> for KindRef {
    fn from(kind: &'static Kind) -> Self {
        KindRef::BuiltIn(kind)
    }
}
