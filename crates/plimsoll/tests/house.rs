//! The house rules of DESIGN.md that a test can check: which crate may use which, where `unsafe` may be, and that every crate says
//! what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Who may use whom. `plimsoll` may use all; what is not listed uses none of the others.
const EDGES: &[(&str, &[&str])] = &[
    ("apiserver", &["autoscale", "quota", "store"]),
    ("node", &["engine", "image", "network"]),
    ("docker", &["engine", "image", "network"]),
    ("image", &["engine"]),
    ("controllers", &["autoscale", "quota"]),
    ("metrics", &["autoscale"]),
];
/// Uses all, is used by none.
const TOP: &str = "plimsoll";
/// The only one that talks to the kernel in ways that need it.
const UNSAFE: &str = "engine";

struct Crate {
    directory: PathBuf,
    /// `src/lib.rs` or `src/main.rs`.
    root: PathBuf,
    dependencies: BTreeSet<String>,
}

fn workspace() -> BTreeMap<String, Crate> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let member = |package: &Value| {
        let dependencies = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter();
        // null: a normal dependency; those of tests are free
        let ours = dependencies
            .filter(|d| d["kind"] != "dev" && d["path"].is_string())
            .map(|d| text(&d["name"]));
        let targets = package["targets"].as_array().expect("targets");
        let root = ["lib", "bin"].iter().find_map(|kind| {
            targets
                .iter()
                .find(|t| t["kind"][0] == *kind && !text(&t["src_path"]).contains("/tests/"))
        });
        let directory = Path::new(&text(&package["manifest_path"]))
            .parent()
            .expect("a directory")
            .to_owned();
        let root = PathBuf::from(text(&root.expect("a library or a program")["src_path"]));
        (
            text(&package["name"]),
            Crate {
                directory,
                root,
                dependencies: ours.collect(),
            },
        )
    };
    packages.iter().map(member).collect()
}

#[test]
fn no_crate_uses_one_that_it_may_not() {
    let workspace = workspace();
    assert!(workspace.len() > 10, "{:?}", workspace.keys());
    let mut wrong = Vec::new();
    for (name, member) in &workspace {
        let allowed = EDGES
            .iter()
            .find(|(from, _)| from == name)
            .map_or(&[][..], |(_, to)| to);
        for used in &member.dependencies {
            if used == TOP || (name != TOP && !allowed.contains(&used.as_str())) {
                wrong.push(format!("{name} → {used}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "edges that DESIGN.md §2 does not allow: {wrong:?}"
    );
    let image = &workspace["image"];
    for file in sources(&image.directory.join("src")) {
        let text = std::fs::read_to_string(&file).expect("text");
        for used in text.split("engine::").skip(1) {
            assert!(
                used.starts_with("runner"),
                "image may use the engine's runner only: {}",
                file.display()
            );
        }
    }
}

#[test]
fn unsafe_code_is_forbidden_everywhere_but_in_the_engine() {
    for (name, member) in &workspace() {
        let text = std::fs::read_to_string(&member.root).expect("text");
        let forbidden = text
            .lines()
            .any(|line| line.trim() == "#![forbid(unsafe_code)]");
        assert!(
            forbidden || name == UNSAFE,
            "{} lacks #![forbid(unsafe_code)]",
            member.root.display()
        );
    }
}

#[test]
fn every_crate_begins_by_saying_what_it_is() {
    for member in workspace().values() {
        let text = std::fs::read_to_string(&member.root).expect("text");
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("//! ") && first.len() > 20,
            "{} begins with {first:?}",
            member.root.display()
        );
    }
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
