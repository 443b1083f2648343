//! Validation of probes and lifecycle hooks: what is asked of a container, and by which one handler.

use serde_json::Value;

use super::{Problems, at_least, names, one_of, port_number};
use crate::object::{at, items, text};

const PROBES: [&str; 3] = ["livenessProbe", "readinessProbe", "startupProbe"];
const PROBE_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK_HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];
const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";

/// The probes and hooks of a container that runs beside others, in a pod with this grace period.
pub(super) fn of_container(
    container: &Value,
    grace_seconds: Option<i64>,
    field: &str,
    problems: &mut Problems,
) {
    for hook in ["postStart", "preStop"] {
        if let Some(settings) = at(container, &["lifecycle", hook]) {
            let field = format!("{field}.lifecycle.{hook}");
            handler(settings, &HOOK_HANDLERS, grace_seconds, &field, problems);
        }
    }
    for kind in PROBES {
        if let Some(settings) = at(container, &[kind]) {
            probe(settings, kind, &format!("{field}.{kind}"), problems);
        }
    }
}

/// A container that ends before others begin has none.
pub(super) fn of_init_container(container: &Value, field: &str, problems: &mut Problems) {
    for key in ["lifecycle"].into_iter().chain(PROBES) {
        if at(container, &[key]).is_some() {
            let why = "may not be set for init containers without restartPolicy=Always";
            problems.forbidden(&format!("{field}.{key}"), why);
        }
    }
}

fn probe(probe: &Value, kind: &str, field: &str, problems: &mut Problems) {
    handler(probe, &PROBE_HANDLERS, None, field, problems);
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        at_least(probe, key, 0, field, problems);
    }
    at_least(probe, "terminationGracePeriodSeconds", 1, field, problems);
    if kind == "readinessProbe" {
        if at(probe, &["terminationGracePeriodSeconds"]).is_some() {
            problems.invalid(
                &format!("{field}.terminationGracePeriodSeconds"),
                &probe["terminationGracePeriodSeconds"],
                "must not be set for readinessProbes",
            );
        }
    } else if probe["successThreshold"].as_i64().is_some_and(|n| n > 1) {
        problems.invalid(
            &format!("{field}.successThreshold"),
            &probe["successThreshold"],
            "must be 1",
        );
    }
}

/// One of these and no other (upstream `validateHandler`).
fn handler(
    settings: &Value,
    known: &[&str],
    grace_seconds: Option<i64>,
    field: &str,
    problems: &mut Problems,
) {
    let mut found = false;
    for kind in known {
        let Some(action) = at(settings, &[kind]) else {
            continue;
        };
        let field = format!("{field}.{kind}");
        if std::mem::replace(&mut found, true) {
            problems.forbidden(&field, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" if items(action, &["command"]).is_empty() => {
                problems.required(&format!("{field}.command"), "");
            }
            "exec" => {}
            "sleep" => sleep(action, grace_seconds, &field, problems),
            "httpGet" => http(action, &field, problems),
            _ => port(action, &field, problems),
        }
    }
    if !found {
        problems.required(field, "must specify a handler type");
    }
}

fn sleep(action: &Value, grace_seconds: Option<i64>, field: &str, problems: &mut Problems) {
    let seconds = action["seconds"].as_i64().unwrap_or(0);
    if let Some(grace) = grace_seconds
        && !(0..=grace).contains(&seconds)
    {
        let why =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        problems.invalid(field, &seconds.into(), &why);
    }
}

fn http(action: &Value, field: &str, problems: &mut Problems) {
    port(action, field, problems);
    // An empty one is the default, as an empty path is.
    if !text(action, &["scheme"]).is_empty() {
        one_of(action, "scheme", &["HTTP", "HTTPS"], field, problems);
    }
    for header in items(action, &["httpHeaders"]) {
        let name = text(header, &["name"]);
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || !name.chars().all(valid) {
            problems.invalid(&format!("{field}.httpHeaders"), &name.into(), HEADER);
        }
    }
}

