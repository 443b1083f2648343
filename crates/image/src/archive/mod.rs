//! Images in and out of tar archives.

pub(crate) mod commit;
pub(crate) mod import;
pub(crate) mod layer;
pub(crate) mod load;
pub(crate) mod manifest;
pub(crate) mod save;
