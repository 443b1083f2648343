//! Answers that go on: output and events.

use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use super::instance::{IMAGE, Instance, Reply};

const MULTIPLEXED: &str = "content-type: application/vnd.docker.multiplexed-stream";

/// Which stream said what, without the headers of eight bytes.
fn frames(reply: &Reply) -> Vec<(u8, String)> {
    let (mut rest, mut found) = (reply.body.as_slice(), Vec::<(u8, String)>::new());
    while let Some((header, content)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let text = String::from_utf8_lossy(&content[..length]);
        match found.last_mut().filter(|(stream, _)| *stream == header[0]) {
            Some((_, said)) => said.push_str(&text),
            None => found.push((header[0], text.into_owned())),
        }
        rest = &content[length..];
    }
    found
}

pub fn output_comes_without_an_upgrade(instance: &Instance) {
    let script =
        "echo before; while [ ! -e /go ]; do sleep 0.1; done; echo after; echo bad >&2; sleep 0.5";
    let id = instance.started(json!({ "Image": IMAGE, "Cmd": ["sh", "-c", script] }));
    let ask = |path: &str| instance.ask("POST", &format!("/containers/{id}/{path}"), b"");
    super::instance::eventually("its first line", || {
        let past = ask("attach?logs=1&stream=0&stdout=1&stderr=1");
        assert_eq!(past.status, 200, "{}", past.text());
        frames(&past) == [(1, "before\n".to_owned())]
    });
    let all = instance.send(
        "POST",
        &format!("/containers/{id}/attach?logs=1&stream=1&stdout=1&stderr=1"),
        b"",
    );
    let exec = |words: Value| {
        let body = json!({ "Cmd": words, "AttachStdout": true, "AttachStderr": true, "AttachStdin": true });
        let path = format!("/containers/{id}/exec");
        let made = instance.ask("POST", &path, body.to_string().as_bytes());
        let exec = made.json()["Id"].as_str().expect("an ID").to_owned();
        let said = instance.ask("POST", &format!("/exec/{exec}/start"), b"{}");
        let after = instance.get(&format!("/exec/{exec}/json"));
        (said, after["ExitCode"].clone())
    };
    let (said, code) = exec(json!(["sh", "-c", "cat; sleep 0.3; echo late; exit 3"]));
    assert_eq!((said.status, code), (200, json!(3)), "{}", said.text());
    assert!(said.head.contains(MULTIPLEXED), "{}", said.head);
    assert_eq!(frames(&said), [(1, "late\n".to_owned())]);
    let (said, code) = exec(json!(["nosuch"]));
    assert_eq!((said.status, code), (200, json!(127)));
    assert!(said.text().contains("not found"), "{}", said.text());
    exec(json!(["touch", "/go"]));
    let all = super::instance::answer(all);
    assert_eq!(all.status, 200, "{}", all.text());
    assert!(all.head.contains(MULTIPLEXED), "{}", all.head);
    let (mut out, mut bad) = (String::new(), String::new());
    for (stream, text) in frames(&all) {
        match stream {
            1 => out.push_str(&text),
            _ => bad.push_str(&text),
        }
    }
    assert_eq!((&*out, &*bad), ("before\nafter\n", "bad\n"));
    // a negative tail and one that is none mean all
    for tail in ["-1", "many", "all"] {
        let path = format!("/containers/{id}/logs?stdout=1&tail={tail}");
        let logs = instance.ask("GET", &path, b"");
        assert_eq!(frames(&logs), [(1, "before\nafter\n".to_owned())], "{tail}");
    }
    instance.remove(&id);
}

pub fn events_have_labels_to_the_end(instance: &Instance) {
    let wanted = "%7B%22label%22%3A%5B%22service%3Dweb%22%5D%7D";
    let stream = instance.send("GET", &format!("/events?filters={wanted}"), b"");
    let mut lines = BufReader::new(stream).lines();
    for line in lines.by_ref() {
        if line.expect("headers").is_empty() {
            break;
        }
    }
    let labelled =
        |value: &str| json!({ "Image": IMAGE, "Cmd": ["true"], "Labels": { "service": value } });
    let other = instance.started(labelled("db"));
    let id = instance.started(labelled("web"));
    for id in [&other, &id] {
        instance.done("POST", &format!("/containers/{id}/wait"));
        instance.remove(id);
    }
    for action in ["create", "start", "die", "destroy"] {
        let event: Value = lines
            .by_ref()
            .map(|line| line.expect("an event"))
            .find(|line| line.starts_with('{'))
            .map(|line| serde_json::from_str(&line).expect("JSON"))
            .expect("an event");
        assert_eq!(event["Action"], action, "{event}");
        assert_eq!(event["Actor"]["ID"], json!(id));
        let attributes = &event["Actor"]["Attributes"];
        assert_eq!(attributes["service"], "web");
        assert_eq!(attributes["image"], IMAGE);
        assert!(
            attributes["name"]
                .as_str()
                .is_some_and(|name| !name.is_empty())
        );
    }
}
