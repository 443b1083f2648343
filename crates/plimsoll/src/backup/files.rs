//! Which files of a data directory are state, and the paths in those that hold some.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// Whether what lies at `path`, relative to the data directory, is left out: made anew at each start, of no use elsewhere,
/// or (the store) taken in another way.
pub fn is_left_out(path: &Path) -> bool {
    let parts: Vec<&str> = path
        .iter()
        .map(|part| part.to_str().unwrap_or_default())
        .collect();
    match parts[..] {
        [name] => {
            name == super::UNFINISHED
                || name == "lost+found"
                || matches!(name, "daemon.lock" | "node.lock")
                || name == "kubeconfig"
                || name.ends_with(".kubeconfig")
                || name.starts_with("daemon.log")
                || name == "store"
        }
        ["images", "lock" | "tmp"] | ["uploads", _] => true,
        // snapshots of builds that are running
        ["images", "snapshots", id] => id.starts_with("tmp-"),
        _ => false,
    }
}

/// Whether of a directory only the directory is taken: the kernel's own, or a mount point.
pub fn is_taken_empty(path: &Path) -> bool {
    let parts: Vec<&str> = path
        .iter()
        .map(|part| part.to_str().unwrap_or_default())
        .collect();
    matches!(parts[..], ["images", "snapshots", _, "work" | "merged"])
}

/// In every JSON file beneath `directory`, paths beneath `from` become paths beneath `to`.
pub fn move_paths(directory: &Path, from: &Path, to: &Path) -> Result<()> {
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        if !directory.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                pending.push(path);
            } else if meta.is_file() && path.extension().is_some_and(|end| end == "json") {
                let wrong = || format!("cannot adapt {}", path.display());
                // a damaged record is the engine's matter
                let Ok(mut value) = serde_json::from_slice::<Value>(&fs::read(&path)?) else {
                    continue;
                };
                move_in(&mut value, &from, &to);
                fs::write(&path, serde_json::to_vec(&value)?).with_context(wrong)?;
            }
        }
    }
    Ok(())
}

fn move_in(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) => {
            if let Some(rest) = text.strip_prefix(from)
                && (rest.is_empty() || rest.starts_with('/'))
            {
                *text = format!("{to}{rest}");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_in(item, from, to)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| move_in(field, from, to)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_state_and_what_is_not() {
        for (path, left_out, empty) in [
            ("instance.json", false, false),
            ("daemon.log", true, false),
            ("daemon.log.1", true, false),
            ("daemon.lock", true, false),
            ("store", true, false),
            ("volumes/store", false, false),
            ("volumes/x/_data/daemon.log", false, false),
            ("images/tmp", true, false),
            ("images/index.json", false, false),
            ("images/snapshots/tmp-1", true, false),
            ("images/snapshots/a", false, false),
            ("images/snapshots/a/upper", false, false),
            ("images/snapshots/a/work", false, true),
            ("images/snapshots/a/merged", false, true),
            ("images/snapshots/a/upper/work", false, false),
        ] {
            let path = Path::new(path);
            assert_eq!(
                (is_left_out(path), is_taken_empty(path)),
                (left_out, empty),
                "{}",
                path.display()
            );
        }
    }

    #[test]
    fn only_whole_parts_of_paths_move() {
        let mut value =
            json!({"a": ["/old/x", "/older/x", "/old", "see /old/x", 1], "b": {"/old": "/old/y"}});
        move_in(&mut value, "/old", "/new/dir");
        assert_eq!(
            value,
            json!({"a": ["/new/dir/x", "/older/x", "/new/dir", "see /old/x", 1], "b": {"/old": "/new/dir/y"}})
        );
    }
}
