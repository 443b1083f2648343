//! What can go wrong with images, in words that a person can act on.

use std::path::PathBuf;

/// Why an operation on images failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no image reference.
    #[error("invalid reference format: {reference:?}: {reason}")]
    InvalidReference {
        /// What was given.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing of that name or id is stored here.
    #[error("No such image: {0}")]
    NotFound(String),
    /// The owners of layers cannot be mapped into a user namespace.
    #[error("cannot give the image's files to a user namespace: {0}")]
    Mapping(String),
    /// Several images begin with this id.
    #[error("ambiguous image id {0:?}: several images begin with it, give more digits")]
    Ambiguous(String),
    /// Removal would take the image from a container or another tag.
    #[error("conflict: unable to remove {reference} (must be forced) - {reason}")]
    InUse {
        /// What should have been removed.
        reference: String,
        /// Who uses it.
        reason: String,
    },
    /// The registry has no such repository, tag or digest, or hides it from us.
    #[error("manifest for {0} not found: check the name and tag")]
    RemoteNotFound(String),
    /// The registry wants other credentials.
    #[error(
        "pull access denied for {reference}, repository does not exist or may require authorization: {reason}"
    )]
    Unauthorized {
        /// What was asked for.
        reference: String,
        /// The registry's answer.
        reason: String,
    },
    /// No answer from the registry.
    #[error("registry {registry} is unreachable: {reason}")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// The transport's reason.
        reason: String,
    },
    /// The registry answered with something that is no valid answer.
    #[error("registry {registry} refused or broke off {action}: {reason}")]
    Registry {
        /// Host and port.
        registry: String,
        /// What was asked.
        action: String,
        /// Its answer.
        reason: String,
    },
    /// Content is not what its name promises.
    #[error("digest mismatch for {what}: expected {expected}, got {actual}")]
    DigestMismatch {
        /// Which content.
        what: String,
        /// The digest it was asked for by.
        expected: String,
        /// The digest of what arrived.
        actual: String,
    },
    /// The image index has nothing for the platform.
    #[error("no matching manifest for {platform} in the manifest list entries of {reference}")]
    NoPlatform {
        /// Which image.
        reference: String,
        /// Which platform was wanted.
        platform: String,
    },
    /// An archive entry tries to leave the root, exceeds a bound or cannot be represented.
    #[error("refused archive entry {entry:?}: {reason}")]
    Entry {
        /// Path as written in the archive.
        entry: String,
        /// Why it is refused.
        reason: String,
    },
    /// An archive, manifest or configuration is malformed.
    #[error("{what} is not valid: {reason}")]
    Malformed {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An overlay cannot stack this many layers.
    #[error("image has {0} layers, the limit is 127: flatten it with export and import")]
    TooManyLayers(usize),
    /// A snapshot of that name exists for another image.
    #[error("snapshot {id:?} already exists for image {image}: remove it first")]
    SnapshotExists {
        /// The snapshot.
        id: String,
        /// What it was made from.
        image: String,
    },
    /// No such snapshot.
    #[error("no such snapshot: {0}")]
    NoSnapshot(String),
    /// A snapshot's name would not be a plain directory name.
    #[error("invalid snapshot name {0:?}: letters, digits, '_', '.' and '-' only, at most 200")]
    InvalidSnapshot(String),
    /// Another process has this image directory open.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// The directory was written by a later version.
    #[error("{path} has format {found}, this version reads up to {known}: use a newer plimsoll")]
    NewerFormat {
        /// The index file.
        path: PathBuf,
        /// Its format number.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// A verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
}

impl Error {
    /// Shorthand for [`Error::Io`], to be used in `map_err`.
    pub(crate) fn io<E: Into<std::io::Error>>(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Error {
        let path = path.into();
        move |source| Error::Io {
            action,
            path,
            source: source.into(),
        }
    }

    pub(crate) fn malformed(what: impl Into<String>, reason: impl ToString) -> Error {
        Error::Malformed {
            what: what.into(),
            reason: reason.to_string(),
        }
    }
}
