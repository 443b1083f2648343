//! The Docker Engine API of a daemon of its own, asked byte by byte: what the docker command never sends, and what it relies on.
//! (What a user sees of the docker command itself is tested in `e2e`.)

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PLIMSOLL: &str = env!("CARGO_BIN_EXE_plimsoll");
/// Nothing here takes nearly so long; a hang shall fail, not hang.
const PATIENCE: Duration = Duration::from_secs(60);

struct Instance {
    directory: tempfile::TempDir,
    socket: PathBuf,
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Instance {
    fn up() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-api-")
            .tempdir()
            .expect("a directory");
        let mut instance = Self {
            directory,
            socket: PathBuf::new(),
        };
        instance.start();
        let file =
            std::fs::read_to_string(instance.data().join("instance.json")).expect("instance.json");
        let file: Value = serde_json::from_str(&file).expect("JSON");
        instance.socket = Path::new("/run")
            .join(file["name"].as_str().expect("name"))
            .join("docker.sock");
        instance.plimsoll(&["import", "/bin/busybox", "busybox:static", "--busybox"]);
        instance
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn start(&self) {
        let data = self.data();
        self.plimsoll(&["up", "--data-dir", data.to_str().expect("UTF-8")]);
    }

    #[track_caller]
    fn plimsoll(&self, arguments: &[&str]) -> String {
        let ran = Command::new(PLIMSOLL)
            .args(arguments)
            .env("PLIMSOLL_DATA_DIR", self.data())
            .output()
            .expect("plimsoll");
        let (out, err) = (
            String::from_utf8_lossy(&ran.stdout),
            String::from_utf8_lossy(&ran.stderr),
        );
        assert!(ran.status.success(), "plimsoll {arguments:?}: {out}{err}");
        out.into_owned()
    }

    fn kill_daemon(&self) {
        let status: Value =
            serde_json::from_str(&self.plimsoll(&["status", "-o", "json"])).expect("JSON");
        let pid = i32::try_from(status["pid"].as_u64().expect("a pid")).expect("a pid");
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).expect("a pid"),
            rustix::process::Signal::KILL,
        )
        .expect("killed");
        eventually("the daemon to be gone", || {
            !Path::new(&format!("/proc/{pid}/exe")).exists()
        });
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Sends a request and reads nothing.
    fn send(&self, method: &str, path: &str, body: &[u8]) -> UnixStream {
        let mut stream = self.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        // a refusal may come before the body has been taken
        let _ = stream.write_all(body);
        stream
    }

    /// Attaches as the docker command does, and reads as far as the headers' end: now the server listens.
    fn attach(&self, id: &str) -> UnixStream {
        let mut stream = self.connect();
        let head = format!(
            "POST /containers/{id}/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("headers");
            answer.push(byte[0]);
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        stream
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        answer(self.send(method, path, body))
    }

    #[track_caller]
    fn create(&self, configuration: Value) -> String {
        let reply = self.ask(
            "POST",
            "/containers/create",
            configuration.to_string().as_bytes(),
        );
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["Id"].as_str().expect("an ID").to_owned()
    }

    #[track_caller]
    fn done(&self, method: &str, path: &str) {
        let reply = self.ask(method, path, b"");
        assert!(
            (200..305).contains(&reply.status),
            "{method} {path}: {} {}",
            reply.status,
            reply.text()
        );
    }

    fn gone(&self, id: &str) -> bool {
        self.ask("GET", &format!("/containers/{id}/json"), b"")
            .status
            == 404
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let down = Command::new(PLIMSOLL)
            .args(["down", "--purge", "--data-dir"])
            .arg(self.data())
            .output();
        if !down.is_ok_and(|ran| ran.status.success()) && !std::thread::panicking() {
            panic!("the instance could not be removed");
        }
    }
}

impl Reply {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

fn answer(mut stream: UnixStream) -> Reply {
    let mut bytes = Vec::new();
    // a server that refuses does not read the rest of the body: the kernel tells that once, and then what was answered
    while let Err(error) = stream.read_to_end(&mut bytes) {
        assert!(
            error.kind() == std::io::ErrorKind::ConnectionReset,
            "no answer before patience ended: {error}"
        );
    }
    let at = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer: {bytes:?}"));
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let body = bytes[at + 4..].to_vec();
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
        unchunked(&body)
    } else {
        body
    };
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status");
    Reply { status, head, body }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(at) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..at])
            .ok()
            .and_then(|text| usize::from_str_radix(text, 16).ok())
            .unwrap_or(0);
        if size == 0 || bytes.len() < at + 2 + size {
            break;
        }
        whole.extend_from_slice(&bytes[at + 2..at + 2 + size]);
        bytes = bytes.get(at + 4 + size..).unwrap_or_default();
    }
    whole
}

