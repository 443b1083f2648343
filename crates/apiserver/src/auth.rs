//! Who asks, and whether they may.

use crate::path::RequestInfo;
use crate::rbac::Held;

/// Everybody who showed who they are is in this group.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everybody who did not is in this one, and has the name [`ANONYMOUS`].
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of those who did not say who they are.
pub const ANONYMOUS: &str = "system:anonymous";

/// A user and its groups: from a client certificate's CN and O, from a token, or given in process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
    /// Tells users of the same name apart; of service accounts alone.
    pub uid: String,
    /// What else is known, as `kubectl auth whoami` shows it.
    pub extra: Vec<(String, Vec<String>)>,
}

impl Identity {
    /// An identity with the given user name and groups.
    pub fn new(user: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            user: user.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// The super-user.
    pub fn admin() -> Self {
        Self::new("kubernetes-admin", &[crate::pki::MASTERS])
    }

    /// Somebody who did not say who they are.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[UNAUTHENTICATED])
    }

    /// The same as one of those who showed who they are.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        if !self.is_in(AUTHENTICATED) && !self.is_in(UNAUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }

    /// Whether the identity may do everything, whatever roles and bindings say.
    pub fn is_master(&self) -> bool {
        self.is_in(crate::pki::MASTERS)
    }

    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// What an [`Authorizer`] concludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny,
}

/// Decides whether an identity may make a request. [`rbac::Live`](crate::rbac::Live) unless another is set.
pub trait Authorizer: Send + Sync + 'static {
    fn authorize(&self, identity: &Identity, request: &RequestInfo) -> Decision;

    /// Why, for people to read; asked for after the decision, when somebody will read it. Empty when there is nothing
    /// to say.
    fn reason(&self, _: &Identity, _: &RequestInfo) -> String {
        String::new()
    }

    /// The rules that the identity has in a namespace (empty: in the cluster). Nobody can hand out what is not among
    /// them.
    fn held(&self, _: &Identity, _: &str) -> Held {
        Held::default()
    }
}
