//! What every test uses: instances, commands with their whole story, polling with a deadline, a search for traces.

mod beside;
mod busy;
mod command;
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

/// A port that was free a moment ago, on every address.
pub fn free_port() -> u16 {
    let socket = TcpListener::bind("0.0.0.0:0").expect("a free port");
    socket.local_addr().expect("an address").port()
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
