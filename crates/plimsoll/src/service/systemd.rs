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
