//! Roles and bindings as an index from subjects to rules (upstream `pkg/registry/rbac/validation`). Pure: made anew when
//! something changes, then only read.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::rule::Rule;
use crate::auth::Identity;
use crate::object::{items, text};
use crate::path::RequestInfo;
use crate::schema::gotext::quote;
use crate::tokens::user_name;

/// Who may do what.
#[derive(Default)]
pub struct Policy {
    /// By namespace and name; cluster roles have no namespace.
    roles: HashMap<(String, String), Arc<[Rule]>>,
    users: HashMap<String, Grants>,
    groups: HashMap<String, Grants>,
}

/// What a subject was given.
#[derive(Default)]
struct Grants {
    cluster: Vec<Grant>,
    namespaces: HashMap<String, Vec<Grant>>,
}

struct Grant {
    binding: Arc<Binding>,
    subject: usize,
    /// `None`: the role that the binding names is not there.
    rules: Option<Arc<[Rule]>>,
}

/// A role, as far as the policy reads it.
#[derive(Debug)]
pub struct Role {
    pub namespace: String,
    pub name: String,
    pub rules: Arc<[Rule]>,
}

impl Role {
    /// Of a Role or (without a namespace) a ClusterRole.
    pub fn read(object: &Value) -> Self {
        Self {
            namespace: text(object, &["metadata", "namespace"]).to_owned(),
            name: text(object, &["metadata", "name"]).to_owned(),
            rules: Rule::of_role(object).into(),
        }
    }
}

/// A binding, as far as the policy reads it.
#[derive(Debug)]
pub struct Binding {
    /// Empty for a ClusterRoleBinding.
    pub namespace: String,
    pub name: String,
    pub role_kind: String,
    pub role: String,
    pub subjects: Vec<Subject>,
}

/// Who a binding is for.
#[derive(Debug)]
pub struct Subject {
    pub kind: String,
    pub namespace: String,
    pub name: String,
}

impl Binding {
    /// Of a RoleBinding or a ClusterRoleBinding.
    pub fn read(object: &Value) -> Self {
        let namespace = text(object, &["metadata", "namespace"]);
        let subject = |subject: &Value| Subject {
            kind: text(subject, &["kind"]).to_owned(),
            namespace: match text(subject, &["namespace"]) {
                "" => namespace.to_owned(),
                other => other.to_owned(),
            },
            name: text(subject, &["name"]).to_owned(),
        };
        Self {
            namespace: namespace.to_owned(),
            name: text(object, &["metadata", "name"]).to_owned(),
            role_kind: text(object, &["roleRef", "kind"]).to_owned(),
            role: text(object, &["roleRef", "name"]).to_owned(),
            subjects: items(object, &["subjects"]).iter().map(subject).collect(),
        }
    }

    /// Upstream's words for where a right comes from.
    fn describe(&self, subject: usize) -> String {
        let to = self.subjects.get(subject).map_or_else(String::new, |s| {
            let name = match s.kind.as_str() {
                "ServiceAccount" => format!("{}/{}", s.name, s.namespace),
                _ => s.name.clone(),
            };
            format!("{} {}", s.kind, quote(&name))
        });
        let (kind, name) = match self.namespace.as_str() {
            "" => ("ClusterRoleBinding", self.name.clone()),
            namespace => ("RoleBinding", format!("{}/{namespace}", self.name)),
        };
        format!(
            "{kind} {} of {} {} to {to}",
            quote(&name),
            self.role_kind,
            quote(&self.role)
        )
    }

    fn role_missing(&self) -> String {
        let kind = self.role_kind.to_ascii_lowercase();
        format!(
            "{kind}.rbac.authorization.k8s.io {} not found",
            quote(&self.role)
        )
    }
}

/// The rules of an identity, and what could not be found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub rules: Vec<Rule>,
    pub problems: Vec<String>,
}

