//! ResourceQuotas: an object is charged to the quotas of its namespace before it is written, so that however many are made
//! at once, they never exceed one (upstream's admission plugin ResourceQuota).

use std::collections::HashSet;

use jiff::Timestamp;
use quota::Amounts;
use quota::charge::{Request, apply, charges, take_back};
use serde_json::Value;
use store::Expect;

use super::{Context, list};
use crate::object::{self, text};
use crate::server::State;
use crate::status::ApiError;

/// The controller writes the same statuses; a charge that meets such a write is tried anew.
const ATTEMPTS: usize = 16;
/// Nobody is kept from telling what happens.
const FREE: [&str; 1] = ["events"];

/// What was charged to which quota. Kept, unless it is given back because the object was not written after all.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Charged(Vec<(String, Amounts)>);

/// Charges a new object, or what an update adds.
pub(super) async fn charge(
    context: &Context,
    new: &Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Charged, ApiError> {
    let kind = &context.kind;
    let mut charged = Charged::default();
    if !kind.namespaced || FREE.contains(&kind.plural) {
        return Ok(charged);
    }
    let state = &context.state;
    let prefix = format!("/registry/resourcequotas/{}/", context.info.namespace);
    let fail = |error| list::store_error(context, error);
    let any = state
        .store
        .range(&prefix, None, 1, None)
        .await
        .map_err(fail)?;
    if any.items.is_empty() {
        return Ok(charged);
    }
    // Otherwise those that are made at once would only meet each other's writes.
    let _turn = state.charging.lock().await;
    let request = Request {
        group: kind.group,
        plural: kind.plural,
        object: new,
        old,
        now: Timestamp::now(),
    };
    let mut done: HashSet<String> = HashSet::new();
    for _ in 0..ATTEMPTS {
        let page = state
            .store
            .range(&prefix, None, 0, None)
            .await
            .map_err(fail)?;
        let left: Vec<_> = page
            .items
            .iter()
            .filter(|kv| !done.contains(&kv.key))
            .collect();
        let quotas: Vec<Value> = left
            .iter()
            .map(|kv| object::parse(&kv.value, kv.mod_revision))
            .collect();
        let due = match charges(&quotas, &request) {
            Ok(due) => due,
            Err(why) => {
                give_back(state, charged).await;
                let name = text(new, &["metadata", "name"]);
                return Err(ApiError::forbidden(kind.group, kind.plural, name, &why));
            }
        };
        if dry_run {
            return Ok(charged);
        }
        let mut lost = false;
        for (n, amounts) in due {
            let mut value = quotas[n].clone();
            apply(&mut value, &amounts);
            let expect = Expect::Revision(left[n].mod_revision);
            let key = left[n].key.clone();
            match state.store.put(&key, object::encode(&value), expect).await {
                Ok(_) => {
                    done.insert(key.clone());
                    charged.0.push((key, amounts));
                }
                Err(store::Error::Conflict { .. } | store::Error::NotFound) => lost = true,
                Err(other) => {
                    give_back(state, charged).await;
                    return Err(fail(other));
                }
            }
        }
        if !lost {
            return Ok(charged);
        }
    }
    give_back(state, charged).await;
    Err(ApiError::modified("", "resourcequotas", ""))
}

/// Gives back what was charged for something that was not written. When that fails, the controller's next count does it.
pub(super) async fn give_back(state: &State, charged: Charged) {
    for (key, amounts) in charged.0 {
        for _ in 0..ATTEMPTS {
            let Ok((Some(current), _)) = state.store.get(&key).await else {
                break;
            };
            let mut value = object::parse(&current.value, current.mod_revision);
            take_back(&mut value, &amounts);
            let expect = Expect::Revision(current.mod_revision);
            match state.store.put(&key, object::encode(&value), expect).await {
                Err(store::Error::Conflict { .. }) => {}
                _ => break,
            }
        }
    }
}
