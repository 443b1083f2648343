//! What a pull tells while it runs, shaped for `docker pull`'s lines.

use tokio::sync::mpsc;

/// Where a pull or push reports to. Milestones wait for room in the channel, counts are dropped when it is full; a closed
/// channel is ignored.
pub type ProgressSender = mpsc::Sender<PullEvent>;

/// One report. `id` is the first 12 hex digits of the layer's blob digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullEvent {
    /// `TAG: Pulling from REPOSITORY`.
    Pulling {
        /// Tag or digest.
        tag: String,
        /// Repository without registry for Docker Hub.
        repository: String,
    },
    /// `Pulling fs layer`.
    Waiting {
        /// Layer.
        id: String,
    },
    /// `Already exists`.
    Exists {
        /// Layer.
        id: String,
    },
    /// `Downloading`, with counts.
    Downloading {
        /// Layer.
        id: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// `Download complete`.
    Downloaded {
        /// Layer.
        id: String,
    },
    /// `Extracting`, with counts of compressed bytes.
    Extracting {
        /// Layer.
        id: String,
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// `Pull complete`.
    Complete {
        /// Layer.
        id: String,
    },
    /// `Preparing`, `Pushing`, `Pushed`, `Layer already exists`: lines of a push.
    Push {
        /// Layer.
        id: String,
        /// The word.
        status: &'static str,
    },
    /// `Digest: sha256:…`.
    Digest(String),
    /// `TAG: digest: sha256:… size: N`: a manifest is in the registry.
    Pushed {
        /// The tag it has there.
        tag: String,
        /// The manifest's.
        digest: String,
        /// Bytes of the manifest.
        size: u64,
    },
    /// A line of its own.
    Status(String),
}

/// A sender that nobody listens to.
pub fn silent() -> ProgressSender {
    mpsc::channel(1).0
}

/// Sends a milestone.
pub(crate) async fn tell(progress: &ProgressSender, event: PullEvent) {
    // A closed channel means nobody wants to know.
    let _ = progress.send(event).await;
}

/// Sends a count, or drops it when the receiver is slow.
pub(crate) fn tick(progress: &ProgressSender, event: PullEvent) {
    let _ = progress.try_send(event);
}
