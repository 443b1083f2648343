//! A process whose input and output the caller holds: the result of `exec` and `attach`.

use crate::error::Error;
use crate::status::ExitStatus;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, watch};

/// One more process in a running container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecSpec {
    pub argv: Vec<String>,
    /// Added to the container's environment; same names override.
    pub env: Vec<String>,
    /// Empty means the container's own.
    pub cwd: String,
    /// Empty means the container's own.
    pub user: String,
    pub tty: bool,
    pub stdin: bool,
    pub privileged: bool,
}

/// A piece of output; with a terminal everything is `Stdout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
}

pub(crate) type Exit = Option<Result<ExitStatus, String>>;

/// A running process (`exec`) or the connection to one (`attach`). Dropping it closes its input and output, not the process.
pub struct Process {
    /// Input; drop it (or shut it down) to send end of file.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Ends when the process and everything that holds its output have closed it. Bounded: a slow reader slows the process.
    pub output: mpsc::Receiver<Output>,
    /// Process id in the host's pid namespace, for `exec`.
    pub pid: Option<u32>,
    pub(crate) resizer: Resizer,
    pub(crate) exit: watch::Receiver<Exit>,
}

/// Changes the size of a process's terminal; a clone outlives the parts of a `Process` that were moved out.
#[derive(Clone)]
pub struct Resizer(pub(crate) Arc<dyn Fn(u16, u16) -> Resizing + Send + Sync>);

type Resizing = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

impl Resizer {
    /// Sets the terminal's size; no effect without a terminal.
    pub async fn resize(&self, cols: u16, rows: u16) -> Result<(), Error> {
        (self.0)(cols, rows).await
    }
}

impl Process {
    /// Sets the terminal's size; no effect without a terminal. The future does not borrow this value.
    pub fn resize(
        &self,
        cols: u16,
        rows: u16,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let resizer = self.resizer.clone();
        async move { resizer.resize(cols, rows).await }
    }

    /// A handle that resizes and outlives this value.
    pub fn resizer(&self) -> Resizer {
        self.resizer.clone()
    }

    /// Waits for the process to end; its output may still be arriving. The future does not borrow this value.
    pub fn wait(&self) -> impl Future<Output = Result<ExitStatus, Error>> + Send + use<> {
        let mut exit = self.exit.clone();
        async move {
            let gone = |reason: String| Error::Supervisor {
                sandbox: String::new(),
                reason,
            };
            let value = exit
                .wait_for(Option::is_some)
                .await
                .map(|value| value.clone());
            match value {
                Ok(Some(Ok(status))) => Ok(status),
                Ok(Some(Err(reason))) => Err(gone(reason)),
                Ok(None) | Err(_) => Err(gone("went away before the process ended".into())),
            }
        }
    }
}
