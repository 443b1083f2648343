//! Requests and build contexts that nobody means well with.

use std::io::{Read, Write};
use std::path::Path;

use serde_json::json;

use super::files::{FILE, LINK, tar};
use super::instance::Instance;

pub fn requests(instance: &Instance) {
    let huge = format!("{{\"Image\":\"{}\"}}", "x".repeat(5 << 20));
    for (method, path, body, status, says) in [
        ("POST", "/containers/create", "{", 400, "invalid JSON"),
        ("POST", "/containers/create", "[]", 400, "invalid JSON"),
        (
            "POST",
            "/containers/create",
            "{\"Image\":7}",
            400,
            "invalid JSON",
        ),
        (
            "POST",
            "/containers/create",
            "{\"Image\":\"busybox:static\",\"Env\":\"A=B\"}",
            400,
            "invalid JSON",
        ),
        (
            "POST",
            "/containers/create",
            "{\"Image\":\"busybox:static\",\"HostConfig\":{\"Memory\":99999999999999999999999}}",
            400,
            "invalid JSON",
        ),
        (
            "POST",
            "/containers/create",
            "{}",
            400,
            "no image specified",
        ),
        (
            "POST",
            "/containers/create",
            "{\"Image\":\"busybox:static\",\"Cmd\":[\"true\"],\"HostConfig\":{\"Binds\":[\"../x:/y\"]}}",
            400,
            "invalid characters",
        ),
        (
            "POST",
            "/containers/create",
            "{\"Image\":\"busybox:static\",\"Cmd\":[\"true\"],\"HostConfig\":{\"PortBindings\":{\"99999/tcp\":[{}]}}}",
            400,
            "invalid port",
        ),
        (
            "POST",
            "/containers/create?name=..%2F..%2Fx",
            "{\"Image\":\"busybox:static\",\"Cmd\":[\"true\"]}",
            400,
            "Invalid container name",
        ),
        (
            "POST",
            "/containers/create",
            huge.as_str(),
            413,
            "larger than",
        ),
        (
            "POST",
            "/containers/create",
            "{\"Image\":\"none:1\"}",
            404,
            "No such image: none:1",
        ),
        (
            "GET",
            "/containers/none/json",
            "",
            404,
            "No such container: none",
        ),
        (
            "GET",
            "/containers/json?filters=%7B",
            "",
            400,
            "invalid filters",
        ),
        (
            "GET",
            "/containers/json?limit=many",
            "",
            400,
            "not a number",
        ),
        ("GET", "/v1.99/info", "", 400, "too new"),
        ("GET", "/v1.1/info", "", 400, "too old"),
        ("GET", "/nowhere", "", 404, "page not found"),
        (
            "DELETE",
            "/volumes/..%2F..%2Fdata",
            "",
            404,
            "no such volume",
        ),
        (
            "POST",
            "/volumes/create",
            "{\"Name\":\"../x\"}",
            400,
            "invalid characters",
        ),
        ("POST", "/exec/none/start", "{}", 404, "No such exec"),
        (
            "POST",
            "/images/create?fromImage=UPPER%20CASE",
            "",
            200,
            "invalid reference",
        ),
        ("POST", "/images/load", "this is no archive", 500, ""),
    ] {
        let reply = instance.ask(method, path, body.as_bytes());
        let text = reply.text();
        let shown = &body[..body.len().min(80)];
        assert!(
            (reply.status == status || path.starts_with("/images")) && text.contains(says),
            "{method} {path} {shown}: {} {text}",
            reply.status
        );
        assert!(
            reply.status != 200 || text.contains("error"),
            "{method} {path}: {text}"
        );
    }
    assert_eq!(
        instance.ask("GET", "/containers/json?all=1", b"").json(),
        json!([]),
        "nothing was left by what was refused"
    );
    // no HTTP at all
    let mut stream = instance.connect();
    stream
        .write_all(b"\x00\xff\x16\x03 hello\r\n\r\n")
        .expect("sent");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(
        instance.ask("GET", "/_ping", b"").head.contains("200"),
        "and the daemon lives"
    );
}

pub fn contexts(instance: &Instance) {
    let dockerfile = ("Dockerfile", FILE, "FROM busybox:static\nCOPY . /context\n");
    for (what, entries) in [
        ("climbs", vec![dockerfile, ("../climbed", FILE, "x")]),
        (
            "is a device",
            vec![dockerfile, ("null", tar::EntryType::Char, "")],
        ),
        (
            "links to what is outside",
            vec![
                dockerfile,
                ("hard", tar::EntryType::Link, "../../instance.json"),
            ],
        ),
    ] {
        let reply = instance.ask("POST", "/build?t=hostile", &tar(&entries));
        assert!(
            reply.status == 400 && reply.text().contains("build context"),
            "an entry that {what}: {} {}",
            reply.status,
            reply.text()
        );
    }
    let data = instance.data();
    let absolute = data.to_string_lossy().into_owned();
    // links are kept as links: neither the unpacking nor COPY goes through them
    let reply = instance.ask(
        "POST",
        "/build?t=linked",
        &tar(&[
            dockerfile,
            ("out", LINK, absolute.as_str()),
            ("out/planted", FILE, "x"),
            ("/rooted", FILE, "x"),
        ]),
    );
    assert!(
        !data.join("planted").exists() && !Path::new("/rooted").exists(),
        "{}",
        reply.text()
    );
    assert!(
        !instance
            .ask("POST", "/build?t=x", b"no archive")
            .text()
            .contains("Successfully")
    );
    let left: Vec<_> = std::fs::read_dir(data.join("uploads"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
