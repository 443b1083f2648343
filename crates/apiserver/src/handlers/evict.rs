//! POST of `pods/eviction`: a deletion that respects disruption budgets (upstream `pkg/registry/core/pod/storage/eviction.go`).

use serde_json::{Value, json};
use store::{Expect, KeyValue};

use super::delete::{self, Options};
use super::respond::{self, Response};
use super::{Context, body, list};
use crate::object::{self, items, text};
use crate::registry;
use crate::schema::Gvk;
use crate::status::ApiError;

/// More evictions than this that the budget's controller has not seen are refused.
const DISRUPTED_MAX: usize = 2000;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// How often a pod or a budget that others change meanwhile is looked at anew.
const CONFLICT_ATTEMPTS: usize = 32;

/// Deletes the pod, if its budget allows.
pub(super) async fn evict(context: &Context, body: &[u8]) -> Result<Response, ApiError> {
    let gvk = Gvk::gvk("policy", "v1", "Eviction");
    let eviction = body::decode(context, body, &gvk)?.value;
    let name = &context.info.name;
    let given = text(&eviction, &["metadata", "name"]);
    if !given.is_empty() && given != name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let mut options = options(context, &eviction)?;
    let asked_version = options.resource_version.is_some();
    // a pod that changes while its deletion is tried may have become one that a budget protects
    for _ in 0..CONFLICT_ATTEMPTS {
        let pod = pod(context).await?;
        let version = text(&pod, &["metadata", "resourceVersion"]).to_owned();
        let unprotected = needs_no_budget(&pod);
        let mut budget = None;
        if !unprotected {
            budget = allow(context, &pod, options.dry_run).await?;
        }
        let settled = has_ended(&pod) || !text(&pod, &["metadata", "deletionTimestamp"]).is_empty();
        let unready = budget.as_ref().is_some_and(|budget| !budget.taken);
        if !asked_version && (unprotected && !settled || unready) {
            options.resource_version = Some(version);
        }
        match remove(context, options.clone()).await {
            Ok(()) => return Ok(success()),
            Err(error) if error.code == 409 && !asked_version && unprotected => {
                options.resource_version = None;
            }
            Err(error) if error.code == 409 && !asked_version && unready => {
                let name = budget.map(|budget| budget.name).unwrap_or_default();
                return Err(still_processed(&name));
            }
            Err(error) => return Err(error),
        }
    }
    Err(ApiError::modified("", "pods", name))
}

fn options(context: &Context, eviction: &Value) -> Result<Options, ApiError> {
    let said = delete::of_body(&eviction["deleteOptions"])?;
    Ok(Options {
        dry_run: said.dry_run || context.dry_run()?,
        ..said
    })
}

fn success() -> Response {
    respond::value(
        201,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    )
}

async fn pod(context: &Context) -> Result<Value, ApiError> {
    let current = stored_pod(context).await?;
    Ok(object::parse(&current.value, current.mod_revision))
}

async fn stored_pod(context: &Context) -> Result<KeyValue, ApiError> {
    let name = &context.info.name;
    let key = context.kind.key(&context.info.namespace, name);
    let (found, _) = context
        .state
        .store
        .get(&key)
        .await
        .map_err(|error| list::store_error(context, error))?;
    found.ok_or_else(|| context.not_found(name))
}

fn has_ended(pod: &Value) -> bool {
    matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed")
}

/// A pod that does not serve yet, or no more, is no loss.
fn needs_no_budget(pod: &Value) -> bool {
    has_ended(pod)
        || text(pod, &["status", "phase"]) == "Pending"
        || !text(pod, &["metadata", "deletionTimestamp"]).is_empty()
}

