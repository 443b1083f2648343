//! `plimsoll up` and `plimsoll down`: the daemon's start and end, as a person sees them.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon;
use crate::instance::Instance;
use crate::settings::Settings;

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);
/// What a container gets to end that does not say; Docker's default.
const STOP_SECONDS: u64 = 10;
/// After this a wait is told.
const PATIENCE: Duration = Duration::from_secs(3);

/// Starts the daemon in the background and returns when it is ready.
/// `config` is the file of settings that was named, which the daemon reads, too.
pub fn up(data_dir: &Path, settings: &Settings, config: Option<&Path>) -> Result<()> {
    let began = Instant::now();
    // the daemon runs in another directory
    let config = config.map(std::path::absolute).transpose()?;
    let instance = Instance::find_or_make(data_dir, settings)?;
    if let Some(pid) = instance.daemon_pid() {
        println!(
            "plimsoll is already up (pid {pid})\n\n{}",
            next_steps(&instance)
        );
        return Ok(());
    }
    fs::create_dir_all(instance.run_dir())?;
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(instance.log())?;
    let log_start = log.metadata()?.len();
    let socket_path = instance
        .run_dir()
        .join(format!("notify-{}", std::process::id()));
    let _ = fs::remove_file(&socket_path);
    let socket = UnixDatagram::bind(&socket_path)
        .with_context(|| format!("cannot listen on {}", socket_path.display()))?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let outcome = start(
        &instance,
        (settings, config.as_deref()),
        &log,
        &socket,
        &socket_path,
    );
    let _ = fs::remove_file(&socket_path);
    match outcome {
        Ok(pid) => {
            let ms = began.elapsed().as_millis();
            println!(
                "plimsoll is up (pid {pid}, {ms} ms)\n\n{}",
                next_steps(&instance)
            );
            Ok(())
        }
        Err(error) => {
            let said = tail_since(&instance.log(), log_start).unwrap_or_default();
            Err(error.context(format!(
                "plimsoll did not start; its log {} says:\n{said}",
                instance.log().display()
            )))
        }
    }
}

fn start(
    instance: &Instance,
    (settings, config): (&Settings, Option<&Path>),
    log: &fs::File,
    socket: &UnixDatagram,
    socket_path: &Path,
) -> Result<u32> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["up", "--foreground", "--data-dir"])
        .arg(&instance.data_dir)
        .arg("--log-file")
        .arg(instance.log())
        .args(settings.flags())
        .args(
            config
                .iter()
                .flat_map(|file| [OsStr::new("--config"), file.as_os_str()]),
        )
        .env("NOTIFY_SOCKET", socket_path)
        .envs(few_arenas())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .current_dir("/")
        // out of the terminal's reach: Ctrl-C in the shell is not meant for the daemon
        .process_group(0);
    let mut child = command.spawn().context("cannot start the daemon")?;
    let deadline = Instant::now() + START;
    let mut buffer = [0; 256];
    while Instant::now() < deadline {
        match socket.recv(&mut buffer) {
            Ok(length) if buffer[..length].starts_with(b"READY=1") => return Ok(child.id()),
            Ok(_) => {}
            Err(_) => {
                if let Some(status) = child.try_wait()? {
                    bail!("the daemon ended with {status}");
                }
            }
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    bail!(
        "the daemon was not ready after {} s and was ended",
        START.as_secs()
    )
}

/// glibc makes up to eight arenas a core, and each keeps what was freed in it: after an hour a third of the daemon's heap.
/// Two are enough for what it does at once; who sets the variable decides otherwise.
fn few_arenas() -> Option<(&'static str, &'static str)> {
    std::env::var_os("MALLOC_ARENA_MAX")
        .is_none()
        .then_some(("MALLOC_ARENA_MAX", "2"))
}

fn next_steps(instance: &Instance) -> String {
    format!(
        "  Kubernetes API   {}   (kubeconfig {})\n  Docker API       unix://{}\n\nUse it from this shell:\n  eval \"$(plimsoll env --data-dir {})\"",
        instance.api_url(),
        instance.kubeconfig().display(),
        instance.docker_socket().display(),
        instance.data_dir.display()
    )
}

fn tail_since(log: &Path, start: u64) -> Result<String> {
    const BYTES: u64 = 64 * 1024;
    let mut file = fs::File::open(log)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(end.saturating_sub(BYTES))))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(12)..].join("\n"))
}

