//! A stage as far as it is built: configuration, and a digest of everything that led to it.

use super::scope::Scope;
use crate::dockerfile::step::Step;
use crate::model::{ConfigFile, History};
use crate::store::cache::CacheRecord;
use crate::store::durable::digest_of;

#[derive(Clone, Default)]
pub(super) struct StageState {
    pub file: ConfigFile,
    /// Digest over base, steps and their results. Two stages with the same state have the same content.
    pub state: String,
    pub scope: Scope,
    /// Whether this stage has a CMD of its own: ENTRYPOINT drops only an inherited one.
    pub own_cmd: bool,
}

impl StageState {
    /// Key under which the result of a step from here is remembered.
    pub fn key(&self, parts: &[&str]) -> String {
        let mut text = format!("{}\0", self.state);
        for part in parts {
            text.push_str(&format!("{}\0{part}\0", part.len()));
        }
        digest_of(text.as_bytes())
    }

    /// Takes the result of a step in. The step's own result goes into the state: if it is ever run again and gives
    /// something else, what was remembered after it no longer fits.
    pub fn apply(&mut self, step: &Step, key: &str, record: &CacheRecord, created_by: String) {
        self.file.created = Some(record.created.clone());
        self.file.history.push(History {
            created: Some(record.created.clone()),
            created_by: if created_by.is_empty() {
                step.text.clone()
            } else {
                created_by
            },
            empty_layer: record.layer.is_none(),
            ..History::default()
        });
        self.file.rootfs.diff_ids.extend(record.layer.clone());
        let layer = record.layer.as_deref().unwrap_or("");
        self.state = digest_of(format!("{key}\0{layer}\0{}", record.created).as_bytes());
    }

    /// Twelve hex digits that name the state to people.
    pub fn short(&self) -> String {
        self.state
            .trim_start_matches("sha256:")
            .chars()
            .take(12)
            .collect()
    }

    /// The path a relative one means after WORKDIR.
    pub fn absolute(&self, path: &str) -> String {
        let base = if self.file.config.working_dir.is_empty() {
            "/"
        } else {
            &self.file.config.working_dir
        };
        let joined = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{base}/{path}")
        };
        clean_absolute(&joined)
    }
}

/// Lexical cleaning of an absolute path; `..` stops at the root.
pub(super) fn clean_absolute(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
