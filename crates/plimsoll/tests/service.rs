//! `plimsoll install` and `uninstall` beneath another root, and the verbs that print completions and man pages.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn plimsoll(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plimsoll"))
        .args(arguments)
        .output()
        .expect("it runs")
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn root() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("plimsoll-install-")
        .tempdir()
        .expect("a directory")
}

fn files_beneath(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("readable").flatten() {
        if entry.path().is_dir() {
            found.extend(files_beneath(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_installed_is_complete_and_goes_again() {
    let root = root();
    let path = root.path().to_str().expect("text");
    let output = plimsoll(&["install", "--root", path]);
    assert!(output.status.success(), "{}", said(&output));

    let binary = root.path().join("usr/local/bin/plimsoll");
    assert_eq!(
        fs::metadata(&binary).expect("there").permissions().mode() & 0o777,
        0o755
    );
    let version = Command::new(&binary)
        .arg("--version")
        .output()
        .expect("it runs");
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("plimsoll "));

    let unit = root.path().join("etc/systemd/system/plimsoll.service");
    let text = fs::read_to_string(&unit).expect("there");
    for line in [
        "KillMode=process",
        "Delegate=yes",
        "Type=notify",
        "ExecStart=/usr/local/bin/plimsoll up --foreground",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
    }
    let man = root.path().join("usr/local/share/man/man1");
    for page in ["plimsoll.1", "plimsoll-up.1", "plimsoll-doctor.1"] {
        assert!(man.join(page).is_file(), "{page}");
    }

    // the user's settings survive an upgrade; everything else is brought up to date
    let settings = root.path().join("etc/plimsoll/config.yaml");
    fs::write(&settings, "maxPods: 20\n").expect("written");
    fs::write(&unit, text.replace("RestartSec=1", "RestartSec=9")).expect("written");
    let output = plimsoll(&["install", "--root", path]);
    assert!(said(&output).contains("updated"), "{}", said(&output));
    assert_eq!(
        fs::read_to_string(&settings).expect("there"),
        "maxPods: 20\n"
    );
    assert_eq!(fs::read_to_string(&unit).expect("there"), text);

    let output = plimsoll(&["uninstall", "--root", path]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(files_beneath(root.path()), std::slice::from_ref(&settings));
    let output = plimsoll(&["uninstall", "--settings", "--root", path]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(files_beneath(root.path()), Vec::<PathBuf>::new());
    assert!(!root.path().join("etc/plimsoll").exists());
    let again = plimsoll(&["uninstall", "--root", path]);
    assert!(said(&again).contains("nothing to do"), "{}", said(&again));
}

#[test]
fn what_others_made_is_not_touched() {
    let root = root();
    let path = root.path().to_str().expect("text");
    let unit = root.path().join("etc/systemd/system/plimsoll.service");
    fs::create_dir_all(unit.parent().expect("a directory")).expect("made");
    fs::write(&unit, "[Service]\nExecStart=/opt/other\n").expect("written");
    let output = plimsoll(&["install", "--root", path]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("was not made by `plimsoll install`"),
        "{}",
        said(&output)
    );
    assert_eq!(
        files_beneath(root.path()),
        std::slice::from_ref(&unit),
        "nothing half done"
    );
    plimsoll(&["uninstall", "--root", path]);
    assert!(unit.is_file());
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let analyze = Path::new("/usr/bin/systemd-analyze");
    if !analyze.is_file() {
        eprintln!("systemd-analyze is missing: the unit is checked by its lines only");
        return;
    }
    let root = root();
    let path = root.path().to_str().expect("text");
    assert!(plimsoll(&["install", "--root", path]).status.success());
    // `verify` wants the program that the unit names: one in the root
    let unit = root.path().join("etc/systemd/system/plimsoll.service");
    let text = fs::read_to_string(&unit).expect("there");
    let own = root.path().join("usr/local/bin/plimsoll");
    let text = text.replace("/usr/local/bin/plimsoll", own.to_str().expect("text"));
    let checked = root.path().join("plimsoll.service");
    fs::write(&checked, text).expect("written");
    let output = Command::new(analyze)
        .args(["verify", "--man=no"])
        .arg(&checked)
        .output()
        .expect("it runs");
    // it speaks of other units of the machine too
    let words = said(&output);
    let about_ours: Vec<&str> = words
        .lines()
        .filter(|line| line.contains("plimsoll.service"))
        .collect();
    assert!(about_ours.is_empty(), "{about_ours:?}");
}

#[test]
fn without_root_or_systemd_it_says_what_to_do() {
    if Path::new("/run/systemd/system").is_dir() {
        return;
    }
    let output = plimsoll(&["install"]);
    assert_eq!(output.status.code(), Some(1));
    let words = said(&output);
    assert!(
        words.contains("is not run by systemd") || words.contains("needs root"),
        "{words}"
    );
}

#[test]
fn completions_and_man_pages_are_printed() {
    for (shell, part) in [
        ("bash", "_plimsoll()"),
        ("zsh", "#compdef plimsoll"),
        ("fish", "complete -c plimsoll"),
    ] {
        let output = plimsoll(&["completions", shell]);
        assert!(
            output.status.success() && said(&output).contains(part),
            "{shell}"
        );
    }
    // bash itself finds nothing wrong with them
    let script = plimsoll(&["completions", "bash"]).stdout;
    let directory = root();
    let file = directory.path().join("completions");
    fs::write(&file, script).expect("written");
    let bash = Command::new("bash")
        .arg("-n")
        .arg(&file)
        .output()
        .expect("bash");
    assert!(bash.status.success(), "{}", said(&bash));
    assert!(said(&plimsoll(&["man"])).contains(".TH plimsoll 1"));
}

#[test]
fn a_wrong_settings_file_is_told_with_its_place() {
    let directory = root();
    let file = directory.path().join("config.yaml");
    fs::write(&file, "apiPort: 6443\nmaxPod: 3\n").expect("written");
    let output = plimsoll(&["--config", file.to_str().expect("text"), "status"]);
    assert_eq!(output.status.code(), Some(1));
    let words = said(&output);
    for part in ["config.yaml", "maxPod", "line 2"] {
        assert!(words.contains(part), "{part} is not in {words}");
    }
    let output = plimsoll(&["--config", "/nowhere/config.yaml", "status"]);
    assert!(
        said(&output).contains("cannot read /nowhere/config.yaml"),
        "{}",
        said(&output)
    );
}
