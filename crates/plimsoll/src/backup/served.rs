//! The daemon's part of a backup: over a socket that only root can open it gives the store's snapshot out, and keeps the
//! images whole until the other side hangs up.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Connection;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use image::Images;
use store::embedded::EmbeddedStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::instance::Instance;

/// The store's content, and the connection: while it is open, the daemon deletes nothing of the images.
pub struct Answer {
    pub snapshot: Vec<u8>,
    pub revision: u64,
    _connection: Connection,
}

/// Asks the daemon.
pub fn ask(instance: &Instance) -> Result<Answer> {
    let path = instance.backup_socket();
    let cannot = || {
        format!(
            "cannot ask the daemon for the store's content by {}",
            path.display()
        )
    };
    let mut connection = Connection::connect(&path).with_context(cannot)?;
    let mut number = || -> Result<u64> {
        let mut bytes = [0; 8];
        connection.read_exact(&mut bytes).with_context(cannot)?;
        Ok(u64::from_le_bytes(bytes))
    };
    let (revision, length) = (number()?, number()?);
    let mut snapshot = Vec::new();
    (&connection)
        .take(length)
        .read_to_end(&mut snapshot)
        .with_context(cannot)?;
    anyhow::ensure!(
        snapshot.len() as u64 == length,
        "the daemon's answer was cut off; see its log"
    );
    Ok(Answer {
        snapshot,
        revision,
        _connection: connection,
    })
}

/// Answers until `shutdown`.
pub fn serve(
    path: PathBuf,
    store: Arc<EmbeddedStore>,
    images: Images,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static> {
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("cannot listen on {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((connection, _)) => {
                    let (store, images) = (store.clone(), images.clone());
                    // one at a time: a second backup waits, and memory is bounded
                    tokio::select! {
                        outcome = answer(connection, store, images) => {
                            if let Err(error) = outcome {
                                tracing::warn!(%error, "a backup could not be served");
                            }
                        }
                        () = shutdown.cancelled() => break,
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a backup's connection could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
        let _ = fs::remove_file(&path);
    })
}

async fn answer(
    mut connection: UnixStream,
    store: Arc<EmbeddedStore>,
    images: Images,
) -> Result<()> {
    let _kept = images.keep_everything();
    let taken = store.snapshot();
    let revision = taken.revision();
    drop(store);
    let snapshot = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        taken.write_to(&mut bytes).map(|()| bytes)
    })
    .await??;
    tracing::info!(revision, bytes = snapshot.len(), "a backup is being made");
    connection.write_all(&revision.to_le_bytes()).await?;
    connection
        .write_all(&(snapshot.len() as u64).to_le_bytes())
        .await?;
    connection.write_all(&snapshot).await?;
    drop(snapshot);
    // until it hangs up
    let mut nothing = [0; 1];
    while connection.read(&mut nothing).await? > 0 {}
    tracing::info!(revision, "a backup has ended");
    Ok(())
}
