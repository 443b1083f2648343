//! Files that go in and out of containers and volumes, and archives to send.

use std::io::Read;
use std::path::Path;

use serde_json::json;

use super::instance::{Instance, sleeper};

/// Name, type, and content or target.
pub fn tar(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        let regular = *kind == tar::EntryType::Regular;
        header.set_size(if regular { text.len() as u64 } else { 0 });
        if !regular {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_cksum();
        builder
            .append(&header, if regular { text.as_bytes() } else { b"" })
            .expect("written");
    }
    builder.into_inner().expect("an archive")
}

pub const FILE: tar::EntryType = tar::EntryType::Regular;
pub const LINK: tar::EntryType = tar::EntryType::Symlink;

pub fn files_go_in_and_out(instance: &Instance) {
    let id = instance.create(sleeper());
    let archive = format!("/containers/{id}/archive?path=");
    for running in [false, true] {
        if running {
            instance.done("POST", &format!("/containers/{id}/start"));
        }
        let sent = instance.ask(
            "PUT",
            &format!("{archive}/tmp"),
            &tar(&[
                ("hello", FILE, "in"),
                ("etc", LINK, "/etc"),
                ("out", LINK, "../../../../../../etc"),
            ]),
        );
        assert_eq!(sent.status, 200, "running={running}: {}", sent.text());
        let got = instance.ask("GET", &format!("{archive}/tmp/hello"), b"");
        assert!(
            got.head
                .to_lowercase()
                .contains("x-docker-container-path-stat: "),
            "{}",
            got.head
        );
        let mut unpacked = tar::Archive::new(got.body.as_slice());
        let mut entry = unpacked
            .entries()
            .expect("entries")
            .next()
            .expect("one")
            .expect("valid");
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("read");
        assert_eq!(
            (entry.path_bytes().as_ref(), text.as_str()),
            (&b"hello"[..], "in")
        );
        // links are the container's own: they lead nowhere else
        instance.ask(
            "PUT",
            &format!("{archive}/tmp/out"),
            &tar(&[("planted-by-plimsoll-test", FILE, "x")]),
        );
        assert!(!Path::new("/etc/planted-by-plimsoll-test").exists());
        for (path, status) in [
            ("/nowhere", 404),
            ("/../../etc/shadow", 400),
            ("/tmp/hello/x", 404),
        ] {
            assert_eq!(
                instance.ask("GET", &format!("{archive}{path}"), b"").status,
                status,
                "{path}"
            );
        }
        assert_eq!(
            instance.ask("HEAD", &format!("{archive}/tmp"), b"").status,
            200
        );
        assert_eq!(
            instance
                .ask("PUT", &format!("{archive}/tmp"), b"no archive")
                .status,
            400
        );
        assert_eq!(
            instance
                .ask("PUT", &format!("{archive}/tmp/hello"), &tar(&[]))
                .status,
            400,
            "a file is no directory"
        );
        assert_eq!(
            instance
                .ask("PUT", &format!("{archive}/nowhere"), &tar(&[]))
                .status,
            404
        );
    }
    instance.done("DELETE", &format!("/containers/{id}?force=1"));
}

pub fn volumes_outlive_containers(instance: &Instance) {
    let with = |command: &str| json!({ "Image": "busybox:static", "Cmd": ["sh", "-c", command], "HostConfig": { "Binds": ["kept:/data"] } });
    let run = |command: &str| {
        let id = instance.create(with(command));
        instance.done("POST", &format!("/containers/{id}/start"));
        (
            instance
                .ask("POST", &format!("/containers/{id}/wait"), b"")
                .json()["StatusCode"]
                .clone(),
            id,
        )
    };
    let (code, first) = run("echo kept >/data/file");
    assert_eq!(code, 0);
    assert_eq!(instance.ask("DELETE", "/volumes/kept", b"").status, 409);
    let (code, second) = run("grep -q kept /data/file");
    assert_eq!(code, 0);
    let mounts = instance
        .ask("GET", &format!("/containers/{second}/json"), b"")
        .json()["Mounts"]
        .clone();
    assert_eq!(
        (&mounts[0]["Type"], &mounts[0]["Name"]),
        (&json!("volume"), &json!("kept"))
    );
    for id in [first, second] {
        instance.done("DELETE", &format!("/containers/{id}"));
    }
    assert_eq!(
        instance.ask("GET", "/volumes", b"").json()["Volumes"][0]["Name"],
        "kept"
    );
    instance.done("DELETE", "/volumes/kept");
    assert_eq!(instance.ask("DELETE", "/volumes/kept", b"").status, 404);
}
