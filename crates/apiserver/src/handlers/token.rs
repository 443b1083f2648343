//! POST of `serviceaccounts/token`, and who a bearer token stands for.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::body::{self, Decoded};
use super::respond::{self, Response};
use super::{Context, list};
use crate::auth::{AUTHENTICATED, Identity};
use crate::object::{self, items, text};
use crate::registry::Problems;
use crate::server::State;
use crate::status::ApiError;
use crate::tokens::{Grant, user_name};

const SECONDS_DEFAULT: i64 = 3600;
const SECONDS_MIN: i64 = 600;
const SECONDS_MAX: i64 = 1 << 32;
/// So long after its deletion an object still holds the tokens that were bound to it.
const LEAVING_SECONDS: i64 = 60;

/// Issues a token of the named account.
pub(super) async fn create(context: &Context, body: &[u8]) -> Result<Response, ApiError> {
    let gvk = crate::schema::Gvk::gvk("authentication.k8s.io", "v1", "TokenRequest");
    let Decoded {
        value: mut request,
        warnings,
    } = body::decode(context, body, &gvk)?;
    let (namespace, name) = (&context.info.namespace, &context.info.name);
    let account = read(context, "serviceaccounts", namespace, name)
        .await?
        .ok_or_else(|| context.not_found(name))?;
    let seconds = request["spec"]["expirationSeconds"]
        .as_i64()
        .unwrap_or(SECONDS_DEFAULT);
    check(&request, seconds)?;
    let audiences: Vec<String> = items(&request, &["spec", "audiences"])
        .iter()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    let (bound, node) = bound(context, &request["spec"]["boundObjectRef"]).await?;
    if !may_have(&context.identity, &request["spec"]["boundObjectRef"], &node) {
        let (name, why) = (
            &context.info.name,
            "a node gets tokens that are bound, by uid, to a pod on it, and no others",
        );
        return Err(ApiError::forbidden("", "serviceaccounts", name, why));
    }
    let grant = Grant {
        namespace: namespace.clone(),
        account: name.clone(),
        account_uid: text(&account, &["metadata", "uid"]).to_owned(),
        bound,
        node,
        audiences: audiences.clone(),
        seconds,
    };
    let now = Timestamp::now().as_second();
    let tokens = &context.state.tokens;
    let token = tokens.issue(&grant, now).map_err(ApiError::internal)?;
    let end = Timestamp::from_second(now + seconds).unwrap_or(Timestamp::MAX);
    request["metadata"] =
        json!({"name": name, "namespace": namespace, "creationTimestamp": crate::time::now()});
    request["spec"]["expirationSeconds"] = seconds.into();
    if audiences.is_empty() {
        request["spec"]["audiences"] = json!([tokens.issuer()]);
    }
    request["status"] = json!({"token": token, "expirationTimestamp": crate::time::seconds(end)});
    let mut response = respond::value(201, &request);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

/// Whether somebody may have a token that is bound so: nodes act for the pods on them alone (upstream's NodeRestriction).
fn may_have(who: &Identity, reference: &Value, node: &Node) -> bool {
    if !who.groups.iter().any(|group| group == "system:nodes") {
        return true;
    }
    let name = who.user.strip_prefix("system:node:");
    let on_it = node
        .as_ref()
        .is_some_and(|(node, _)| Some(node.as_str()) == name);
    text(reference, &["kind"]) == "Pod" && !text(reference, &["uid"]).is_empty() && on_it
}

/// Kind, name and uid.
type Bound = Option<(&'static str, String, String)>;
/// Name and uid.
type Node = Option<(String, String)>;

fn check(request: &Value, seconds: i64) -> Result<(), ApiError> {
    let mut problems = Problems::default();
    let why = if seconds < SECONDS_MIN {
        "may not specify a duration less than 10 minutes"
    } else if seconds > SECONDS_MAX {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    problems.invalid("spec.expirationSeconds", &seconds.into(), why);
    let name = text(request, &["metadata", "name"]);
    Err(ApiError::invalid(
        "authentication.k8s.io",
        "TokenRequest",
        name,
        problems.0,
    ))
}

/// The object that the token ends with, and the node of a pod; it must be there, and a pod must run as the account.
async fn bound(context: &Context, reference: &Value) -> Result<(Bound, Node), ApiError> {
    if reference.is_null() {
        return Ok((None, None));
    }
    let (kind, plural, namespace) = match text(reference, &["kind"]) {
        "Pod" => ("pod", "pods", context.info.namespace.as_str()),
        "Secret" => ("secret", "secrets", context.info.namespace.as_str()),
        "Node" => ("node", "nodes", ""),
        other => {
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to type {other}",
                context.info.name
            )));
        }
    };
    let (name, uid) = (text(reference, &["name"]), text(reference, &["uid"]));
    let object = read(context, plural, namespace, name)
        .await?
        .ok_or_else(|| ApiError::not_found("", plural, name))?;
    let actual = text(&object, &["metadata", "uid"]);
    if !uid.is_empty() && uid != actual {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict("", plural, name, &why));
    }
    if kind == "pod" && text(&object, &["spec", "serviceAccountName"]) != context.info.name {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            context.info.name
        )));
    }
    let node = match text(&object, &["spec", "nodeName"]) {
        node if kind == "pod" && !node.is_empty() => {
            let found = read(context, "nodes", "", node).await?.unwrap_or_default();
            let uid = text(&found, &["metadata", "uid"]).to_owned();
            Some((node.to_owned(), uid)).filter(|(_, uid)| !uid.is_empty())
        }
        _ => None,
    };
    Ok((Some((kind, name.to_owned(), actual.to_owned())), node))
}