#[track_caller]
fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Name, type, and content or target.
fn tar(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
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

const FILE: tar::EntryType = tar::EntryType::Regular;
const LINK: tar::EntryType = tar::EntryType::Symlink;

fn sleeper() -> Value {
    json!({ "Image": "busybox:static", "Cmd": ["sleep", "1000"] })
}

/// All against one daemon: starting one takes longer than any of them.
#[test]
fn the_api() {
    let instance = Arc::new(Instance::up());
    hostile_requests(&instance);
    hostile_contexts(&instance);
    a_failed_start_is_told_to_everybody(&instance);
    attached_output_is_complete(&instance);
    files_go_in_and_out(&instance);
    volumes_outlive_containers(&instance);
    ten_at_once(&instance);
    a_client_that_goes_away_leaves_nothing(&instance);
    a_killed_daemon_finds_its_containers(&instance);
}

fn hostile_requests(instance: &Instance) {
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

fn hostile_contexts(instance: &Instance) {
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

fn a_failed_start_is_told_to_everybody(instance: &Instance) {
    for auto_remove in [false, true] {
        let id = instance.create(json!({ "Image": "busybox:static", "Cmd": ["nosuch"], "HostConfig": { "AutoRemove": auto_remove } }));
        let mut attached = instance.attach(&id);
        let waits = ["next-exit", "removed"].map(|condition| {
            instance.send(
                "POST",
                &format!("/containers/{id}/wait?condition={condition}"),
                b"",
            )
        });
        // headers come at once: now it is known that both listen
        for wait in &waits {
            wait.set_nonblocking(false).expect("blocking");
            let mut first = [0; 1];
            (&*wait).read_exact(&mut first).expect("headers");
        }
        let start = instance.ask("POST", &format!("/containers/{id}/start"), b"");
        assert!(
            start.status == 400 && start.text().contains("executable file not found"),
            "{} {}",
            start.status,
            start.text()
        );
        let mut output = Vec::new();
        attached
            .read_to_end(&mut output)
            .expect("the connection's end");
        assert!(output.is_empty(), "{output:?}");
        if !auto_remove {
            let inspected = instance
                .ask("GET", &format!("/containers/{id}/json"), b"")
                .json();
            assert_eq!(
                (
                    &inspected["State"]["ExitCode"],
                    &inspected["State"]["Status"]
                ),
                (&json!(127), &json!("created"))
            );
            instance.done("DELETE", &format!("/containers/{id}"));
        }
        for mut wait in waits {
            let mut text = String::new();
            wait.read_to_string(&mut text).expect("an answer");
            assert!(
                text.contains("{\"StatusCode\":127}"),
                "auto_remove={auto_remove}: {text}"
            );
        }
        eventually("the container to be gone", || instance.gone(&id));
    }
}

fn attached_output_is_complete(instance: &Instance) {
    let id = instance.create(json!({ "Image": "busybox:static", "Cmd": ["seq", "1", "20000"], "HostConfig": { "AutoRemove": true } }));
    let mut attached = instance.attach(&id);
    instance.done("POST", &format!("/containers/{id}/start"));
    let mut frames = Vec::new();
    attached
        .read_to_end(&mut frames)
        .expect("the end of the output");
    let (mut rest, mut text) = (frames.as_slice(), Vec::new());
    while let Some((header, content)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        text.extend_from_slice(&content[..length]);
        rest = &content[length..];
    }
    let want: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert!(
        text == want.as_bytes(),
        "{} bytes of {}",
        text.len(),
        want.len()
    );
    eventually("the removal", || instance.gone(&id));
}

fn files_go_in_and_out(instance: &Instance) {
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

fn volumes_outlive_containers(instance: &Instance) {
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

fn ten_at_once(instance: &Arc<Instance>) {
    let threads: Vec<_> = (0..10)
        .map(|_| {
            let instance = instance.clone();
            std::thread::spawn(move || {
                let id = instance.create(sleeper());
                instance.done("POST", &format!("/containers/{id}/start"));
                id
            })
        })
        .collect();
    let ids: Vec<String> = threads
        .into_iter()
        .map(|thread| thread.join().expect("started"))
        .collect();
    assert_eq!(
        instance
            .ask("GET", "/containers/json", b"")
            .json()
            .as_array()
            .map(Vec::len),
        Some(10)
    );
    let mut addresses: Vec<Value> = ids
        .iter()
        .map(|id| {
            instance
                .ask("GET", &format!("/containers/{id}/json"), b"")
                .json()["NetworkSettings"]["IPAddress"]
                .clone()
        })
        .collect();
    addresses.sort_by_key(Value::to_string);
    addresses.dedup();
    assert_eq!(addresses.len(), 10);
    // the same name ten times: one gets it
    let threads: Vec<_> = (0..10)
        .map(|_| {
            let instance = instance.clone();
            std::thread::spawn(move || {
                instance
                    .ask(
                        "POST",
                        "/containers/create?name=only-one",
                        sleeper().to_string().as_bytes(),
                    )
                    .status
            })
        })
        .collect();
    let codes: Vec<u16> = threads
        .into_iter()
        .map(|thread| thread.join().expect("answered"))
        .collect();
    assert_eq!(
        (
            codes.iter().filter(|code| **code == 201).count(),
            codes.iter().filter(|code| **code == 409).count()
        ),
        (1, 9),
        "{codes:?}"
    );
    for id in ids.iter().map(String::as_str).chain(["only-one"]) {
        instance.done("DELETE", &format!("/containers/{id}?force=1"));
    }
}

fn a_client_that_goes_away_leaves_nothing(instance: &Instance) {
    // in the middle of a build's step
    let context = tar(&[(
        "Dockerfile",
        FILE,
        "FROM busybox:static\nRUN echo begun; sleep 1000\n",
    )]);
    let mut build = instance.send("POST", "/build?t=abandoned", &context);
    let mut seen = String::new();
    while !seen.contains("begun\\n") {
        let mut piece = [0; 1024];
        let length = build.read(&mut piece).expect("output");
        assert!(length > 0, "the build ended: {seen}");
        seen += &String::from_utf8_lossy(&piece[..length]);
    }
    drop(build);
    eventually("the step to end", || {
        let uploads = std::fs::read_dir(instance.data().join("uploads"))
            .into_iter()
            .flatten()
            .count();
        let sandboxes = std::fs::read_dir(instance.data().join("engine/sandboxes"))
            .into_iter()
            .flatten()
            .count();
        uploads == 0 && sandboxes == 0
    });
    // between attaching and starting: only the record of the container stays
    let id = instance.create(sleeper());
    drop(instance.attach(&id));
    instance.done("DELETE", &format!("/containers/{id}"));
    // in the middle of an upload
    let mut upload = instance.connect();
    upload
        .write_all(b"POST /build HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\nbegun")
        .expect("sent");
    drop(upload);
    // announced to be larger than any disk
    let mut upload = instance.connect();
    upload.write_all(b"POST /build HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 999999999999999\r\n\r\n").expect("sent");
    let reply = answer(upload);
    assert!(
        reply.status == 507 && reply.text().contains("make room"),
        "{} {}",
        reply.status,
        reply.text()
    );
}

fn a_killed_daemon_finds_its_containers(instance: &Instance) {
    let state = |id: &str| {
        instance
            .ask("GET", &format!("/containers/{id}/json"), b"")
            .json()["State"]
            .clone()
    };
    let start = |configuration: Value| {
        let id = instance.create(configuration);
        instance.done("POST", &format!("/containers/{id}/start"));
        id
    };
    let lasting = start(sleeper());
    let pid = state(&lasting)["Pid"].clone();
    let until_told = json!([
        "sh",
        "-c",
        "trap 'exit 7' USR1; while :; do sleep 0.1; done"
    ]);
    let transient = start(
        json!({ "Image": "busybox:static", "Cmd": until_told, "HostConfig": { "AutoRemove": true } }),
    );
    let restarting = start(
        json!({ "Image": "busybox:static", "Cmd": until_told, "HostConfig": { "RestartPolicy": { "Name": "always" } } }),
    );
    let pids = [&transient, &restarting]
        .map(|id| i32::try_from(state(id)["Pid"].as_i64().expect("a pid")).expect("a pid"));
    instance.kill_daemon();
    for pid in pids {
        let signalled = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(signalled, rustix::process::Signal::USR1).expect("signalled");
        eventually("the container to end without a daemon", || {
            !Path::new(&format!("/proc/{pid}/exe")).exists()
        });
    }
    instance.start();
    assert_eq!(
        (&state(&lasting)["Pid"], &state(&lasting)["Running"]),
        (&pid, &json!(true)),
        "the same process"
    );
    eventually("the automatic removal of one that ended meanwhile", || {
        instance.gone(&transient)
    });
    eventually("the restart of one that ended meanwhile", || {
        state(&restarting)["Running"] == true
    });
    for id in [lasting, restarting] {
        instance.done("DELETE", &format!("/containers/{id}?force=1"));
    }
}
