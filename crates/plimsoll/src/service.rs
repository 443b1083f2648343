//! `plimsoll install` and `plimsoll uninstall`: this program as a service of systemd, with completions and man pages.
//!
//! Everything that is installed is in one list of files ([`files`]), which uninstalling walks backwards. A file that somebody
//! else made is never overwritten or removed. With `--root DIR` the files go beneath a directory (for packages and images), and
//! systemd is not asked for anything.

mod files;
mod systemd;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::instance::Instance;
use crate::settings::Settings;
use systemd::Systemd;

/// How to install.
#[derive(clap::Args)]
pub struct InstallOptions {
    /// Put the files beneath this directory and start nothing
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Install the service without starting it now
    #[arg(long)]
    no_start: bool,
}

/// How to uninstall.
#[derive(clap::Args)]
pub struct UninstallOptions {
    /// Remove the files beneath this directory
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Also remove /etc/plimsoll with the settings
    #[arg(long)]
    settings: bool,
}

/// Puts every file in its place, then enables and starts the service. Installing again brings the files up to date.
pub fn install(options: &InstallOptions) -> Result<ExitCode> {
    let systemd = manager(options.root.as_deref(), "install")?;
    let root = options.root.as_deref().unwrap_or(Path::new("/"));
    let files = files::all()?;
    // all or nothing, as far as can be told beforehand
    for file in &files {
        file.check(root)?;
    }
    for file in &files {
        let what = file.place(root)?;
        println!("{what:<9} {}", file.path_in(root).display());
    }
    let Some(systemd) = systemd else {
        println!("\nEnable it there with: systemctl enable {}", files::UNIT);
        return Ok(ExitCode::SUCCESS);
    };
    systemd.reload()?;
    systemd.enable()?;
    if options.no_start {
        println!("\nStart it with: systemctl start {}", files::UNIT);
        return Ok(ExitCode::SUCCESS);
    }
    hand_over(&systemd)?;
    println!("starting the service");
    systemd.restart()?;
    println!(
        "\nplimsoll runs now and after every boot.\n  state  systemctl status {unit}, plimsoll status\n  log    journalctl -u {unit}\n  use it eval \"$(plimsoll env)\"",
        unit = files::UNIT
    );
    Ok(ExitCode::SUCCESS)
}

/// Ends the service and removes its files. Containers keep running, and the data directory stays: `down --purge` removes them.
pub fn uninstall(options: &UninstallOptions) -> Result<ExitCode> {
    let systemd = manager(options.root.as_deref(), "uninstall")?;
    let root = options.root.as_deref().unwrap_or(Path::new("/"));
    let files = files::all()?;
    if let Some(systemd) = &systemd
        && files::is_ours(&files::unit_path(root))
    {
        systemd.disable()?;
    }
    let mut removed = 0;
    for file in files
        .iter()
        .rev()
        .filter(|file| options.settings || !file.is_settings())
    {
        if file.remove(root)? {
            println!("removed   {}", file.path_in(root).display());
            removed += 1;
        }
    }
    if let Some(systemd) = systemd {
        systemd.reload()?;
    }
    if removed == 0 {
        println!("nothing to do: plimsoll is not installed here");
    } else if options.root.is_none() {
        println!(
            "\nContainers and data are still there. If they are to go as well, run `plimsoll down --purge` with the program that you downloaded or built."
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops the service if it is the instance's. Otherwise systemd would start again what `plimsoll down` ends. Whether it was.
pub fn stop(instance: &Instance) -> Result<bool> {
    let Some(systemd) = Systemd::find() else {
        return Ok(false);
    };
    match systemd.main_pid() {
        Some(pid) if is_of(instance, pid)? => {
            systemd.stop()?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Whether the service, whose process is `pid` (0: none just now), runs this instance.
fn is_of(instance: &Instance, pid: u32) -> Result<bool> {
    if pid != 0 {
        return Ok(instance.starting_pid() == Some(pid));
    }
    // between two starts: by what it would start
    let settings = Settings::read(None)?;
    let directory = crate::instance::data_dir(None, &settings);
    Ok(directory
        .canonicalize()
        .is_ok_and(|directory| directory == instance.data_dir))
}

/// Ends a daemon that `plimsoll up` started on the service's data directory; its containers run on.
fn hand_over(systemd: &Systemd) -> Result<()> {
    let settings = Settings::read(None)?;
    let directory = crate::instance::data_dir(None, &settings);
    if let Some(instance) = Instance::find(&directory)?
        && let Some(pid) = instance.starting_pid()
        && systemd.main_pid() != Some(pid)
    {
        println!(
            "ending the daemon that runs (pid {pid}); the service goes on with its containers"
        );
        crate::up::stop_daemon(&instance)?;
    }
    Ok(())
}

/// The service manager of this machine; none for another root.
fn manager(root: Option<&Path>, verb: &str) -> Result<Option<Systemd>> {
    if root.is_some() {
        return Ok(None);
    }
    if !rustix::process::geteuid().is_root() {
        bail!("`plimsoll {verb}` needs root: it changes /usr/local and /etc. Run it with sudo");
    }
    match Systemd::find() {
        Some(systemd) => Ok(Some(systemd)),
        None => bail!(
            "this machine is not run by systemd. Let your service manager run `plimsoll up --foreground` (it must kill that process only, not its children), or see what would be installed with `plimsoll {verb} --root DIR`"
        ),
    }
}
