//! What nobody well-meaning sends, to the real daemon: it is refused in words, and costs the others nothing.

mod crowds;
mod tokens;

use crate::support::{Ran, Root, Run, Space, eventually, holds};

pub use crowds::{a_storm_of_watches_ends_with_its_clients, slow_clients_do_not_hinder_others};
pub use tokens::tokens_of_another_time_key_or_audience_open_nothing;

/// Memory that the daemon may have taken for a while: its own work for other tests is in it too.
const GROWTH_MIB_MAX: u64 = 300;

/// curl with the administrator's certificate; paths go as they are.
fn curl(space: &Space, path: &str) -> Run {
    let instance = &space.instance;
    let pki = instance.data_dir.join("pki");
    let (pki, port) = (pki.display(), instance.api_port);
    Run::new(
        "curl",
        &format!(
            "-sS -g -m 60 --http1.1 --path-as-is --cacert {pki}/ca.crt --cert {pki}/admin.crt --key {pki}/admin.key -w '\n%{{http_code}}'"
        ),
    )
    .argument(&format!("https://127.0.0.1:{port}{path}"))
}

/// The Status that a request was answered with, whose code is the response's own.
#[track_caller]
fn refusal(run: Run) -> (u64, String) {
    let ran: Ran = run.ran();
    let (body, code) = ran.stdout.rsplit_once('\n').expect("a code");
    let status: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    assert_eq!(status["kind"], "Status", "{ran}");
    assert_eq!(status["code"].to_string(), code, "{ran}");
    let message = status["message"].as_str().unwrap_or_default();
    (status["code"].as_u64().expect("a code"), message.to_owned())
}

/// Posts a file of this type.
fn post(space: &Space, path: &str, content_type: &str, body: &[u8]) -> Run {
    let file = Root::scratch().join("body");
    std::fs::write(&file, body).expect("written");
    curl(space, path)
        .argument("--data-binary")
        .argument(&format!("@{}", file.display()))
        .argument("-H")
        .argument(&format!("content-type: {content_type}"))
}

/// The most memory that the daemon has had since the last time, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: u64 = kib.and_then(|kib| kib.parse().ok()).expect("a number");
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("counted from here");
    kib / 1024
}

/// Each level names the one above nine times.
fn bomb(levels: usize) -> String {
    let mut text =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\nx0: &x0 [lol]\n".to_owned();
    for level in 1..levels {
        let above = vec![format!("*x{}", level - 1); 9].join(", ");
        text += &format!("x{level}: &x{level} [{above}]\n");
    }
    text
}

