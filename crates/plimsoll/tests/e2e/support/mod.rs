//! What every test uses: instances, commands with their whole story, polling with a deadline, a search for traces.

mod beside;
mod busy;
mod command;
mod disk;
mod images;
mod instance;
mod manifests;
mod poll;
mod process;
mod root;
mod space;
mod terminal;
mod traces;
pub mod written;

pub use beside::{Beside, NO_SIGNER, skipped_apart, skipped_beside};
pub use busy::Busy;
pub use command::{Ran, Run};
pub use images::{client_image, remove_shared, shared, stand_in_image, with_images};
pub use instance::Instance;
pub use manifests::pod;
pub use poll::{deadline, eventually};
pub use process::{Etcd, Process, role, role_with};
pub use root::Root;
pub use space::{Space, context};
pub use terminal::Terminal;
pub use traces::Traces;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .canonicalize()
        .expect("the repository")
        .join(path)
}

/// Held by tests that load the machine until their autoscaler reacts: two at once would take the processors from each other's pods.
pub fn alone() -> MutexGuard<'static, ()> {
    static LOAD: Mutex<()> = Mutex::new(());
    // a test that failed is no reason for the next one not to run
    LOAD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port that was free a moment ago, on every address: one of those that the kernel gives to no connection, and this program to
/// nobody else.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    let ports = || first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
    std::iter::repeat_with(ports)
        .take(10_000)
        .map(|n| 20_000 + u16::try_from(n).expect("below 10 000"))
        .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .expect("a free port")
}

/// Asserts that `text` holds `part`, and shows both if not.
#[track_caller]
pub fn holds(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in:\n{text}");
}

/// Asserts that `text` does not hold `part`.
#[track_caller]
pub fn lacks(text: &str, part: &str) {
    assert!(!text.contains(part), "{part:?} is in:\n{text}");
}