fn is_ready(pod: &Value) -> bool {
    items(pod, &["status", "conditions"])
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The budget that allowed an eviction.
struct Allowed {
    name: String,
    /// The eviction was counted; it is not when the pod was not ready anyway.
    taken: bool,
}

/// Takes the eviction from the pod's budget, if it has one.
async fn allow(context: &Context, pod: &Value, dry_run: bool) -> Result<Option<Allowed>, ApiError> {
    let Some(kind) = registry::find("policy", "v1", "poddisruptionbudgets") else {
        return Ok(None);
    };
    let fail = |error| list::store_error(context, error);
    let store = &context.state.store;
    for _ in 0..CONFLICT_ATTEMPTS {
        let prefix = kind.prefix(&context.info.namespace);
        let page = store.range(&prefix, None, 0, None).await.map_err(fail)?;
        let mut of_pod = page.items.iter().filter_map(|kv| {
            let budget = object::parse(&kv.value, kv.mod_revision);
            covers(&budget, pod).then_some((kv, budget))
        });
        let Some((current, mut budget)) = of_pod.next() else {
            return Ok(None);
        };
        if of_pod.next().is_some() {
            return Err(ApiError::new(
                500,
                "",
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
        let name = text(&budget, &["metadata", "name"]).to_owned();
        if !is_ready(pod) && unready_may_go(&budget) {
            return Ok(Some(Allowed { name, taken: false }));
        }
        take_one(&mut budget, text(pod, &["metadata", "name"]))?;
        let allowed = Allowed { name, taken: true };
        if dry_run {
            return Ok(Some(allowed));
        }
        let expect = Expect::Revision(current.mod_revision);
        match store
            .put(&current.key, object::encode(&budget), expect)
            .await
        {
            Ok(_) => return Ok(Some(allowed)),
            Err(store::Error::Conflict { .. } | store::Error::NotFound) => {}
            Err(other) => return Err(fail(other)),
        }
    }
    Err(ApiError::modified("policy", "poddisruptionbudgets", ""))
}

/// A budget without a selector covers nothing, one with an empty selector everything.
fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = &budget["spec"]["selector"];
    selector.is_object() && crate::registry::validate::selects(selector, &pod["metadata"]["labels"])
}

fn unready_may_go(budget: &Value) -> bool {
    let count = |key: &str| budget["status"][key].as_i64().unwrap_or(0);
    budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        || count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0
}

/// Counts one eviction more, of this pod.
fn take_one(budget: &mut Value, pod: &str) -> Result<(), ApiError> {
    let name = text(budget, &["metadata", "name"]).to_owned();
    let count = |budget: &Value, key: &str| budget["status"][key].as_i64().unwrap_or(0);
    let forbidden = |why: &str| {
        Err(ApiError::forbidden(
            "policy",
            "poddisruptionbudget",
            &name,
            why,
        ))
    };
    let generation = budget["metadata"]["generation"].as_i64().unwrap_or(0);
    if count(budget, "observedGeneration") < generation {
        return Err(still_processed(&name));
    }
    let allowed = count(budget, "disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    let disrupted = budget["status"]["disruptedPods"].as_object();
    if disrupted.map_or(0, serde_json::Map::len) > DISRUPTED_MAX {
        return forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        );
    }
    if allowed == 0 {
        let why = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            count(budget, "desiredHealthy"),
            count(budget, "currentHealthy")
        );
        return Err(too_many(why, None));
    }
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    if allowed == 1 {
        insufficient(budget);
    }
    budget["status"]["disruptedPods"][pod] = crate::time::now().into();
    Ok(())
}

/// The budget's condition, once it allows nothing more.
fn insufficient(budget: &mut Value) {
    let mut conditions = items(budget, &["status", "conditions"]).to_vec();
    let known = conditions
        .iter()
        .position(|one| one["type"] == "DisruptionAllowed");
    let since = known
        .map(|at| &conditions[at])
        .filter(|one| one["status"] == "False")
        .map(|one| one["lastTransitionTime"].clone());
    let condition = json!({
        "type": "DisruptionAllowed",
        "status": "False",
        "reason": "InsufficientPods",
        "message": "",
        "observedGeneration": budget["status"]["observedGeneration"],
        "lastTransitionTime": since.unwrap_or_else(|| crate::time::now().into()),
    });
    match known {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    budget["status"]["conditions"] = conditions.into();
}

fn still_processed(budget: &str) -> ApiError {
    let why = format!("The disruption budget {budget} is still being processed by the server.");
    too_many(why, Some(10))
}

fn too_many(cause: String, retry_after_seconds: Option<u32>) -> ApiError {
    let mut error = ApiError::new(429, "TooManyRequests", REFUSED);
    error.details = Some(json!({"causes": [{"reason": "DisruptionBudget", "message": cause}]}));
    error.retry_after_seconds = retry_after_seconds;
    error
}

/// Says in the pod's status why it goes, and deletes it.
async fn remove(context: &Context, mut options: Options) -> Result<(), ApiError> {
    let name = &context.info.name;
    if !options.dry_run {
        for attempt in 1.. {
            let current = stored_pod(context).await?;
            let mut pod = object::parse(&current.value, current.mod_revision);
            delete::check_preconditions(context, name, &pod, &options)?;
            disrupted(&mut pod);
            let expect = Expect::Revision(current.mod_revision);
            let put = context
                .state
                .store
                .put(&current.key, object::encode(&pod), expect);
            match put.await {
                Ok(written) => {
                    if options.resource_version.is_some() {
                        options.resource_version = Some(written.mod_revision.to_string());
                    }
                    break;
                }
                Err(store::Error::Conflict { .. }) if attempt < CONFLICT_ATTEMPTS => {}
                Err(store::Error::Conflict { .. }) => {
                    return Err(ApiError::modified("", "pods", name));
                }
                Err(other) => return Err(list::store_error(context, other)),
            }
        }
    }
    delete::delete_named(context, name, &options)
        .await
        .map(drop)
}

fn disrupted(pod: &mut Value) {
    let mut conditions = items(pod, &["status", "conditions"]).to_vec();
    let known = conditions
        .iter()
        .find(|one| one["type"] == "DisruptionTarget");
    let since = known
        .filter(|one| one["status"] == "True")
        .map(|one| one["lastTransitionTime"].clone());
    let condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastProbeTime": null,
        "lastTransitionTime": since.unwrap_or_else(|| crate::time::now().into()),
    });
    conditions.retain(|one| one["type"] != "DisruptionTarget");
    conditions.push(condition);
    pod["status"]["conditions"] = conditions.into();
}
