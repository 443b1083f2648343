//! Tables of what rules allow and cover, and that the two agree.

use proptest::prelude::*;

use super::*;
use crate::path::ResourceInfo;

fn list(text: &str) -> Vec<String> {
    let words = text.split(',').filter(|w| !w.is_empty());
    words.map(|w| w.replace("core", "")).collect()
}

fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
    Rule {
        verbs: list(verbs),
        groups: list(groups),
        resources: list(resources),
        names: list(names),
        urls: Vec::new(),
    }
}

fn urls(verbs: &str, paths: &str) -> Rule {
    Rule {
        verbs: list(verbs),
        urls: list(paths),
        ..Rule::default()
    }
}

/// `VERB GROUP RESOURCE[/SUBRESOURCE] [NAME]`, or `VERB /PATH`.
fn asked(text: &str) -> RequestInfo {
    let words: Vec<&str> = text.split(' ').collect();
    if words[1].starts_with('/') {
        return RequestInfo {
            verb: words[0].into(),
            path: words[1].into(),
            resource: None,
        };
    }
    let (resource, subresource) = words[2].split_once('/').unwrap_or((words[2], ""));
    RequestInfo {
        verb: words[0].into(),
        path: String::new(),
        resource: Some(ResourceInfo {
            group: words[1].replace("core", ""),
            resource: resource.into(),
            subresource: subresource.into(),
            name: words.get(3).copied().unwrap_or_default().into(),
            ..ResourceInfo::default()
        }),
    }
}

#[test]
fn what_a_rule_allows() {
    let cases: [(Rule, &[&str], &[&str]); 10] = [
        (
            rule("get,list", "core", "pods", ""),
            &["get core pods a", "list core pods"],
            &[
                "watch core pods",
                "get apps pods",
                "get core pods/log a",
                "get core services",
                "get /pods",
            ],
        ),
        (
            rule("*", "core", "pods", ""),
            &["get core pods", "impersonate core pods"],
            &["get apps pods"],
        ),
        (
            rule("get", "*", "pods", ""),
            &["get core pods", "get other pods"],
            &["list core pods"],
        ),
        (
            rule("get", "core", "*", ""),
            &["get core pods", "get core pods/log"],
            &["get apps deployments"],
        ),
        (
            rule("get", "core", "pods/log", ""),
            &["get core pods/log a"],
            &[
                "get core pods a",
                "get core nodes/log",
                "get core pods/logs",
            ],
        ),
        (
            rule("get", "*", "*/scale", ""),
            &[
                "get apps deployments/scale",
                "get core replicationcontrollers/scale",
            ],
            &[
                "get apps deployments",
                "get apps deployments/scales",
                "get apps deployments/status",
            ],
        ),
        (
            rule("get,list", "core", "configmaps", "a,b"),
            &["get core configmaps a", "list core configmaps b"],
            &["get core configmaps c", "list core configmaps"],
        ),
        (
            urls("get", "/healthz,/api/*"),
            &["get /healthz", "get /api/", "get /api/v1/x"],
            &[
                "post /healthz",
                "get /healthz/etcd",
                "get /api",
                "get /apis",
                "get core healthz",
            ],
        ),
        (urls("*", "*"), &["get /", "delete /x"], &["get core pods"]),
        (rule("get", "", "pods", ""), &[], &["get core pods"]),
    ];
    for (rule, allowed, denied) in cases {
        for request in allowed {
            assert!(rule.allows(&asked(request)), "{rule} {request}");
        }
        for request in denied {
            assert!(!rule.allows(&asked(request)), "{rule} {request}");
        }
    }
}

#[test]
fn what_covers_what() {
    let whole = |held: &[Rule], asked: &[Rule]| coverage(held, asked) == Coverage::Whole;
    let pods = rule("get,list", "core", "pods", "");
    let split = [
        rule("get", "core", "pods", ""),
        rule("list", "core", "pods", ""),
    ];
    assert!(
        whole(&split, std::slice::from_ref(&pods)),
        "several rules together"
    );
    assert!(whole(std::slice::from_ref(&pods), &split));
    assert!(whole(
        &Rule::full_authority(),
        &[pods.clone(), urls("get", "/x/*")]
    ));
    assert!(whole(&[], &[]));
    let cases = [
        (
            rule("*", "core", "pods", ""),
            rule("*", "core", "pods", ""),
            true,
        ),
        (
            rule("get", "core", "pods", ""),
            rule("*", "core", "pods", ""),
            false,
        ),
        (
            rule("get", "*", "pods", ""),
            rule("get", "apps", "pods", ""),
            true,
        ),
        (
            rule("get", "apps", "pods", ""),
            rule("get", "*", "pods", ""),
            false,
        ),
        (
            rule("get", "core", "*", ""),
            rule("get", "core", "pods/log,*", ""),
            true,
        ),
        (
            rule("get", "core", "pods", ""),
            rule("get", "core", "pods/log", ""),
            false,
        ),
        (
            rule("get", "core", "*/log", ""),
            rule("get", "core", "pods/log", ""),
            true,
        ),
        (
            rule("get", "core", "pods/log", ""),
            rule("get", "core", "*/log", ""),
            false,
        ),
        (
            rule("get", "core", "pods", "a"),
            rule("get", "core", "pods", "a"),
            true,
        ),
        (
            rule("get", "core", "pods", ""),
            rule("get", "core", "pods", "a"),
            true,
        ),
        (
            rule("get", "core", "pods", "a"),
            rule("get", "core", "pods", ""),
            false,
        ),
        (
            rule("get", "core", "pods", "a"),
            rule("get", "core", "pods", "a,b"),
            false,
        ),
        (urls("get", "/a/*"), urls("get", "/a/b,/a/*,/a/b/*"), true),
        (urls("get", "/a/*"), urls("get", "/a"), false),
        (urls("get", "/a/b"), urls("get", "/a/*"), false),
        (urls("get", "/a"), rule("get", "core", "pods", ""), false),
        (rule("get", "*", "*", ""), urls("get", "/a"), false),
    ];
    for (held, asked, expected) in cases {
        assert_eq!(
            whole(std::slice::from_ref(&held), std::slice::from_ref(&asked)),
            expected,
            "{held} covers {asked}"
        );
    }
}