/// Ends the daemon and everything that it runs, containers within `seconds` at most; with `purge` also removes every trace of the
/// instance.
pub fn down(data_dir: &Path, purge: bool, seconds: Option<u64>) -> Result<()> {
    let Some(instance) = Instance::find(data_dir)? else {
        if purge && !data_dir.exists() {
            println!(
                "nothing to do: there is no instance in {}",
                data_dir.display()
            );
            return Ok(());
        }
        Instance::existing(data_dir)?;
        return Ok(());
    };
    let service = crate::service::stop(&instance)?;
    stop("daemon", || instance.starting_pid())?;
    stop("node", || instance.starting_node_pid())?;
    let locks = (daemon::lock(&instance)?, daemon::lock_node(&instance)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(stop_everything(&instance, purge, seconds))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    if purge {
        remove(&instance.run_dir())?;
        remove(&instance.data_dir)?;
    }
    drop(locks);
    println!(
        "{}",
        if purge {
            "plimsoll is down and has left nothing behind"
        } else {
            "plimsoll is down; `plimsoll up` starts everything again"
        }
    );
    if service {
        println!(
            "Its service is stopped and still installed: `systemctl start plimsoll` or the next boot starts it{}. `plimsoll uninstall` removes it.",
            if purge { " anew" } else { "" }
        );
    }
    Ok(())
}

/// Ends a daemon and leaves what it runs, for another one to take over.
pub fn stop_daemon(instance: &Instance) -> Result<()> {
    stop("daemon", || instance.starting_pid())
}

fn stop(what: &str, running: impl Fn() -> Option<u32>) -> Result<()> {
    let Some(pid) = running() else {
        return Ok(());
    };
    let process = Pid::from_raw(i32::try_from(pid)?).context("a pid is not zero")?;
    let _ = kill_process(process, Signal::TERM);
    let deadline = Instant::now() + STOP;
    while running().is_some() {
        if Instant::now() > deadline {
            eprintln!(
                "the {what} (pid {pid}) did not end in {} s; it is killed",
                STOP.as_secs()
            );
            let _ = kill_process(process, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

async fn stop_everything(instance: &Instance, purge: bool, seconds: Option<u64>) -> Result<()> {
    let engine = engine::Engine::open(instance.engine())
        .await
        .context("cannot open the container engine")?;
    let running = engine
        .containers()
        .await
        .into_iter()
        .filter(|c| c.state == engine::State::Running);
    let stops: Vec<_> = running
        .map(|container| {
            let own = container.spec.stop_seconds.unwrap_or(STOP_SECONDS);
            let grace = Duration::from_secs(seconds.map_or(own, |most| own.min(most)));
            let engine = engine.clone();
            async move { engine.stop_container(&container.id, None, grace).await }
        })
        .collect();
    let mut stopping = std::pin::pin!(futures::future::join_all(stops));
    if tokio::time::timeout(PATIENCE, &mut stopping).await.is_err() {
        eprintln!("waiting for containers to end (`plimsoll down --time SECONDS` bounds that)");
        stopping.await;
    }
    for sandbox in engine.sandboxes().await {
        engine
            .stop_sandbox(&sandbox.id)
            .await
            .with_context(|| format!("cannot stop sandbox {}", sandbox.id))?;
    }
    // claims/NAME, volumes/NAME/_data
    let volumes = [
        ("node/pods", None),
        ("claims", Some(1)),
        ("volumes", Some(2)),
    ]
    .map(|(name, volumes_at)| node::HeldVolumes {
        path: instance.data_dir.join(name),
        volumes_at,
    });
    node::release_volumes(&volumes, purge).map_err(|(path, error)| {
        anyhow::anyhow!(error).context(format!("cannot unmount the volumes in {}", path.display()))
    })?;
    if purge {
        engine
            .purge()
            .await
            .context("cannot remove what the engine made")?;
    }
    let images_dir = instance.data_dir.join("images");
    tokio::task::spawn_blocking(move || {
        image::Images::open(images_dir, image::Options::default())?.purge()
    })
    .await?
    .context("cannot unmount the images' snapshots")?;
    // Not opened before: what keeps it from opening (a range that a VPN has taken) shall not keep it from going.
    network::Network::purge_closed(&instance.network(), &network::Options::default())
        .await
        .context("cannot remove what the network made")?;
    Ok(())
}

/// Removes a directory with all in it. The place itself stays where a file system of its own is mounted, with what that file
/// system keeps for itself.
fn remove(directory: &Path) -> Result<()> {
    let removed = if is_mount_point(directory) {
        fs::read_dir(directory).and_then(|entries| {
            for entry in entries {
                let entry = entry?;
                if entry.file_name() == "lost+found" {
                    continue;
                }
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        })
    } else {
        fs::remove_dir_all(directory)
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| {
                format!(
                    "cannot remove {}; what still uses it? (`fuser -vm` tells)",
                    directory.display()
                )
            })
        }
        _ => Ok(()),
    }
}

/// Whether another file system than its parent's begins at the directory.
fn is_mount_point(directory: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    let own = device(directory);
    let parent = directory.parent().and_then(device);
    own.is_some() && parent.is_some() && own != parent
}