fn port(action: &Value, field: &str, problems: &mut Problems) {
    let field = format!("{field}.port");
    match &action["port"] {
        Value::String(name) => {
            for why in names::port_name(name) {
                problems.invalid(&field, &name.as_str().into(), &why);
            }
        }
        number => port_number(number.as_i64().unwrap_or(0), &field, problems),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(container: Value) -> Vec<String> {
        crate::registry::validate::said(|problems| {
            of_container(&container, Some(30), "c", problems)
        })
    }

    #[test]
    fn ordinary_probes_and_hooks_are_taken() {
        for container in [
            json!({}),
            json!({"livenessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTPS", "httpHeaders": [{"name": "X-A", "value": "b"}]}, "successThreshold": 1, "terminationGracePeriodSeconds": 5}}),
            json!({"readinessProbe": {"exec": {"command": ["true"]}, "successThreshold": 3}}),
            json!({"startupProbe": {"tcpSocket": {"port": "http"}}, "livenessProbe": {"grpc": {"port": 5000, "service": ""}}}),
            json!({"lifecycle": {"preStop": {"sleep": {"seconds": 30}}, "postStart": {"exec": {"command": ["a"]}}}}),
            json!({"lifecycle": {"stopSignal": "SIGINT"}}),
            json!({"livenessProbe": {"httpGet": {"path": "", "scheme": "", "port": 80}}}),
            json!({"lifecycle": {"preStop": {"sleep": {"seconds": 0}}}}),
        ] {
            assert_eq!(said(container.clone()), Vec::<String>::new(), "{container}");
        }
    }

    #[test]
    fn probes_and_hooks_that_cannot_work_are_refused() {
        for (container, expected) in [
            (
                json!({"livenessProbe": {}}),
                "c.livenessProbe: Required value: must specify a handler type".to_owned(),
            ),
            (
                json!({"livenessProbe": {"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}}),
                "c.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type".to_owned(),
            ),
            (
                json!({"livenessProbe": {"exec": {}}}),
                "c.livenessProbe.exec.command: Required value".to_owned(),
            ),
            (
                json!({"livenessProbe": {"httpGet": {"path": "/", "port": 1, "scheme": "FTP"}}}),
                "c.livenessProbe.httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\"".to_owned(),
            ),
            (
                json!({"livenessProbe": {"httpGet": {"path": "/", "port": 1, "httpHeaders": [{"name": "A\r\nB"}]}}}),
                format!("c.livenessProbe.httpGet.httpHeaders: Invalid value: \"A\\r\\nB\": {HEADER}"),
            ),
            (
                json!({"livenessProbe": {"tcpSocket": {"port": 0}}}),
                "c.livenessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive".to_owned(),
            ),
            (
                json!({"startupProbe": {"grpc": {"port": 1}, "successThreshold": 2}}),
                "c.startupProbe.successThreshold: Invalid value: 2: must be 1".to_owned(),
            ),
            (
                json!({"readinessProbe": {"grpc": {"port": 1}, "terminationGracePeriodSeconds": 5}}),
                "c.readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes".to_owned(),
            ),
            (
                json!({"livenessProbe": {"grpc": {"port": 1}, "terminationGracePeriodSeconds": 0}}),
                "c.livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0".to_owned(),
            ),
            (
                json!({"lifecycle": {"preStop": {}}}),
                "c.lifecycle.preStop: Required value: must specify a handler type".to_owned(),
            ),
            (
                json!({"lifecycle": {"postStart": {"exec": {"command": ["a"]}, "sleep": {"seconds": 1}}}}),
                "c.lifecycle.postStart.sleep: Forbidden: may not specify more than 1 handler type".to_owned(),
            ),
            (
                json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}),
                "c.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)".to_owned(),
            ),
            (
                json!({"lifecycle": {"preStop": {"sleep": {"seconds": -1}}}}),
                "c.lifecycle.preStop.sleep: Invalid value: -1: must be non-negative and less than terminationGracePeriodSeconds (30)".to_owned(),
            ),
        ] {
            assert_eq!(said(container), [expected]);
        }
    }

    #[test]
    fn init_containers_have_neither() {
        let container = json!({"lifecycle": {}, "readinessProbe": {"grpc": {"port": 1}}});
        let why = "Forbidden: may not be set for init containers without restartPolicy=Always";
        assert_eq!(
            crate::registry::validate::said(|problems| of_init_container(
                &container, "c", problems
            )),
            [
                format!("c.lifecycle: {why}"),
                format!("c.readinessProbe: {why}")
            ]
        );
    }
}
