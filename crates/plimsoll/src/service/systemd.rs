//! systemd, by its command.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::files::UNIT;

/// A machine that systemd runs (sd_booted(3)).
pub struct Systemd;

impl Systemd {
    pub fn find() -> Option<Self> {
        Path::new("/run/systemd/system").is_dir().then_some(Self)
    }

    pub fn reload(&self) -> Result<()> {
        systemctl(&["daemon-reload"])
    }

    pub fn enable(&self) -> Result<()> {
        systemctl(&["enable", UNIT])
    }

    pub fn restart(&self) -> Result<()> {
        systemctl(&["restart", UNIT]).with_context(|| {
            format!("the service is installed but does not start: see `journalctl -u {UNIT}` and `plimsoll doctor`")
        })
    }

    /// Ends the service; it starts again at the next boot.
    pub fn stop(&self) -> Result<()> {
        systemctl(&["stop", UNIT])
    }

    /// The service's process (0 where it has none just now), if it runs or is to be started again.
    pub fn main_pid(&self) -> Option<u32> {
        let shown = Command::new("systemctl")
            .args(["show", "-p", "ActiveState,MainPID", UNIT])
            .output()
            .ok()?;
        let shown = String::from_utf8_lossy(&shown.stdout);
        let property = |name: &str| {
            let mut lines = shown.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        let active = property("ActiveState").is_some_and(|state| {
            matches!(
                state,
                "active" | "activating" | "reloading" | "deactivating"
            )
        });
        active.then(|| property("MainPID")?.parse().ok()).flatten()
    }

    /// Ends the service and keeps it from being started again.
    pub fn disable(&self) -> Result<()> {
        systemctl(&["disable", "--now", UNIT])
    }
}

fn systemctl(arguments: &[&str]) -> Result<()> {
    let shown = format!("systemctl {}", arguments.join(" "));
    let output = Command::new("systemctl")
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed ({}): {}", output.status, said.trim());
    }
    Ok(())
}
