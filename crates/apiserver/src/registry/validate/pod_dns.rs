//! Validation of what a pod puts into its resolv.conf (upstream `validatePodDNSConfig`).

use serde_json::Value;

use super::{Problems, names, pod_host};
use crate::object::{at, items, text};

// What the resolver of libc reads at most.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_BYTES_MAX: usize = 2048;

/// `dnsConfig` of a pod's or template's spec, as its `dnsPolicy` needs it.
pub(super) fn config(spec: &Value, field: &str, problems: &mut Problems) {
    let field = format!("{field}.dnsConfig");
    let config = at(spec, &["dnsConfig"]);
    if text(spec, &["dnsPolicy"]) == "None" {
        let Some(config) = config else {
            problems.required(&field, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        };
        if items(config, &["nameservers"]).is_empty() {
            problems.required(
                &format!("{field}.nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
            return;
        }
    }
    let Some(config) = config else {
        return;
    };
    nameservers(config, &format!("{field}.nameservers"), problems);
    searches(config, &format!("{field}.searches"), problems);
    for (n, option) in items(config, &["options"]).iter().enumerate() {
        if text(option, &["name"]).is_empty() {
            problems.required(&format!("{field}.options[{n}]"), "must not be empty");
        }
    }
}

fn nameservers(config: &Value, field: &str, problems: &mut Problems) {
    let all = items(config, &["nameservers"]);
    if all.len() > NAMESERVERS_MAX {
        let why = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        problems.invalid(field, &config["nameservers"], &why);
    }
    for (n, one) in all.iter().enumerate() {
        pod_host::address(one, &format!("{field}[{n}]"), problems);
    }
}

fn searches(config: &Value, field: &str, problems: &mut Problems) {
    let all = items(config, &["searches"]);
    if all.len() > SEARCHES_MAX {
        let why = format!("must not have more than {SEARCHES_MAX} search paths");
        problems.invalid(field, &config["searches"], &why);
    }
    let length = |one: &Value| one.as_str().map_or(0, str::len);
    // With the spaces between them.
    let bytes = all.iter().map(length).sum::<usize>() + all.len().saturating_sub(1);
    if bytes > SEARCH_BYTES_MAX {
        let why = format!(
            "must not have more than {SEARCH_BYTES_MAX} characters (including spaces) in the search list"
        );
        problems.invalid(field, &config["searches"], &why);
    }
    for (n, one) in all.iter().enumerate() {
        let path = one.as_str().unwrap_or_default();
        if path == "." {
            continue;
        }
        let path = path.strip_suffix('.').unwrap_or(path);
        for why in names::underscored_subdomain(path) {
            problems.invalid(&format!("{field}[{n}]"), &path.into(), &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(spec: Value) -> Vec<String> {
        crate::registry::validate::said(|problems| config(&spec, "spec", problems))
    }

    #[test]
    fn what_a_resolver_reads_is_taken() {
        for spec in [
            json!({"dnsPolicy": "ClusterFirst"}),
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1", "2001:db8::1"]}}),
            json!({"dnsConfig": {"searches": [".", "a.example.", "_tcp.a_b.example"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
            json!({"dnsConfig": {}}),
        ] {
            assert_eq!(said(spec.clone()), Vec::<String>::new(), "{spec}");
        }
    }

    #[test]
    fn what_would_break_the_file_is_refused() {
        let ip = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        for (spec, expected) in [
            (
                json!({"dnsPolicy": "None"}),
                "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None".to_owned(),
            ),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"searches": ["a"]}}),
                "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None".to_owned(),
            ),
            (
                json!({"dnsConfig": {"nameservers": ["1.1.1.1\nsearch evil"]}}),
                format!("spec.dnsConfig.nameservers[0]: Invalid value: \"1.1.1.1\\nsearch evil\": {ip}"),
            ),
            (
                json!({"dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]}}),
                "spec.dnsConfig.nameservers: Invalid value: [\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"1.1.1.4\"]: must not have more than 3 nameservers".to_owned(),
            ),
            (
                json!({"dnsConfig": {"options": [{"value": "2"}]}}),
                "spec.dnsConfig.options[0]: Required value: must not be empty".to_owned(),
            ),
        ] {
            assert_eq!(said(spec.clone()), [expected], "{spec}");
        }
        let many: Vec<String> = (0..33).map(|n| format!("n{n}.example")).collect();
        assert!(
            said(json!({"dnsConfig": {"searches": many}}))[0]
                .ends_with("must not have more than 32 search paths")
        );
        let long: Vec<String> = (0..10).map(|_| vec!["a".repeat(60); 4].join(".")).collect();
        assert!(said(json!({"dnsConfig": {"searches": long}}))[0].ends_with(
            "must not have more than 2048 characters (including spaces) in the search list"
        ));
        for bad in ["a b", "a\nnameserver 6.6.6.6", "", "A", "-a"] {
            let said = said(json!({"dnsConfig": {"searches": [bad]}}));
            assert!(
                said.len() == 1 && said[0].starts_with("spec.dnsConfig.searches[0]: Invalid value"),
                "{bad:?} {said:?}"
            );
        }
    }
}
