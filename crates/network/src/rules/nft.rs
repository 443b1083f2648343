//! The `nft` program: takes a script on its standard input and applies all of it or nothing.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::Error;

/// How much of nft's complaint is worth showing.
const REASON_BYTES_MAX: usize = 600;

/// Runs that are remembered: more than can be waiting to be heard of.
const RUNS_MAX: usize = 256;

/// By what ours are told from others' changes: the latest runs of the program by PID, for it signs with that, and the port of
/// our own way to the kernel.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnRuns(Arc<Mutex<Authors>>);

#[derive(Debug, Default)]
struct Authors {
    runs: VecDeque<u32>,
    port: Option<u32>,
}

impl OwnRuns {
    /// Whether who has signed so is one of us.
    pub fn contains(&self, author: u32) -> bool {
        let authors = self.0.lock();
        authors.port == Some(author) || authors.runs.contains(&author)
    }

    /// What comes from this port is ours from now on.
    pub fn own(&self, port: u32) {
        self.0.lock().port = Some(port);
    }

    fn add(&self, pid: u32) {
        let mut authors = self.0.lock();
        authors.runs.push_back(pid);
        if authors.runs.len() > RUNS_MAX {
            authors.runs.pop_front();
        }
    }
}

/// Finds the program, also where a service manager's PATH leaves out the system directories.
pub(crate) fn find() -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join("nft"))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| Error::Missing {
            what: "the program nft".into(),
            hint: "install the package nftables (apt-get install nftables)".into(),
        })
}

/// Applies `script` in one transaction.
pub(crate) async fn run(
    nft: &Path,
    table: &str,
    script: &str,
    runs: &OwnRuns,
) -> Result<(), Error> {
    let failed = |reason: String| Error::Rules {
        table: table.to_owned(),
        reason,
    };
    let mut child = Command::new(nft)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("{} does not start: {error}", nft.display())))?;
    // Before it has been given anything to do.
    child.id().into_iter().for_each(|pid| runs.add(pid));
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // nft may stop reading at an error; its message says more than "broken pipe".
            let _ = stdin.write_all(script.as_bytes()).await;
        }
    };
    let (_, output) = tokio::join!(write, child.wait_with_output());
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let reason: String = said.trim().chars().take(REASON_BYTES_MAX).collect();
    Err(failed(if reason.is_empty() {
        output.status.to_string()
    } else {
        reason
    }))
}
