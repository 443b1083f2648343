//! Container images on this machine: content store, unpacked layers and snapshots, registry client, Dockerfile builder.
//!
//! One directory ([`Images::open`]) holds everything; whoever runs containers asks it for a mounted root
//! ([`Images::prepare`]). Nothing here starts a process: `RUN` steps go through [`engine::runner::Runner`].
#![forbid(unsafe_code)]

mod archive;
mod build;
mod dockerfile;
mod error;
mod images;
mod model;
mod progress;
mod reference;
mod registries;
mod registry;
mod store;
#[cfg(test)]
mod testing;
mod unpack;

pub use build::changes::apply_changes;
pub use build::{BuildError, BuildEvent, BuildRequest};
pub use dockerfile::ignore::IgnorePatterns;
pub use dockerfile::parse::check_dockerfile;
pub use error::Error;
pub use images::{Images, Kept, Options};
pub use model::{
    Auth, ConfigFile, Freed, Healthcheck, History, Image, ImageConfig, Platform, Removed, RootFs,
    Usage,
};
pub use progress::{ProgressSender, PullEvent, silent};
pub use reference::Reference;
pub use registries::{Host, Mirror, Registries};
pub use store::mounts::Owners;
pub use store::snapshots::SnapshotInfo;
pub use unpack::Limits;
