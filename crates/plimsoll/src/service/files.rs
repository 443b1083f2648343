//! What is installed where, and how each file gets there and goes again.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap_complete::Shell;

use crate::manual;

/// The service's name.
pub const UNIT: &str = "plimsoll.service";

const BINARY_PATH: &str = "usr/local/bin/plimsoll";
const UNIT_DIR: &str = "etc/systemd/system";
const SETTINGS_PATH: &str = "etc/plimsoll/config.yaml";
const MAN_DIR: &str = "usr/local/share/man/man1";
const COMPLETIONS: [(Shell, &str); 3] = [
    (
        Shell::Bash,
        "usr/local/share/bash-completion/completions/plimsoll",
    ),
    (Shell::Zsh, "usr/local/share/zsh/site-functions/_plimsoll"),
    (
        Shell::Fish,
        "usr/local/share/fish/vendor_completions.d/plimsoll.fish",
    ),
];

/// One file of the installation.
pub struct File {
    /// Without the leading slash.
    path: PathBuf,
    content: Content,
    mode: u32,
}

enum Content {
    /// This very program.
    Program,
    /// Ours to write again.
    Text(Vec<u8>),
    /// The user's once it is there.
    Settings(&'static str),
}

/// All of them, the program first.
pub fn all() -> Result<Vec<File>> {
    let text = |path: PathBuf, content: Vec<u8>| File {
        path,
        content: Content::Text(content),
        mode: 0o644,
    };
    let mut files = vec![
        File {
            path: BINARY_PATH.into(),
            content: Content::Program,
            mode: 0o755,
        },
        File {
            path: SETTINGS_PATH.into(),
            content: Content::Settings(include_str!("../settings.yaml")),
            mode: 0o600,
        },
        text(
            Path::new(UNIT_DIR).join(UNIT),
            include_bytes!("plimsoll.service").to_vec(),
        ),
    ];
    for (shell, path) in COMPLETIONS {
        files.push(text(path.into(), manual::completions_of(shell)));
    }
    for (name, content) in manual::all_pages()? {
        files.push(text(Path::new(MAN_DIR).join(name), content));
    }
    Ok(files)
}

/// Where the service's unit lies.
pub fn unit_path(root: &Path) -> PathBuf {
    root.join(UNIT_DIR).join(UNIT)
}

impl File {
    pub fn path_in(&self, root: &Path) -> PathBuf {
        root.join(&self.path)
    }

    pub fn is_settings(&self) -> bool {
        matches!(self.content, Content::Settings(_))
    }

    /// Refuses to overwrite what is not a file, or another owner's unit.
    pub fn check(&self, root: &Path) -> Result<()> {
        let path = self.path_in(root);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
            Ok(meta) if !meta.is_file() => bail!(
                "{} is there and is not a plain file: move it away, then install again",
                path.display()
            ),
            Ok(_) if self.path.starts_with(UNIT_DIR) && !is_ours(&path) => bail!(
                "{} was not made by `plimsoll install`: move it away, then install again",
                path.display()
            ),
            Ok(_) => Ok(()),
        }
    }

    /// Puts it in place, whole or not at all; says what was done.
    pub fn place(&self, root: &Path) -> Result<&'static str> {
        let path = self.path_in(root);
        let directory = path.parent().context("a file has a directory")?;
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let before = fs::read(&path).ok();
        let program;
        let content: &[u8] = match &self.content {
            Content::Settings(_) if before.is_some() => return Ok("kept"),
            Content::Settings(text) => text.as_bytes(),
            Content::Text(text) => text,
            Content::Program => {
                let own = std::env::current_exe().context("where is this program?")?;
                program =
                    fs::read(&own).with_context(|| format!("cannot read {}", own.display()))?;
                &program
            }
        };
        if before.as_deref() == Some(content) {
            return Ok("unchanged");
        }
        let mut temporary = tempfile::Builder::new()
            .prefix(".plimsoll-")
            .permissions(fs::Permissions::from_mode(self.mode))
            .tempfile_in(directory)
            .with_context(|| format!("cannot write to {}", directory.display()))?;
        temporary.write_all(content)?;
        temporary
            .as_file()
            .set_permissions(fs::Permissions::from_mode(self.mode))?;
        temporary.as_file().sync_all()?;
        temporary
            .persist(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(if before.is_some() {
            "updated"
        } else {
            "installed"
        })
    }

    /// Removes it if it is there; says whether it was. Of another owner's unit nothing is touched.
    pub fn remove(&self, root: &Path) -> Result<bool> {
        let path = self.path_in(root);
        if self.path.starts_with(UNIT_DIR) && path.exists() && !is_ours(&path) {
            return Ok(false);
        }
        match fs::remove_file(&path) {
            Ok(()) => {
                if self.is_settings() {
                    // the directory is ours; it stays if somebody put something else there
                    let _ = path.parent().map(fs::remove_dir);
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
        }
    }
}

/// Whether a unit is there that `plimsoll install` made.
pub fn is_ours(unit: &Path) -> bool {
    fs::read_to_string(unit).is_ok_and(|text| text.contains("plimsoll up --foreground"))
}
