//! One rule of a role: what it allows, and whether rules cover other rules (upstream `pkg/apis/rbac/v1` and
//! component-helpers `auth/rbac/validation`). Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::object::items;
use crate::path::RequestInfo;
use crate::schema::gotext::quote;

const ALL: &str = "*";
/// Rules that spell out more combinations of verbs, groups, resources and names than this are not compared.
const COMBINATIONS_MAX: usize = 100_000;

/// A `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    pub names: Vec<String>,
    pub urls: Vec<String>,
}

impl Rule {
    /// Reads a rule as roles carry it; what is not text is left out.
    pub fn read(value: &Value) -> Self {
        let list = |key: &str| {
            items(value, &[key])
                .iter()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect()
        };
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            urls: list("nonResourceURLs"),
        }
    }

    /// The rules of a Role or ClusterRole.
    pub fn of_role(role: &Value) -> Vec<Self> {
        items(role, &["rules"]).iter().map(Self::read).collect()
    }

    /// The rule as roles and reviews carry it.
    pub fn write(&self) -> Value {
        let mut map = Map::new();
        for (key, list) in self.lists() {
            if !list.is_empty() || key == "verbs" {
                map.insert(key.to_owned(), json!(list));
            }
        }
        Value::Object(map)
    }

    fn lists(&self) -> [(&'static str, &Vec<String>); 5] {
        [
            ("verbs", &self.verbs),
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ]
    }

    /// Everything that there is: what somebody must hold to hand out aggregated roles.
    pub fn full_authority() -> [Self; 2] {
        let all = || vec![ALL.to_owned()];
        [
            Self {
                verbs: all(),
                groups: all(),
                resources: all(),
                ..Self::default()
            },
            Self {
                verbs: all(),
                urls: all(),
                ..Self::default()
            },
        ]
    }

    /// Whether the rule allows the request.
    pub fn allows(&self, request: &RequestInfo) -> bool {
        if !has_or_all(&self.verbs, &request.verb) {
            return false;
        }
        let Some(resource) = &request.resource else {
            return self.urls.iter().any(|url| url_covers(url, &request.path));
        };
        has_or_all(&self.groups, &resource.group)
            && self
                .resources
                .iter()
                .any(|allowed| resource_covers(allowed, &resource.resource, &resource.subresource))
            && (self.names.is_empty() || has(&self.names, &resource.name))
    }

    fn covers(&self, atom: &Atom<'_>) -> bool {
        if !has_or_all(&self.verbs, atom.verb) {
            return false;
        }
        match &atom.of {
            Of::Url(url) => {
                self.names.is_empty() && self.urls.iter().any(|own| url_covers(own, url))
            }
            Of::Resource {
                group,
                resource,
                name,
            } => {
                let (main, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                has_or_all(&self.groups, group)
                    && self
                        .resources
                        .iter()
                        .any(|own| resource_covers(own, main, subresource))
                    && (self.names.is_empty() || name.is_some_and(|name| has(&self.names, name)))
            }
        }
    }

    fn combinations(&self) -> usize {
        let resources = self
            .groups
            .len()
            .saturating_mul(self.resources.len())
            .saturating_mul(self.names.len().max(1));
        self.verbs
            .len()
            .saturating_mul(resources.saturating_add(self.urls.len()))
    }

    /// The single permissions that the rule consists of.
    fn atoms(&self) -> impl Iterator<Item = Atom<'_>> {
        let resources = self.groups.iter().flat_map(move |group| {
            self.resources.iter().flat_map(move |resource| {
                self.verbs.iter().flat_map(move |verb| {
                    let of = move |name| Atom {
                        verb,
                        of: Of::Resource {
                            group,
                            resource,
                            name,
                        },
                    };
                    let unnamed = self.names.is_empty().then(|| of(None));
                    unnamed
                        .into_iter()
                        .chain(self.names.iter().map(move |name| of(Some(name))))
                })
            })
        });
        let urls = self.urls.iter().flat_map(move |url| {
            self.verbs.iter().map(move |verb| Atom {
                verb,
                of: Of::Url(url),
            })
        });
        resources.chain(urls)
    }
}

/// Upstream's words in refusals of escalation: `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`.
impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quoted_list(list)))
        .collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}

/// A list as Go's `%q` prints it: `["a" "b"]`.
pub fn quoted_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// One permission: one verb on one resource of one group, perhaps of one name, or on one URL.
#[derive(Clone, Copy)]
struct Atom<'a> {
    verb: &'a str,
    of: Of<'a>,
}

#[derive(Clone, Copy)]
enum Of<'a> {
    Resource {
        group: &'a str,
        resource: &'a str,
        name: Option<&'a str>,
    },
    Url(&'a str),
}

/// What comparing two lists of rules gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// Everything is held.
    Whole,
    /// These are not held: compact, and sorted as they are told.
    Missing(Vec<Rule>),
    /// There is too much to compare.
    TooMany,
}

/// Whether `held` rules cover all that `asked` ones allow.
pub fn coverage(held: &[Rule], asked: &[Rule]) -> Coverage {
    let combinations = asked
        .iter()
        .fold(0usize, |sum, rule| sum.saturating_add(rule.combinations()));
    if combinations > COMBINATIONS_MAX {
        return Coverage::TooMany;
    }
    let missing: Vec<Atom<'_>> = asked
        .iter()
        .flat_map(Rule::atoms)
        .filter(|atom| !held.iter().any(|rule| rule.covers(atom)))
        .collect();
    if missing.is_empty() {
        return Coverage::Whole;
    }
    let mut rules = compact(&missing);
    rules.sort_by_key(ToString::to_string);
    rules.dedup();
    Coverage::Missing(rules)
}

/// Puts the verbs of a resource into one rule; names and URLs stay apart.
fn compact(atoms: &[Atom<'_>]) -> Vec<Rule> {
    let mut simple: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let mut rules = Vec::new();
    for atom in atoms {
        let verb = atom.verb.to_owned();
        match atom.of {
            Of::Resource {
                group,
                resource,
                name: None,
            } => simple.entry((group, resource)).or_default().push(verb),
            Of::Resource {
                group,
                resource,
                name: Some(name),
            } => rules.push(Rule {
                verbs: vec![verb],
                groups: vec![group.to_owned()],
                resources: vec![resource.to_owned()],
                names: vec![name.to_owned()],
                urls: Vec::new(),
            }),
            Of::Url(url) => rules.push(Rule {
                verbs: vec![verb],
                urls: vec![url.to_owned()],
                ..Rule::default()
            }),
        }
    }
    rules.extend(simple.into_iter().map(|((group, resource), verbs)| Rule {
        verbs,
        groups: vec![group.to_owned()],
        resources: vec![resource.to_owned()],
        ..Rule::default()
    }));
    rules
}

fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|item| item == text)
}

fn has_or_all(list: &[String], text: &str) -> bool {
    list.iter().any(|item| item == ALL || item == text)
}

/// `*`, the resource with its subresource, or `*/SUBRESOURCE`.
fn resource_covers(allowed: &str, resource: &str, subresource: &str) -> bool {
    if allowed == ALL {
        return true;
    }
    match allowed.split_once('/') {
        None => subresource.is_empty() && allowed == resource,
        Some((main, sub)) => {
            !subresource.is_empty() && sub == subresource && (main == ALL || main == resource)
        }
    }
}

/// The path itself, or one that ends with `*` and begins it.
fn url_covers(allowed: &str, path: &str) -> bool {
    allowed == path || allowed.ends_with('*') && path.starts_with(allowed.trim_end_matches('*'))
}

#[cfg(test)]
mod tests;
