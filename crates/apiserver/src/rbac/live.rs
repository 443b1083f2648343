//! The policy as it is now. Requests read it through one pointer; it is made anew, beside them, when a role or a binding
//! changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use store::{Revision, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::policy::{Binding, Held, Policy, Role};
use crate::auth::{Authorizer, Decision, Identity};
use crate::object;
use crate::path::RequestInfo;
use crate::registry::Kind;

const GROUP: &str = "rbac.authorization.k8s.io";
const ROLES: [&str; 2] = ["clusterroles", "roles"];
const BINDINGS: [&str; 2] = ["clusterrolebindings", "rolebindings"];
/// How long to wait when the store could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// The policy of this moment.
#[derive(Default)]
pub struct Live {
    /// Held for the time that it takes to copy or swap the pointer.
    policy: RwLock<Arc<Policy>>,
}

impl Live {
    /// What is allowed now.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.read().clone()
    }

    /// Reads the policy from the store.
    pub(crate) async fn load(
        &self,
        known: &mut Known,
        store: &dyn Store,
    ) -> Result<(), store::Error> {
        let policy = known.read(store).await?;
        *self.policy.write() = Arc::new(policy);
        Ok(())
    }
}

impl Authorizer for Live {
    fn authorize(&self, identity: &Identity, request: &RequestInfo) -> Decision {
        if identity.is_master() || self.policy().allows(identity, request) {
            Decision::Allow
        } else {
            Decision::Deny
        }
    }

    fn reason(&self, identity: &Identity, request: &RequestInfo) -> String {
        if identity.is_master() {
            return String::new();
        }
        self.policy().reason(identity, request)
    }

    fn held(&self, identity: &Identity, namespace: &str) -> Held {
        self.policy().held(identity, namespace)
    }
}

/// What was read before: objects that have not changed are not parsed again.
#[derive(Default)]
pub(crate) struct Known {
    roles: HashMap<String, (Revision, Arc<Role>)>,
    bindings: HashMap<String, (Revision, Arc<Binding>)>,
}

impl Known {
    async fn read(&mut self, store: &dyn Store) -> Result<Policy, store::Error> {
        let (roles, bindings) = (
            std::mem::take(&mut self.roles),
            std::mem::take(&mut self.bindings),
        );
        self.roles = again(store, &ROLES, roles, Role::read).await?;
        self.bindings = again(store, &BINDINGS, bindings, Binding::read).await?;
        let mut by_name: Vec<_> = self.bindings.iter().collect();
        by_name.sort_by_key(|(key, _)| *key);
        Ok(Policy::new(
            self.roles.values().map(|(_, role)| role.clone()),
            by_name.into_iter().map(|(_, (_, binding))| binding.clone()),
        ))
    }
}

type Parsed<T> = HashMap<String, (Revision, Arc<T>)>;

async fn again<T>(
    store: &dyn Store,
    plurals: &[&str],
    mut known: Parsed<T>,
    read: fn(&serde_json::Value) -> T,
) -> Result<Parsed<T>, store::Error> {
    let mut all = HashMap::new();
    for kind in plurals.iter().filter_map(|plural| kind(plural)) {
        for kv in store.range(&kind.prefix(""), None, 0, None).await?.items {
            let parsed = match known.remove(&kv.key) {
                Some((revision, parsed)) if revision == kv.mod_revision => parsed,
                _ => Arc::new(read(&object::parse(&kv.value, kv.mod_revision))),
            };
            all.insert(kv.key, (kv.mod_revision, parsed));
        }
    }
    Ok(all)
}

fn kind(plural: &str) -> Option<&'static Kind> {
    crate::registry::find(GROUP, "v1", plural)
}

/// The kinds that the policy is made of.
pub(crate) fn kinds() -> impl Iterator<Item = &'static Kind> {
    ROLES
        .iter()
        .chain(&BINDINGS)
        .filter_map(|plural| kind(plural))
}

/// Follows the store until `shutdown`; `changes` tell when there is something new.
pub(crate) async fn follow(
    live: Arc<Live>,
    mut known: Known,
    store: Arc<dyn Store>,
    mut changes: Vec<watch::Receiver<u64>>,
    shutdown: CancellationToken,
) {
    loop {
        let any = futures::future::select_all(
            changes.iter_mut().map(|change| Box::pin(change.changed())),
        );
        let (result, _, rest) = tokio::select! {
            () = shutdown.cancelled() => return,
            any = any => any,
        };
        drop(rest);
        if result.is_err() {
            return;
        }
        // what came with it is read with it
        changes.iter_mut().for_each(|change| {
            change.borrow_and_update();
        });
        while let Err(error) = live.load(&mut known, &*store).await {
            tracing::warn!(%error, "could not read the roles and bindings; those known before count");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}
