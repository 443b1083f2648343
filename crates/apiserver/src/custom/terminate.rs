//! The end of a definition: its objects are deleted first (upstream `pkg/controller/finalizer`).

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::Value;
use store::Expect;

use super::build;
use super::definition::{CLEANUP, PREFIX, condition, set_condition};
use crate::bootstrap;
use crate::handlers::delete;
use crate::object::{self, items, text};
use crate::registry::KindRef;
use crate::server::State;

/// How often it is looked whether finalizers have let the last objects go; doubles up to a hundredfold.
const INTERVAL: Duration = Duration::from_millis(20);
const INTERVAL_MAX: Duration = Duration::from_secs(2);

/// Begins to delete the objects of a definition that waits for that, unless it has been begun.
pub(super) fn begin(state: &Arc<State>, definition: &Arc<Value>) {
    if !waits(definition) {
        return;
    }
    let uid = text(definition, &["metadata", "uid"]).to_owned();
    if !state.terminating.lock().insert(uid.clone()) {
        return;
    }
    let name = text(definition, &["metadata", "name"]).to_owned();
    let weak = Arc::downgrade(state);
    let shutdown = state.shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = run(&weak, &name) => {}
        }
        if let Some(state) = weak.upgrade() {
            state.terminating.lock().remove(&uid);
        }
    });
}

fn waits(definition: &Value) -> bool {
    let finalizers = items(definition, &["metadata", "finalizers"]);
    definition["metadata"]["deletionTimestamp"].is_string()
        && finalizers.iter().any(|f| f == CLEANUP)
}

async fn run(state: &Weak<State>, name: &str) {
    let mut pause = INTERVAL;
    while let Some(state) = state.upgrade() {
        match step(&state, name).await {
            Ok(true) => {
                // nobody finds the kinds any more
                let _ = state.custom.settle(&state).await;
                return;
            }
            Ok(false) => {}
            Err(why) => tracing::warn!(
                name,
                why,
                "could not delete the objects of a CustomResourceDefinition"
            ),
        }
        drop(state);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(INTERVAL_MAX);
    }
}

/// One look; whether the definition is done with.
async fn step(state: &Arc<State>, name: &str) -> Result<bool, String> {
    let fail = |error: store::Error| error.to_string();
    let key = format!("{PREFIX}{name}");
    let (found, _) = state.store.get(&key).await.map_err(fail)?;
    let Some(kv) = found else {
        return Ok(true);
    };
    let mut definition = object::parse(&kv.value, kv.mod_revision);
    if !waits(&definition) {
        return Ok(true);
    }
    let established = condition(&definition, "Established").is_some_and(|c| c["status"] == "True");
    let now = crate::time::now();
    let (reason, message) = if established {
        let left = delete_objects(state, &definition).await?;
        if left > 0 {
            let said = condition(&definition, "Terminating")
                .is_some_and(|c| c["reason"] == "InstanceDeletionInProgress");
            if !said {
                set_condition(
                    &mut definition,
                    "Terminating",
                    "True",
                    "InstanceDeletionInProgress",
                    "CustomResource deletion is in progress",
                    &now,
                );
                let _ = state
                    .store
                    .put(
                        &key,
                        object::encode(&definition),
                        Expect::Revision(kv.mod_revision),
                    )
                    .await;
            }
            return Ok(false);
        }
        ("InstanceDeletionCompleted", "removed all instances")
    } else {
        ("NeverEstablished", "resource was never established")
    };
    set_condition(
        &mut definition,
        "Terminating",
        "False",
        reason,
        message,
        &now,
    );
    let mut finalizers = items(&definition, &["metadata", "finalizers"]).to_vec();
    finalizers.retain(|finalizer| finalizer != CLEANUP);
    let expect = Expect::Revision(kv.mod_revision);
    let result = if finalizers.is_empty() {
        state.store.delete(&key, expect).await.map(|_| ())
    } else {
        definition["metadata"]["finalizers"] = finalizers.into();
        state
            .store
            .put(&key, object::encode(&definition), expect)
            .await
            .map(|_| ())
    };
    match result {
        Ok(()) => Ok(true),
        Err(store::Error::Conflict { .. } | store::Error::NotFound) => Ok(false),
        Err(error) => Err(fail(error)),
    }
}

/// Deletes every object; how many are still there.
async fn delete_objects(state: &Arc<State>, definition: &Value) -> Result<usize, String> {
    let prefix = format!("{}/", build::storage(definition));
    let set = state.custom.set();
    let kinds = set.of_group(text(definition, &["spec", "group"]));
    let plural = text(definition, &["spec", "names", "plural"]);
    let Some(kind) = kinds.iter().find(|kind| kind.plural == plural) else {
        // none of its versions is served
        let page = state
            .store
            .range(&prefix, None, 0, None)
            .await
            .map_err(|e| e.to_string())?;
        for kv in &page.items {
            let _ = state
                .store
                .delete(&kv.key, Expect::Revision(kv.mod_revision))
                .await;
        }
        return Ok(page.items.len());
    };
    let page = state
        .store
        .range(&prefix, None, 0, None)
        .await
        .map_err(|e| e.to_string())?;
    for kv in &page.items {
        let object = object::parse(&kv.value, kv.mod_revision);
        if object["metadata"]["deletionTimestamp"].is_string() {
            continue;
        }
        let (namespace, name) = (
            text(&object, &["metadata", "namespace"]),
            text(&object, &["metadata", "name"]),
        );
        let context = bootstrap::context(state, KindRef::Custom(kind.clone()), namespace, name);
        match delete::delete_named(&context, name, &delete::Options::default()).await {
            Ok(_) => {}
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error.message),
        }
    }
    // watchers are told before their watches end
    let left = state
        .store
        .range(&prefix, None, 1, None)
        .await
        .map_err(|e| e.to_string())?;
    let seen = kind
        .custom
        .as_ref()
        .and_then(|custom| custom.cache.as_ref())
        .is_none_or(|cache| cache.is_empty());
    Ok(left.items.len().max(usize::from(!seen)))
}