async fn read(
    context: &Context,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, ApiError> {
    stored(&context.state, plural, namespace, name)
        .await
        .map_err(|error| list::store_error(context, error))
}

/// An object of the core group, as it is kept.
pub(super) async fn stored(
    state: &State,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, store::Error> {
    let Some(kind) = crate::registry::find("", "v1", plural).filter(|_| !name.is_empty()) else {
        return Ok(None);
    };
    let (found, _) = state.store.get(&kind.key(namespace, name)).await?;
    Ok(found.map(|kv| object::parse(&kv.value, kv.mod_revision)))
}

/// The groups of every service account in a namespace.
pub(super) fn groups(namespace: &str) -> Vec<String> {
    vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        AUTHENTICATED.to_owned(),
    ]
}

/// The service account whose token the request carries.
pub(super) async fn authenticate(state: &State, headers: &http::HeaderMap) -> Option<Identity> {
    let header = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (identity, _) = identify(state, token.trim(), &[]).await?;
    Some(identity)
}

/// The service account that a token stands for: signed here, in its time, for one of the audiences (none: this server),
/// and account and bound object are still the ones that it was issued for. Returns which of the audiences it is for.
pub(super) async fn identify(
    state: &State,
    token: &str,
    audiences: &[String],
) -> Option<(Identity, Vec<String>)> {
    let now = Timestamp::now().as_second();
    let claims = state.tokens.read(token, now, audiences)?;
    let meant = items(&claims, &["aud"]).iter().filter_map(Value::as_str);
    let meant = meant.map(str::to_owned);
    let meant = meant.filter(|one| audiences.contains(one)).collect();
    let private = &claims["kubernetes.io"];
    let namespace = text(private, &["namespace"]);
    let has = |kind: &str| private.get(kind).is_some();
    let mut named = vec![("serviceaccount", "serviceaccounts", namespace)];
    if has("pod") {
        // the node that it ran on is told, and no condition
        named.push(("pod", "pods", namespace));
    } else if has("node") {
        named.push(("node", "nodes", ""));
    }
    if has("secret") {
        named.push(("secret", "secrets", namespace));
    }
    for (kind, plural, namespace) in named {
        let (name, uid) = (
            text(private, &[kind, "name"]),
            text(private, &[kind, "uid"]),
        );
        let object = stored(state, plural, namespace, name).await.ok()??;
        if uid.is_empty() || text(&object, &["metadata", "uid"]) != uid || is_leaving(&object, now)
        {
            return None;
        }
    }
    let identity = Identity {
        user: user_name(namespace, text(private, &["serviceaccount", "name"])),
        groups: groups(namespace),
        uid: text(private, &["serviceaccount", "uid"]).to_owned(),
        extra: extra(&claims),
    };
    Some((identity, meant))
}

/// An object that should have gone a minute ago holds no token any more (upstream).
fn is_leaving(object: &Value, now: i64) -> bool {
    let deleted = text(object, &["metadata", "deletionTimestamp"]).parse::<Timestamp>();
    deleted.is_ok_and(|at| at.as_second() + LEAVING_SECONDS < now)
}

/// What else upstream tells of a token's owner.
fn extra(claims: &Value) -> Vec<(String, Vec<String>)> {
    let of = |path: &[&str]| text(claims, path).to_owned();
    let token = of(&["jti"]);
    let said = [
        (
            "credential-id",
            if token.is_empty() {
                token
            } else {
                format!("JTI={token}")
            },
        ),
        ("node-name", of(&["kubernetes.io", "node", "name"])),
        ("node-uid", of(&["kubernetes.io", "node", "uid"])),
        ("pod-name", of(&["kubernetes.io", "pod", "name"])),
        ("pod-uid", of(&["kubernetes.io", "pod", "uid"])),
    ];
    let said = said.into_iter().filter(|(_, value)| !value.is_empty());
    said.map(|(key, value)| (format!("authentication.kubernetes.io/{key}"), vec![value]))
        .collect()
}