pub fn bodies_meant_to_hurt_are_refused() {
    let space = Space::new("hostile-bodies");
    let maps = "/api/v1/namespaces/hostile-bodies/configmaps";
    let pid = space.instance.daemon_pid();
    let _ = peak_mib(pid);
    let before = peak_mib(pid);
    let yaml = "application/yaml";
    let (code, message) = refusal(post(&space, maps, yaml, bomb(12).as_bytes()));
    assert_eq!(code, 400, "{message}");
    holds(&message, "too large or too deep");
    // keys that grow instead of values, and a name that means itself
    let merges = (1..24).fold("a0: &a0 {k: v}\n".to_owned(), |text, level| {
        let above = level - 1;
        text + &format!("a{level}: &a{level} {{l: *a{above}, r: *a{above}}}\n")
    });
    let itself = "a: &a [*a]\n".to_owned();
    for text in [merges, itself] {
        let (code, message) = refusal(post(&space, maps, yaml, text.as_bytes()));
        assert_eq!(code, 400, "{message}");
    }
    for (content_type, open, close) in [
        ("application/json", "[", "]"),
        ("application/json", "{\"a\":", "}"),
        (yaml, "[", "]"),
        (yaml, "{a: ", "}"),
    ] {
        let deep = format!("{}1{}", open.repeat(200_000), close.repeat(200_000));
        let deep = if content_type == yaml {
            format!("data: {deep}")
        } else {
            format!("{{\"data\": {deep}}}")
        };
        let (code, message) = refusal(post(&space, maps, content_type, deep.as_bytes()));
        assert_eq!(code, 400, "{content_type} {open}: {message}");
    }
    // ten megabytes, in each format and for each verb that takes a body
    let large = "x".repeat(10 << 20);
    let json = format!(r#"{{"metadata": {{"name": "large"}}, "data": {{"a": "{large}"}}}}"#);
    let protobuf = [b"k8s\0\x0a".as_slice(), large.as_bytes()].concat();
    for (content_type, body) in [
        ("application/json", json.as_bytes()),
        (yaml, json.as_bytes()),
        ("application/vnd.kubernetes.protobuf", &protobuf),
    ] {
        let (code, message) = refusal(post(&space, maps, content_type, body));
        assert_eq!(code, 413, "{content_type}: {message}");
        holds(&message, "limit is 3145728");
    }
    space.kubectl("create configmap small").ok();
    for (verb, content_type) in [
        ("PUT", "application/json"),
        ("PATCH", "application/merge-patch+json"),
        ("PATCH", "application/json-patch+json"),
        ("PATCH", "application/strategic-merge-patch+json"),
        ("PATCH", "application/apply-patch+yaml"),
        ("DELETE", "application/json"),
    ] {
        let path = format!("{maps}/small?fieldManager=robot");
        let run = post(&space, &path, content_type, json.as_bytes());
        let (code, message) = refusal(run.argument("-X").argument(verb));
        assert_eq!(code, 413, "{verb} {content_type}: {message}");
    }
    let names = space.kubectl("get configmaps -o name").ok();
    assert_eq!(names, "configmap/kube-root-ca.crt\nconfigmap/small\n");
    let grown = peak_mib(pid).saturating_sub(before);
    assert!(grown < GROWTH_MIB_MAX, "{before} MiB before, {grown} more");
    assert_eq!(space.instance.daemon_pid(), pid, "the same process");
}

pub fn names_and_labels_meant_to_hurt_do_not() {
    let space = Space::new("hostile-names");
    let maps = "/api/v1/namespaces/hostile-names/configmaps";
    for name in [
        "a%2Fb",
        "a%00b",
        "..",
        "..%2F..%2Fsecrets",
        "%2e%2e",
        "a%0Ab",
    ] {
        for verb in ["GET", "DELETE", "PATCH", "PUT"] {
            let run = post(
                &space,
                &format!("{maps}/{name}"),
                "application/merge-patch+json",
                b"{}",
            );
            let (code, message) = refusal(run.argument("-X").argument(verb));
            assert!(
                matches!(code, 400 | 404 | 405 | 415),
                "{verb} {name}: {code} {message}"
            );
        }
    }
    let json = "application/json";
    let named = |name: &str| serde_json::json!({"metadata": {"name": name}}).to_string();
    for name in [
        "a/b",
        "a\0b",
        "..",
        ".",
        "a b",
        "a\nb",
        "\u{202e}a",
        "é",
        "%2F",
        "A",
    ] {
        let (code, message) = refusal(post(&space, maps, json, named(name).as_bytes()));
        assert_eq!(code, 422, "{name:?}: {message}");
        holds(&message, "metadata.name: Invalid value");
    }
    let (code, message) = refusal(post(&space, maps, json, named(&"a".repeat(254)).as_bytes()));
    assert_eq!(code, 422, "{message}");
    holds(&message, "must be no more than 253 bytes");
    for (key, value) in [
        ("a/b/c", "v"),
        ("a\0", "v"),
        ("", "v"),
        ("a", "v\0"),
        ("a", "a/b"),
    ] {
        let body = serde_json::json!({"metadata": {"name": "labelled", "labels": {key: value}}});
        let (code, message) = refusal(post(&space, maps, json, body.to_string().as_bytes()));
        assert_eq!(code, 422, "{key:?}: {value:?}: {message}");
        holds(&message, "metadata.labels: Invalid value");
    }
    assert_eq!(
        space.kubectl("get configmaps -o name").ok(),
        "configmap/kube-root-ca.crt\n"
    );
    // ten thousand labels are many, but labels
    let labels: serde_json::Map<_, _> = (0..10_000)
        .map(|number| (format!("l{number}"), format!("v{number}").into()))
        .collect();
    let many = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "many", "labels": labels}});
    let said = space.kubectl("create -f -").stdin(many.to_string()).ok();
    assert_eq!(said, "configmap/many created\n");
    for (selector, found) in [
        ("l9999=v9999", "configmap/many\n"),
        ("l1=v1,l2=v2,l3!=v4,l5,!l10000", "configmap/many\n"),
        ("l9999=v9998", ""),
    ] {
        let names = space.kubectl(&format!("get configmaps -o name -l {selector}"));
        assert_eq!(names.ok(), found, "{selector}");
    }
    space
        .kubectl("label configmap many --overwrite l7- l8=other")
        .ok();
    let read = space.get("configmap/many");
    let labels = read["metadata"]["labels"].as_object().expect("labels");
    assert_eq!((labels.len(), &labels["l8"]), (9_999, &"other".into()));
    space.kubectl("delete configmap many").ok();
    eventually("it is gone", || {
        let names = space.kubectl("get configmaps -o name").ok();
        if names.contains("many") {
            Err(names)
        } else {
            Ok(())
        }
    });
}
