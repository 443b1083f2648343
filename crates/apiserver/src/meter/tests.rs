//! What is counted, and what it costs in labels.

use http::Method;

use super::*;
use crate::registry;

fn labels(method: Method, path: &str) -> Labels {
    let info = crate::path::parse(&method, path, path.contains("watch")).expect("a path");
    match &info.resource {
        None => Labels::of_path(&method, path),
        Some(asked) => {
            let kind = registry::find(&asked.group, &asked.version, &asked.resource);
            Labels::of_resource(kind.expect("a kind"), &info, asked, false)
        }
    }
}

#[test]
fn requests_are_told_apart_as_upstream_does() {
    for (method, path, expected) in [
        (
            Method::GET,
            "/api/v1/pods",
            ["", "v1", "pods", "", "LIST", "cluster"],
        ),
        (
            Method::GET,
            "/api/v1/namespaces/a/pods",
            ["", "v1", "pods", "", "LIST", "namespace"],
        ),
        (
            Method::GET,
            "/api/v1/namespaces/a/pods/b",
            ["", "v1", "pods", "", "GET", "resource"],
        ),
        (
            Method::POST,
            "/apis/apps/v1/namespaces/a/deployments",
            ["apps", "v1", "deployments", "", "POST", "resource"],
        ),
        (
            Method::PUT,
            "/apis/apps/v1/namespaces/a/deployments/b/scale",
            ["apps", "v1", "deployments", "scale", "PUT", "resource"],
        ),
        (
            Method::PATCH,
            "/api/v1/namespaces/a/pods/b/status",
            ["", "v1", "pods", "status", "PATCH", "resource"],
        ),
        (
            Method::GET,
            "/api/v1/namespaces/a/pods/b/log",
            ["", "v1", "pods", "log", "CONNECT", "resource"],
        ),
        (
            Method::GET,
            "/api/v1/nodes/n/proxy/whatever/it/is",
            ["", "v1", "nodes", "proxy", "CONNECT", "resource"],
        ),
        (
            Method::DELETE,
            "/api/v1/namespaces/a/pods",
            ["", "v1", "pods", "", "DELETECOLLECTION", "namespace"],
        ),
        (Method::GET, "/healthz", ["", "", "", "/healthz", "GET", ""]),
        (Method::GET, "/apis/apps", ["", "", "", "", "GET", ""]),
        (
            Method::from_bytes(b"BREW").expect("a method"),
            "/version/",
            ["", "", "", "/version", "other", ""],
        ),
    ] {
        let Labels {
            group,
            version,
            resource,
            subresource,
            verb,
            scope,
        } = labels(method, path);
        assert_eq!(
            [group, version, resource, subresource, verb, scope],
            expected,
            "{path}"
        );
    }
}

#[test]
fn what_happens_is_counted() {
    let meter = Meter::default();
    let list = labels(Method::GET, "/api/v1/pods");
    let watch = Labels {
        verb: "WATCH",
        ..list
    };
    meter.answered(list, 200, Some(Duration::from_millis(5)));
    meter.answered(list, 200, Some(Duration::from_millis(30)));
    meter.answered(list, 403, Some(Duration::from_secs(90)));
    let first = meter.lasting(watch);
    let second = meter.lasting(watch);
    first.event();
    second.clone().event();
    drop(first);
    let _writing = meter.in_flight(true);
    drop(meter.in_flight(false));
    let series = meter.series(list);
    let counts: Vec<u64> = series
        .durations
        .counts
        .iter()
        .map(|n| n.load(Relaxed))
        .collect();
    assert_eq!((counts[0], counts[2], counts[BOUNDS_S.len()]), (1, 1, 1));
    assert_eq!(counts.iter().sum::<u64>(), 3);
    let codes = series.codes.read();
    let codes: Vec<_> = codes
        .iter()
        .map(|(code, n)| (*code, n.load(Relaxed)))
        .collect();
    assert_eq!(codes, [(200, 2), (403, 1)]);
    let watches = meter.series(watch);
    assert_eq!(
        (watches.open.load(Relaxed), watches.events.load(Relaxed)),
        (1, 2)
    );
    assert_eq!(
        (meter.writing.load(Relaxed), meter.reading.load(Relaxed)),
        (1, 0)
    );
}

#[test]
fn labels_are_bounded() {
    let meter = Meter::default();
    for n in 0..SERIES_MAX + 10 {
        let version: &'static str = Box::leak(n.to_string().into_boxed_str());
        let labels = Labels {
            version,
            verb: "GET",
            ..Labels::default()
        };
        meter.answered(labels, 200, None);
    }
    assert_eq!(meter.series.read().len(), SERIES_MAX + 1);
    let rest = Labels {
        verb: "GET",
        ..Labels::default()
    };
    assert_eq!(meter.series(rest).codes.read()[0].1.load(Relaxed), 10);
}
