//! The bytes on the socket, as they were when a version was released: a daemon and a supervising process of different versions
//! must understand each other.

use super::*;
use proptest::prelude::*;
use serde_json::Value;

proptest! {
    #[test]
    fn frames_come_back_however_they_are_cut(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..8), cut in 1usize..17) {
        let mut bytes = Vec::new();
        for payload in &payloads {
            push_frame(&mut bytes, Kind::Stdout, payload);
        }
        let (mut buffer, mut seen) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(cut) {
            buffer.extend_from_slice(piece);
            while let Some((kind, payload)) = take_frame(&mut buffer).expect("valid") {
                prop_assert_eq!(kind, Kind::Stdout);
                seen.push(payload);
            }
        }
        prop_assert_eq!(seen, payloads);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn hostile_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        while let Ok(Some(_)) = take_frame(&mut bytes) {}
    }
}

#[test]
fn a_frame_that_is_too_long_is_refused_before_it_is_read() {
    let mut bytes = vec![0xff, 0xff, 0xff, 0xff, 0];
    assert!(take_frame(&mut bytes).is_err());
}

/// Every request, as it is sent.
const REQUESTS: [&str; 10] = [
    r#"{"seq":1,"request":"Hello"}"#,
    r#"{"seq":2,"request":{"Start":{"container":"c"}}}"#,
    r#"{"seq":3,"request":{"Signal":{"container":"c","signal":15}}}"#,
    r#"{"seq":4,"request":{"Kill":{"container":"c"}}}"#,
    r#"{"seq":5,"request":{"Exec":{"container":"c","spec":{"argv":["true"],"env":["A=1"],"cwd":"/","user":"web","tty":true,"stdin":true,"privileged":false}}}}"#,
    r#"{"seq":6,"request":{"Attach":{"container":"c","stdin":true}}}"#,
    r#"{"seq":7,"request":{"Resize":{"container":"c","cols":80,"rows":24}}}"#,
    r#"{"seq":8,"request":{"Publish":{"ports":[{"host_ip":"127.0.0.1","host_port":80,"target":"10.0.0.2:8080","protocol":"Tcp"}]}}}"#,
    r#"{"seq":9,"request":{"Forget":{"container":"c"}}}"#,
    r#"{"seq":10,"request":"Stop"}"#,
];

/// Every answer and event, as it is sent.
const ANSWERS: [&str; 9] = [
    r#"{"seq":1,"reply":"Done"}"#,
    r#"{"seq":2,"reply":{"Hello":{"pid":7,"running":[["c",{"process":{"pid":8,"start_time":9,"boot_id":"b"},"started_at":"2026-01-02T03:04:05.5Z","exit":null}]],"published":[],"protocol":1}}}"#,
    r#"{"seq":3,"reply":{"Started":{"state":{"process":{"pid":8,"start_time":9,"boot_id":"b"},"started_at":"2026-01-02T03:04:05.5Z","exit":null}}}}"#,
    r#"{"seq":4,"reply":{"ExecStarted":{"pid":8}}}"#,
    r#"{"seq":5,"reply":{"Attached":{"tty":true}}}"#,
    r#"{"seq":6,"reply":{"Published":{"ports":[{"host_ip":null,"host_port":53,"target":"10.0.0.2:53","protocol":"Udp"}]}}}"#,
    r#"{"seq":7,"reply":{"Failed":{"kind":"Start","reason":"no","code":127}}}"#,
    r#"{"seq":8,"reply":{"Failed":{"kind":"Other","reason":"no","code":128}}}"#,
    r#"{"seq":0,"reply":{"Exited":{"container":"c","status":{"code":137,"signal":9,"oom_killed":true,"finished_at":"2026-01-02T03:04:05Z","lost":false}}}}"#,
];

/// With a field that nobody knows in every object.
fn from_the_future(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // The one-field objects that name a variant must keep to one.
            let is_variant =
                fields.len() == 1 && fields.keys().all(|key| key.starts_with(char::is_uppercase));
            fields.values_mut().for_each(from_the_future);
            if !is_variant {
                fields.insert("later".into(), serde_json::json!({ "x": [1] }));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(from_the_future),
        _ => {}
    }
}

fn later(text: &str) -> Vec<u8> {
    let mut value: Value = serde_json::from_str(text).expect("valid");
    from_the_future(&mut value);
    let text = value.to_string();
    assert!(text.contains("later"));
    text.into_bytes()
}

#[test]
fn requests_are_the_bytes_that_older_versions_know() {
    for text in REQUESTS {
        let asked = read_asked(text.as_bytes()).unwrap_or_else(|_| panic!("{text}"));
        assert_eq!(serde_json::to_string(&asked).expect("encode"), text);
        let asked = read_asked(&later(text)).unwrap_or_else(|_| panic!("{text}"));
        assert_eq!(serde_json::to_string(&asked).expect("encode"), text);
    }
    // What older versions leave out.
    let exec = br#"{"seq":5,"request":{"Exec":{"container":"c","spec":{"argv":["true"]}}}}"#;
    assert!(read_asked(exec).is_ok());
}

#[test]
fn answers_are_the_bytes_that_older_versions_know() {
    for text in ANSWERS {
        let told = read_told(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(serde_json::to_string(&told).expect("encode"), text);
        let told = read_told(&later(text)).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(serde_json::to_string(&told).expect("encode"), text);
    }
    let old = br#"{"seq":2,"reply":{"Hello":{"pid":7,"running":[]}}}"#;
    let told = read_told(old).expect("known");
    assert!(matches!(
        told.reply,
        Reply::Hello {
            pid: 7,
            protocol: 0,
            ..
        }
    ));
}

#[test]
fn what_is_not_known_is_refused_or_skipped() {
    let asked = |text: &str| read_asked(text.as_bytes()).expect_err(text);
    assert_eq!(asked(r#"{"seq":3,"request":"Checkpoint"}"#), Some(3));
    assert_eq!(
        asked(r#"{"seq":4,"request":{"Freeze":{"container":"c"}}}"#),
        Some(4)
    );
    assert_eq!(asked(r#"{"request":"Hello"}"#), None);
    assert_eq!(asked("no JSON"), None);
    let told = |text: &str| read_told(text.as_bytes()).map(|told| (told.seq, told.reply));
    assert!(matches!(
        told(r#"{"seq":3,"reply":"Frozen"}"#),
        Some((3, Reply::Failed(_)))
    ));
    assert!(told(r#"{"seq":0,"reply":{"OutOfMemory":{"container":"c"}}}"#).is_none());
    assert!(told("no JSON").is_none());
    let kind = r#"{"seq":3,"reply":{"Failed":{"kind":"Quota","reason":"full","code":1}}}"#;
    let Some((3, Reply::Failed(failure))) = told(kind) else {
        panic!("a failure")
    };
    assert_eq!(
        (failure.kind, failure.reason.as_str()),
        (FailureKind::Other, "full")
    );
    let mut bytes = vec![0, 0, 0, 2, 77, 1, 2];
    bytes.extend(frame(Kind::Stdout, b"x"));
    assert_eq!(
        take_frame(&mut bytes),
        Ok(Some((Kind::Unknown, vec![1, 2])))
    );
    assert_eq!(
        take_frame(&mut bytes),
        Ok(Some((Kind::Stdout, b"x".to_vec())))
    );
}
