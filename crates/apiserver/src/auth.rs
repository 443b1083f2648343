//! Who asks, and whether they may.

use crate::path::RequestInfo;

/// A user and its groups: from a client certificate's CN and O, or given in process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
}

impl Identity {
    /// An identity with the given user name and groups.
    pub fn new(user: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            user: user.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        }
    }

    /// The super-user.
    pub fn admin() -> Self {
        Self::new("kubernetes-admin", &[crate::pki::MASTERS])
    }
}

/// What an [`Authorizer`] concludes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny,
}

/// Decides whether an identity may make a request.
pub trait Authorizer: Send + Sync + 'static {
    fn authorize(&self, identity: &Identity, request: &RequestInfo) -> Decision;
}

/// Lets `system:masters` and this program's own roles do everything, every authenticated user discovery and
/// self-review, and nobody anything else.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuiltinAuthorizer;

/// Users under which this program's own roles run.
const ROLES: [&str; 8] = [
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:kube-proxy",
    "system:metrics",
    "system:plimsoll",
    "system:kube-dns",
    "system:gateway",
];

impl Authorizer for BuiltinAuthorizer {
    fn authorize(&self, identity: &Identity, request: &RequestInfo) -> Decision {
        let master = identity.groups.iter().any(|g| g == crate::pki::MASTERS);
        // To act as somebody else is for people, not for roles.
        if request.verb == "impersonate" {
            return if master {
                Decision::Allow
            } else {
                Decision::Deny
            };
        }
        let privileged = master
            || identity.groups.iter().any(|g| g == "system:nodes")
            || identity.user.starts_with("system:node:")
            || ROLES.iter().any(|role| {
                let rest = identity.user.strip_prefix(role);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
            });
        let harmless = match &request.resource {
            None => matches!(request.verb.as_str(), "get" | "head"),
            Some(resource) => matches!(
                (resource.group.as_str(), resource.resource.as_str()),
                (
                    "authorization.k8s.io",
                    "selfsubjectaccessreviews" | "selfsubjectrulesreviews"
                ) | ("authentication.k8s.io", "selfsubjectreviews")
            ),
        };
        if privileged || harmless {
            Decision::Allow
        } else {
            Decision::Deny
        }
    }
}