impl Policy {
    /// Indexes roles and bindings.
    pub fn new(
        roles: impl IntoIterator<Item = Arc<Role>>,
        bindings: impl IntoIterator<Item = Arc<Binding>>,
    ) -> Self {
        let mut policy = Self::default();
        for role in roles {
            let key = (role.namespace.clone(), role.name.clone());
            policy.roles.insert(key, role.rules.clone());
        }
        for binding in bindings {
            let rules = policy.role(&binding.role_kind, &binding.namespace, &binding.role);
            for (at, subject) in binding.subjects.iter().enumerate() {
                let grants = match subject.kind.as_str() {
                    "User" => policy.users.entry(subject.name.clone()),
                    "Group" => policy.groups.entry(subject.name.clone()),
                    "ServiceAccount" if !subject.namespace.is_empty() => {
                        let user = user_name(&subject.namespace, &subject.name);
                        policy.users.entry(user)
                    }
                    _ => continue,
                };
                let grants = grants.or_default();
                let list = match binding.namespace.as_str() {
                    "" => &mut grants.cluster,
                    namespace => grants.namespaces.entry(namespace.to_owned()).or_default(),
                };
                list.push(Grant {
                    binding: binding.clone(),
                    subject: at,
                    rules: rules.clone(),
                });
            }
        }
        policy
    }

    /// The rules of the role that a binding in `namespace` (empty: of the cluster) refers to.
    pub fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        let namespace = match kind {
            "ClusterRole" => "",
            "Role" if !namespace.is_empty() => namespace,
            _ => return None,
        };
        self.roles
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// What the identity was given that counts in the namespace (empty: in the cluster), cluster-wide grants first.
    fn grants<'a>(
        &'a self,
        identity: &'a Identity,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Grant> {
        let subjects = move || {
            let user = self.users.get(&identity.user);
            let groups = identity.groups.iter().filter_map(|g| self.groups.get(g));
            user.into_iter().chain(groups)
        };
        let cluster = subjects().flat_map(|grants| &grants.cluster);
        let local = subjects().filter_map(move |grants| grants.namespaces.get(namespace));
        cluster.chain(local.flatten())
    }

    fn granting<'a>(
        &'a self,
        identity: &'a Identity,
        request: &'a RequestInfo,
    ) -> Option<&'a Grant> {
        let namespace = request.resource.as_ref().map_or("", |r| &r.namespace);
        self.grants(identity, namespace).find(|grant| {
            let rules = grant.rules.as_deref().unwrap_or_default();
            rules.iter().any(|rule| rule.allows(request))
        })
    }

    /// Whether some rule allows the request.
    pub fn allows(&self, identity: &Identity, request: &RequestInfo) -> bool {
        self.granting(identity, request).is_some()
    }

    /// Upstream's reason for the answer to [`allows`](Self::allows); empty when nothing was found.
    pub fn reason(&self, identity: &Identity, request: &RequestInfo) -> String {
        if let Some(grant) = self.granting(identity, request) {
            return format!("RBAC: allowed by {}", grant.binding.describe(grant.subject));
        }
        let namespace = request.resource.as_ref().map_or("", |r| &r.namespace);
        let problems = self.held(identity, namespace).problems;
        match problems.as_slice() {
            [] => String::new(),
            problems => format!("RBAC: {}", aggregate(problems)),
        }
    }

    /// All rules of the identity in the namespace.
    pub fn held(&self, identity: &Identity, namespace: &str) -> Held {
        let mut held = Held::default();
        let mut seen = std::collections::HashSet::new();
        for grant in self.grants(identity, namespace) {
            // several subjects of a binding may be the same one
            if !seen.insert(Arc::as_ptr(&grant.binding)) {
                continue;
            }
            match &grant.rules {
                Some(rules) => held.rules.extend(rules.iter().cloned()),
                None => {
                    let problem = grant.binding.role_missing();
                    if !held.problems.contains(&problem) {
                        held.problems.push(problem);
                    }
                }
            }
        }
        held
    }
}

/// Several problems as Go's aggregated errors print them.
pub fn aggregate(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        _ => format!("[{}]", problems.join(", ")),
    }
}

#[cfg(test)]
mod tests;
