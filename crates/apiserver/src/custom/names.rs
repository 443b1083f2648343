//! Names of definitions: which are accepted, and what is said of those that are not (upstream
//! `pkg/controller/status/naming_controller.go`).

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::object::{items, text};

/// Names of a group that are taken.
#[derive(Debug, Default)]
pub struct Taken {
    /// Plurals, singulars and short names.
    resources: HashSet<String>,
    /// Kinds and kinds of lists.
    kinds: HashSet<String>,
}

impl Taken {
    /// Takes the names of a status, or of a specification.
    pub fn add(&mut self, names: &Value) {
        for key in ["plural", "singular"] {
            self.resources.insert(text(names, &[key]).to_owned());
        }
        let short = items(names, &["shortNames"]).iter();
        self.resources
            .extend(short.filter_map(|name| name.as_str().map(str::to_owned)));
        for key in ["kind", "listKind"] {
            self.kinds.insert(text(names, &[key]).to_owned());
        }
        self.resources.remove("");
        self.kinds.remove("");
    }
}

/// What comes of a request for names.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    /// As `status.acceptedNames` is to be.
    pub accepted: Value,
    /// Reason and message of `NamesAccepted` when it is false.
    pub conflict: Option<(&'static str, String)>,
}

/// Settles names: each that is free is accepted, the others stay as they were.
pub fn settle(requested: &Value, accepted: &Value, taken: &Taken) -> Verdict {
    let mut new = accepted.clone();
    if !new.is_object() {
        new = json!({});
    }
    // upstream's type has these two always
    for key in ["plural", "kind"] {
        if new.get(key).is_none() {
            new[key] = "".into();
        }
    }
    let mut conflict = None;
    let singles = [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
    ];
    let kinds = [
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ];
    let mut single = |(key, reason, used): (&'static str, &'static str, &HashSet<String>)| {
        let (wanted, had) = (text(requested, &[key]), text(accepted, &[key]));
        if wanted != had && used.contains(wanted) {
            conflict = Some((reason, in_use(wanted)));
        } else if !wanted.is_empty() {
            new[key] = wanted.into();
        }
    };
    singles.into_iter().for_each(&mut single);
    let had = items(accepted, &["shortNames"]);
    let wanted = items(requested, &["shortNames"]);
    let refused: Vec<String> = wanted
        .iter()
        .filter(|name| !had.contains(name))
        .filter_map(Value::as_str)
        .filter(|name| taken.resources.contains(*name))
        .map(in_use)
        .collect();
    kinds.into_iter().for_each(&mut single);
    if !refused.is_empty() {
        let message = match &refused[..] {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        conflict.get_or_insert(("ShortNamesConflict", message));
    }
    for (key, list) in [
        ("shortNames", if refused.is_empty() { wanted } else { had }),
        ("categories", items(requested, &["categories"])),
    ] {
        if list.is_empty() {
            if let Some(map) = new.as_object_mut() {
                map.remove(key);
            }
        } else {
            new[key] = list.to_vec().into();
        }
    }
    Verdict {
        accepted: new,
        conflict,
    }
}

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

/// Versions in the order of preference: general availability before beta before alpha, newer before older, others
/// last by name (apimachinery `pkg/version`).
pub fn by_preference(a: &str, b: &str) -> std::cmp::Ordering {
    match (parts(a), parts(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Stability, major version, minor version.
fn parts(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let major = rest[..end].parse().ok()?;
    let rest = &rest[end..];
    if rest.is_empty() {
        return Some((3, major, 0));
    }
    let (stability, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
        (Some(minor), _) => (2, minor),
        (_, Some(minor)) => (1, minor),
        _ => return None,
    };
    Some((stability, major, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_accepted() {
        let mut taken = Taken::default();
        taken.add(&json!({"plural": "gadgets", "singular": "gadget", "shortNames": ["g", "ga"], "kind": "Gadget", "listKind": "GadgetList"}));
        let requested = |plural: &str, short: &[&str], kind: &str| json!({"plural": plural, "singular": "s", "shortNames": short, "kind": kind, "listKind": "L"});
        // requested, accepted before, conflict, plural, short names and kind accepted then
        let cases = [
            (
                requested("widgets", &["w"], "Widget"),
                json!({}),
                None,
                json!(["widgets", ["w"], "Widget"]),
            ),
            (
                requested("gadgets", &["w"], "Widget"),
                json!({}),
                Some(("PluralConflict", "\"gadgets\" is already in use")),
                json!(["", ["w"], "Widget"]),
            ),
            (
                requested("widgets", &["g", "w"], "Widget"),
                json!({}),
                Some(("ShortNamesConflict", "\"g\" is already in use")),
                json!(["widgets", null, "Widget"]),
            ),
            (
                requested("widgets", &["g", "ga"], "Widget"),
                json!({}),
                Some((
                    "ShortNamesConflict",
                    "[\"g\" is already in use, \"ga\" is already in use]",
                )),
                json!(["widgets", null, "Widget"]),
            ),
            (
                requested("widgets", &[], "Gadget"),
                json!({}),
                Some(("KindConflict", "\"Gadget\" is already in use")),
                json!(["widgets", null, ""]),
            ),
            // what is one's own is not lost to itself
            (
                requested("gadgets", &["g"], "Gadget"),
                json!({"plural": "gadgets", "shortNames": ["g"], "kind": "Gadget"}),
                None,
                json!(["gadgets", ["g"], "Gadget"]),
            ),
        ];
        for (requested, accepted, conflict, expected) in cases {
            let verdict = settle(&requested, &accepted, &taken);
            let said = verdict
                .conflict
                .as_ref()
                .map(|(reason, message)| (*reason, message.as_str()));
            assert_eq!(said, conflict, "{requested}");
            let names = &verdict.accepted;
            assert_eq!(
                json!([names["plural"], names["shortNames"], names["kind"]]),
                expected,
                "{requested}"
            );
        }
    }

    #[test]
    fn versions_are_ordered() {
        let mut versions = vec![
            "foo1",
            "v1alpha1",
            "v10",
            "v2",
            "v1beta1",
            "v3beta1",
            "v12alpha1",
            "foo10",
            "v11alpha2",
            "v11beta2",
        ];
        versions.sort_by(|a, b| by_preference(a, b));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v11beta2",
                "v3beta1",
                "v1beta1",
                "v12alpha1",
                "v11alpha2",
                "v1alpha1",
                "foo1",
                "foo10"
            ]
        );
    }
}
