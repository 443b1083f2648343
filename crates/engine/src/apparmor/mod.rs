//! AppArmor: the profile that confines containers by default, and which profiles the kernel has.
//!
//! The profile belongs to the instance, by name: made and loaded before the first container that needs it, put back when
//! somebody unloaded it, and unloaded by purge. Where the kernel has no AppArmor nothing here does anything.

mod profile;

use crate::records::Layout;
use crate::spec::Security;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
const REMOVE: &str = "/sys/kernel/security/apparmor/.remove";
const PARSER: &str = "apparmor_parser";
/// Where it is looked for beside `PATH`, which need not have the directories of the administrator's programs.
const PARSER_PLACES: &str = "/sbin:/usr/sbin";
/// Compiling the profile takes some milliseconds; under emulation a few seconds.
const PARSER_TIME_MAX: Duration = Duration::from_secs(60);
/// Asks for no profile at all.
pub const UNCONFINED: &str = "unconfined";

/// What AppArmor can do on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppArmor {
    /// The kernel has none, it is switched off, or its file system is not mounted.
    Absent,
    /// Profiles that others load can be had; the default one cannot be made without `apparmor_parser`.
    WithoutParser,
    Ready,
}

/// Looks at the machine as it is now.
pub fn app_armor() -> AppArmor {
    let enabled = fs::read_to_string(ENABLED).is_ok_and(|text| text.starts_with('Y'));
    if !enabled || !Path::new(PROFILES).exists() {
        AppArmor::Absent
    } else if parser().is_none() {
        AppArmor::WithoutParser
    } else {
        AppArmor::Ready
    }
}

/// Whether the kernel has a profile of this name. Without AppArmor it has none.
///
/// Errors: the kernel's list cannot be read.
pub fn app_armor_profile_loaded(name: &str) -> io::Result<bool> {
    match fs::read_to_string(PROFILES) {
        Ok(text) => Ok(text.lines().any(|line| profile::name_of(line) == name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a container asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    Nothing,
    Default,
    Named(&'a str),
}

/// A privileged container has no profile unless it names one, as with Docker.
pub fn wanted(security: &Security) -> Wanted<'_> {
    match security.app_armor_profile.as_str() {
        UNCONFINED => Wanted::Nothing,
        "" if security.privileged => Wanted::Nothing,
        "" => Wanted::Default,
        name => Wanted::Named(name),
    }
}

/// The profile that its processes get, by a runtime child: the daemon has seen to it that it is loaded.
pub fn of(security: &Security, layout: &Layout) -> Option<String> {
    match wanted(security) {
        Wanted::Nothing => None,
        Wanted::Named(name) => Some(name.to_owned()),
        Wanted::Default => fs::read_to_string(layout.default_profile()).ok(),
    }
}

/// The default profile of one instance.
pub struct DefaultProfile {
    name: String,
    /// File that tells runtime children its name while it is loaded.
    note: PathBuf,
    /// Whether this process has loaded its own text; held while that is done.
    current: tokio::sync::Mutex<bool>,
}

impl DefaultProfile {
    pub fn of(instance: &str, layout: &Layout) -> DefaultProfile {
        DefaultProfile {
            name: format!("{instance}-default"),
            note: layout.default_profile(),
            current: tokio::sync::Mutex::new(false),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sees to it that what a container asks for is loaded.
    ///
    /// Errors: why it cannot be, in the words of runc and dockerd.
    pub async fn provide(&self, security: &Security) -> Result<(), String> {
        match wanted(security) {
            Wanted::Nothing => Ok(()),
            Wanted::Default => self.load().await,
            Wanted::Named(name) if app_armor() == AppArmor::Absent => Err(format!(
                "AppArmor is not supported on this host, but the profile '{name}' was specified"
            )),
            Wanted::Named(name) => match app_armor_profile_loaded(name) {
                Ok(true) => Ok(()),
                Ok(false) => Err(format!(
                    "unable to apply apparmor profile: apparmor failed to apply profile: write \
                     /proc/thread-self/attr/apparmor/exec: no such file or directory: the profile {name:?} is not loaded"
                )),
                Err(error) => Err(format!("cannot read {PROFILES}: {error}")),
            },
        }
    }

    /// Loads it unless it is there: the first time always, since another version may have loaded another text.
    pub async fn load(&self) -> Result<(), String> {
        let state = app_armor();
        if state == AppArmor::Absent {
            return Ok(());
        }
        let mut current = self.current.lock().await;
        let loaded = app_armor_profile_loaded(&self.name)
            .map_err(|error| format!("cannot read {PROFILES}: {error}"))?;
        if state == AppArmor::WithoutParser {
            return self.tell(loaded);
        }
        if !*current || !loaded {
            let daemon = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
            let daemon = match profile::name_of(&daemon) {
                "" => UNCONFINED,
                name => name,
            };
            parse(&profile::text(&self.name, daemon))
                .await
                .map_err(|reason| {
                    format!(
                        "AppArmor enabled on system but the {} profile could not be loaded: {reason}",
                        self.name
                    )
                })?;
            tracing::info!(profile = self.name, "AppArmor confines containers");
            *current = true;
        }
        self.tell(true)
    }

    /// Unloads it. What still has it is confined no longer.
    pub fn remove(&self) -> io::Result<()> {
        if !app_armor_profile_loaded(&self.name)? {
            return Ok(());
        }
        // In one write, without a newline: the kernel takes all of it for the name.
        let mut file = File::options().write(true).open(REMOVE)?;
        match file.write_all(self.name.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn tell(&self, loaded: bool) -> Result<(), String> {
        let known = fs::read_to_string(&self.note).is_ok_and(|name| name == self.name);
        let done = match (loaded, known) {
            (true, true) | (false, false) => Ok(()),
            (true, false) => fs::write(&self.note, &self.name),
            (false, true) => fs::remove_file(&self.note),
        };
        done.map_err(|error| format!("cannot change {}: {error}", self.note.display()))
    }
}

/// Compiles a profile and gives it to the kernel, in place of one of the same name.
async fn parse(text: &str) -> Result<(), String> {
    let parser = parser().ok_or("there is no apparmor_parser")?;
    let shown = |what: &str| format!("running '{} -Kr' failed{what}", parser.display());
    let mut command = tokio::process::Command::new(&parser);
    command.args(["-K", "-r"]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = async {
        let mut child = command.kill_on_drop(true).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(PARSER_TIME_MAX, run).await {
        Ok(output) => output.map_err(|error| shown(&format!(": {error}")))?,
        Err(_) => return Err(shown(&format!(": not done after {PARSER_TIME_MAX:?}"))),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(shown(&format!(
        " with output: {}: {}",
        said.trim().replace('\n', "; "),
        output.status
    )))
}

fn parser() -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(PARSER_PLACES.split(':'))
        .filter(|dir| dir.starts_with('/'))
        .map(|dir| Path::new(dir).join(PARSER))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_confined_by_what() {
        for (profile, privileged, expected) in [
            ("", false, Wanted::Default),
            ("", true, Wanted::Nothing),
            ("unconfined", false, Wanted::Nothing),
            ("unconfined", true, Wanted::Nothing),
            ("mine", false, Wanted::Named("mine")),
            ("mine", true, Wanted::Named("mine")),
        ] {
            let security = Security {
                app_armor_profile: profile.into(),
                privileged,
                ..Security::default()
            };
            assert_eq!(wanted(&security), expected, "{profile:?} {privileged}");
        }
    }
}
