//! Role-based access control: what roles and bindings allow, kept beside the store and put to each request.
//!
//! `rule` and `policy` are pure; `live` follows the store; `defaults` are the roles that every cluster has, which
//! `furnish` makes and mends when the server starts.

mod defaults;
mod furnish;
mod live;
mod policy;
mod rule;

use std::sync::Arc;

pub use live::Live;
pub use policy::{Held, Policy, aggregate};
pub use rule::{Coverage, Rule, coverage, quoted_list};

use crate::Error;
use crate::server::State;

/// Makes the default roles and bindings, reads what is allowed and follows it.
pub(crate) async fn start(state: &Arc<State>) -> Result<(), Error> {
    furnish::run(state).await?;
    let changes = live::kinds()
        .filter_map(|kind| state.cache(kind))
        .map(|cache| cache.subscribe())
        .collect();
    let mut known = live::Known::default();
    let loaded = state.rbac.load(&mut known, &*state.store).await;
    loaded.map_err(|source| Error::Store {
        attempt: "read the roles and bindings".into(),
        source,
    })?;
    tokio::spawn(live::follow(
        state.rbac.clone(),
        known,
        state.store.clone(),
        changes,
        state.shutdown.clone(),
    ));
    Ok(())
}
