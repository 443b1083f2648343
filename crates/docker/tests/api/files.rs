//! Files into containers and images.

use std::io::Write;

use serde_json::{Value, json};

use super::instance::{IMAGE, Instance};

/// An archive with one file.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    archive
        .append_data(&mut header, name, content)
        .expect("an entry");
    let mut bytes = archive.into_inner().expect("an archive");
    bytes.flush().expect("written");
    bytes
}

pub fn a_volume_of_a_read_only_container_takes_files(instance: &Instance) {
    let id = instance.started(json!({
        "Image": IMAGE, "Cmd": ["sleep", "1000"], "Volumes": { "/data": {} }, "HostConfig": { "ReadonlyRootfs": true },
    }));
    let put = |path: &str| {
        let path = format!("/containers/{id}/archive?path={path}");
        instance.ask("PUT", &path, &archive("file", b"content"))
    };
    let taken = put("/data");
    assert_eq!(taken.status, 200, "{}", taken.text());
    let there = instance.ask(
        "GET",
        &format!("/containers/{id}/archive?path=/data/file"),
        b"",
    );
    assert_eq!(there.status, 200, "{}", there.text());
    let refused = put("/etc");
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("read-only"), "{}", refused.text());
    instance.done("POST", &format!("/containers/{id}/stop?t=0"));
    assert_eq!(put("/etc").status, 403);
    instance.remove(&id);
}

pub fn an_import_takes_changes(instance: &Instance) {
    let import = |changes: &str| {
        let path = format!("/images/create?fromSrc=-&repo=imported&tag=1{changes}");
        instance.ask("POST", &path, &archive("file", b"content"))
    };
    let reply = import("&changes=CMD%20%5B%22%2Ffile%22%5D&changes=ENV%20A%3Db");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let image: Value = instance.get("/images/imported:1/json");
    assert_eq!(image["Config"]["Cmd"], json!(["/file"]));
    assert_eq!(image["Config"]["Env"], json!(["A=b"]));
    assert_eq!(import("&changes=RUN%20true").status, 400);
    instance.done("DELETE", "/images/imported:1");
}