#[test]
fn what_is_missing_is_told_as_upstream_does() {
    let asked = [
        rule("get,list", "core,apps", "pods", ""),
        rule("update", "core", "configmaps", "b,a"),
        urls("get", "/x"),
    ];
    let held = [rule("list", "*", "pods", "")];
    let Coverage::Missing(missing) = coverage(&held, &asked) else {
        panic!("it is not held");
    };
    let told: Vec<String> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            r#"{APIGroups:[""], Resources:["configmaps"], ResourceNames:["a"], Verbs:["update"]}"#,
            r#"{APIGroups:[""], Resources:["configmaps"], ResourceNames:["b"], Verbs:["update"]}"#,
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#,
            r#"{APIGroups:["apps"], Resources:["pods"], Verbs:["get"]}"#,
            r#"{NonResourceURLs:["/x"], Verbs:["get"]}"#,
        ]
    );
    let several = coverage(&[], &[rule("get,list", "core", "pods", "")]);
    assert_eq!(
        several,
        Coverage::Missing(vec![rule("get,list", "core", "pods", "")]),
        "the verbs of a resource are told together"
    );
}

#[test]
fn a_rule_that_explodes_is_not_compared() {
    let many: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let bomb = Rule {
        verbs: many.clone(),
        groups: many.clone(),
        resources: many.clone(),
        names: many,
        urls: Vec::new(),
    };
    assert_eq!(coverage(&[], &[bomb]), Coverage::TooMany);
}

fn words(of: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(proptest::sample::select(of).prop_map(str::to_owned), 0..3)
}

prop_compose! {
    fn any_rule()(
        verbs in words(&["get", "list", "*"]),
        groups in words(&["", "apps", "*"]),
        resources in words(&["pods", "pods/log", "*/log", "*", "nodes"]),
        names in words(&["a", "b"]),
        urls in words(&["/a", "/a/*", "/a/b", "*"]),
        of_urls in any::<bool>(),
    ) -> Rule {
        if of_urls {
            Rule { verbs, urls, ..Rule::default() }
        } else {
            Rule { verbs, groups, resources, names, urls: Vec::new() }
        }
    }
}

const REQUESTS: [&str; 14] = [
    "get core pods a",
    "get core pods",
    "list core pods b",
    "watch core pods",
    "get apps pods/log a",
    "get core pods/log",
    "list apps nodes/log b",
    "get core nodes",
    "delete x y",
    "get /a",
    "get /a/b",
    "list /a/b/c",
    "post /a",
    "get /",
];

proptest! {
    /// Whoever holds rules that cover others may do all that the others allow.
    #[test]
    fn covering_rules_allow_as_much(
        held in proptest::collection::vec(any_rule(), 0..4),
        asked_rules in proptest::collection::vec(any_rule(), 0..3),
    ) {
        if coverage(&held, &asked_rules) == Coverage::Whole {
            for request in REQUESTS.map(asked) {
                let allowed = |rules: &[Rule]| rules.iter().any(|rule| rule.allows(&request));
                prop_assert!(!allowed(&asked_rules) || allowed(&held), "{request:?}");
            }
        }
    }

    /// What is missing, together with what is held, covers what was asked.
    #[test]
    fn what_is_missing_completes(held in proptest::collection::vec(any_rule(), 0..3), asked in proptest::collection::vec(any_rule(), 0..3)) {
        if let Coverage::Missing(missing) = coverage(&held, &asked) {
            let mut all = held.clone();
            all.extend(missing.iter().cloned());
            prop_assert_eq!(coverage(&all, &asked), Coverage::Whole);
            prop_assert!(coverage(&held, &missing) != Coverage::Whole);
        }
    }

    #[test]
    fn rules_are_read_as_written(rule in any_rule()) {
        prop_assert_eq!(Rule::read(&rule.write()), rule);
    }
}
