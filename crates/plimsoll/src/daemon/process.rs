//! What belongs to the process, whatever roles it has: its lock, its name for the machine, its limits, its end.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::instance::{Instance, start_time};

/// How long a start waits for the data directory's lock.
const LOCK: Duration = Duration::from_secs(3);
/// Roles get this long to end what they do.
const FAREWELL: Duration = Duration::from_secs(5);

/// An exclusive lock on the data directory for what the daemon keeps there, held as long as the returned file.
pub fn lock(instance: &Instance) -> Result<fs::File> {
    lock_file(instance, &instance.lock_file(), "plimsoll")
}

/// The same for what the node keeps there: in the daemon's process, or in one of its own.
pub fn lock_node(instance: &Instance) -> Result<fs::File> {
    lock_file(instance, &instance.node_lock_file(), "node of plimsoll")
}

/// Writes into a lock that this process holds who it is, so that it can be found before it is ready.
pub fn sign(mut lock: &fs::File) -> Result<()> {
    lock.set_len(0)?;
    lock.write_all(own_name().as_bytes())?;
    Ok(())
}

/// This process for ever: its PID and its start.
fn own_name() -> String {
    let pid = std::process::id();
    format!("{pid} {}\n", start_time(pid).unwrap_or_default())
}

fn lock_file(instance: &Instance, path: &Path, what: &str) -> Result<fs::File> {
    fs::create_dir_all(instance.run_dir())?;
    // who holds it has written into it
    let mut options = fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    let open = || {
        options
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))
    };
    let mut file = open()?;
    // a daemon that was killed lets the lock go only when its last thread has ended, a moment after its PID is gone
    let deadline = Instant::now() + LOCK;
    loop {
        let taken =
            rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
        // the one that was waited for may have removed the whole instance
        if taken && is_at(&file, path) {
            return Ok(file);
        }
        if taken {
            instance.still_there()?;
            file = open()?;
            continue;
        }
        if Instant::now() >= deadline {
            bail!(
                "another {what} is running on {}; see `plimsoll status`, end it with `plimsoll down`",
                instance.data_dir.display()
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the file is the one that its path names.
fn is_at(file: &fs::File, path: &Path) -> bool {
    let one = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let named = fs::metadata(path).map(one).ok();
    named.is_some() && named == file.metadata().map(one).ok()
}

/// Writes who this process is, tells the starter that it is ready, waits for SIGTERM, SIGINT or the end of a role, and ends
/// the roles.
pub async fn live(
    mut roles: JoinSet<()>,
    shutdown: &CancellationToken,
    pid_file: Option<&Path>,
) -> Result<()> {
    if let Some(file) = pid_file {
        write_private(file, &own_name())?;
    }
    notify("READY=1");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        // Half of a daemon would look alive and do nothing.
        ended = roles.join_next() => Some(match ended {
            Some(Err(error)) => format!("a role ended: {error}"),
            _ => "a role ended, see above".to_owned(),
        }),
    };
    tracing::info!("stopping; containers keep running");
    notify("STOPPING=1");
    shutdown.cancel();
    let _ = tokio::time::timeout(FAREWELL, async {
        while roles.join_next().await.is_some() {}
    })
    .await;
    failed.map_or(Ok(()), |why| {
        Err(anyhow::anyhow!("{why}; start the daemon again"))
    })
}

/// Writes a file that only its owner may read. One that says the same is left alone: a start must not need space on the disk.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    if std::fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let directory = path.parent().context("a file has a directory")?;
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Names a Node as kubelets do: the host's name in lower case.
pub fn node_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_lowercase();
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let name: String = name
        .chars()
        .map(|c| if valid(c) { c } else { '-' })
        .collect();
    let name = name.trim_matches(['-', '.']).to_owned();
    if name.is_empty() {
        "localhost".into()
    } else {
        name
    }
}

/// Tells whoever started this process, in systemd's way.
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let sent = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|socket| socket.send_to(state.as_bytes(), Path::new(&path)));
    if let Err(error) = sent {
        tracing::warn!(%error, "the starter could not be told {state}");
    }
}

/// Every container costs descriptors; the soft limit of 1024 is for programs that use select().
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn the_lock_tells_who_starts_and_is_not_had_of_what_is_removed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-lock-")
            .tempdir()
            .expect("directory");
        let data_dir = directory.path().join("data");
        let instance = Instance::find_or_make(&data_dir, &Settings::default()).expect("made");
        let held = lock(&instance).expect("locked");
        assert_eq!(instance.starting_pid(), None, "nobody has signed");
        sign(&held).expect("signed");
        assert_eq!(instance.starting_pid(), Some(std::process::id()));
        let waiting = {
            let instance = instance.clone();
            std::thread::spawn(move || lock(&instance))
        };
        std::thread::sleep(Duration::from_millis(200));
        fs::remove_dir_all(&data_dir).expect("removed");
        drop(held);
        let error = waiting.join().expect("no panic").expect_err("removed");
        let _ = fs::remove_dir_all(instance.run_dir());
        assert!(error.to_string().contains("has been removed"), "{error}");
    }
}
