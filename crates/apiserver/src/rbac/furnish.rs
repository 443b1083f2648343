//! The shell around `defaults`: puts them into the store.

use std::sync::Arc;

use store::Expect;

use super::defaults::{self, Given, Mending};
use crate::Error;
use crate::bootstrap::context;
use crate::handlers::create::create_value;
use crate::handlers::write::modify;
use crate::object;
use crate::registry;
use crate::server::State;
use crate::status::ApiError;

/// A binding that goes and comes again meets somebody else's at most this often.
const ATTEMPTS: usize = 3;

/// Makes and mends all of them. Together, so that they share the store's commits: the start waits for it.
pub(super) async fn run(state: &Arc<State>) -> Result<(), Error> {
    let all = defaults::all();
    let each = all.iter().map(|given| async move {
        let result = ensure(state, given).await;
        result.map_err(|error| Error::Bootstrap {
            what: format!("{} {:?}", given.plural, given.name()),
            reason: error.message,
        })
    });
    futures::future::try_join_all(each).await.map(drop)
}

async fn ensure(state: &Arc<State>, given: &Given) -> Result<(), ApiError> {
    let kind = registry::find("rbac.authorization.k8s.io", "v1", given.plural)
        .ok_or_else(|| ApiError::internal("there is no such kind"))?;
    let key = kind.key(&given.namespace, given.name());
    for _ in 0..ATTEMPTS {
        let (found, _) = state.store.get(&key).await.map_err(ApiError::internal)?;
        let Some(found) = found else {
            let context = context(state, kind, &given.namespace, "");
            match create_value(&context, given.object.clone(), false).await {
                Err(error) if error.code == 409 => continue,
                other => return other.map(drop),
            }
        };
        let existing = object::parse(&found.value, found.mod_revision);
        match defaults::mend(&existing, &given.object) {
            Mending::Nothing => return Ok(()),
            Mending::Update(mended) => {
                let context = context(state, kind, &given.namespace, given.name());
                match modify(&context, false, |_| Ok(mended.clone())).await {
                    Err(error) if error.code == 409 || error.code == 404 => {}
                    other => return other.map(drop),
                }
            }
            Mending::Replace => {
                let expect = Expect::Revision(found.mod_revision);
                match state.store.delete(&key, expect).await {
                    Ok(_) | Err(store::Error::Conflict { .. } | store::Error::NotFound) => {}
                    Err(error) => return Err(ApiError::internal(error)),
                }
            }
        }
    }
    Err(ApiError::internal("it kept changing"))
}
