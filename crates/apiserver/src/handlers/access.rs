//! Who asks, as whom, and whether they may: the first steps of every request.

use http::HeaderMap;

use super::{Context, token};
use crate::auth::{ANONYMOUS, AUTHENTICATED, Decision, Identity, UNAUTHENTICATED};
use crate::path::{RequestInfo, ResourceInfo};
use crate::query::{Query, percent_decode};
use crate::selector::FieldSelector;
use crate::server::State;
use crate::status::{ApiError, qualified};

/// What may be asked without saying who one is; whether it is answered is a question of rights.
const PUBLIC: [&str; 2] = ["/version", "/version/"];
const EXTRA_PREFIX: &str = "impersonate-extra-";

/// Who asks: by certificate (or in process), by token, or nobody in particular where that is enough.
pub(super) async fn identify(
    state: &State,
    identity: Option<Identity>,
    headers: &HeaderMap,
    path: &str,
) -> Result<Identity, ApiError> {
    if let Some(identity) = identity {
        return Ok(identity);
    }
    // whoever shows something shows something valid
    if !headers.contains_key(http::header::AUTHORIZATION) && PUBLIC.contains(&path) {
        return Ok(Identity::anonymous());
    }
    token::authenticate(state, headers)
        .await
        .ok_or_else(ApiError::unauthorized)
}

/// Refuses what the identity may not do.
pub(super) fn authorize(
    state: &State,
    identity: &Identity,
    info: &RequestInfo,
    query: &Query,
) -> Result<(), ApiError> {
    if identity.is_master() {
        return Ok(());
    }
    match named(info, query) {
        Some(named) => allowed(state, identity, &named)?,
        None => allowed(state, identity, info)?,
    }
    match stream(info) {
        Some(create) => allowed(state, identity, &create),
        None => Ok(()),
    }
}

fn allowed(state: &State, identity: &Identity, info: &RequestInfo) -> Result<(), ApiError> {
    let authorizer = state.authorizer.read().clone();
    match authorizer.authorize(identity, info) {
        Decision::Allow => Ok(()),
        Decision::Deny => {
            let error = denied(identity, info, &authorizer.reason(identity, info));
            if is_own_role(identity) {
                tracing::warn!(%error, "a role of this program may not do what it needs");
            }
            Err(error)
        }
    }
}

/// An apply to what is not there makes it, and needs the right to.
pub(super) fn may_create(context: &Context) -> Result<(), ApiError> {
    if context.identity.is_master() {
        return Ok(());
    }
    let info = RequestInfo {
        verb: "create".to_owned(),
        path: String::new(),
        resource: Some(context.info.clone()),
    };
    allowed(&context.state, &context.identity, &info)
}

/// Users of the system that are neither accounts nor nobody.
fn is_own_role(identity: &Identity) -> bool {
    let rest = identity.user.strip_prefix("system:");
    rest.is_some_and(|rest| !rest.starts_with("serviceaccount:") && rest != "anonymous")
}

/// A list or watch of the one object that a field selector names is a request for that name.
fn named(info: &RequestInfo, query: &Query) -> Option<RequestInfo> {
    let resource = info.resource.as_ref()?;
    if !resource.name.is_empty() || !matches!(info.verb.as_str(), "list" | "watch") {
        return None;
    }
    let selector = FieldSelector::parse(query.get("fieldSelector")?).ok()?;
    let mut named = info.clone();
    named.resource.as_mut()?.name = selector.required("metadata.name")?.to_owned();
    Some(named)
}

/// Who opens a stream into a pod by GET (a WebSocket) must be allowed to by POST as well, since 1.35.
fn stream(info: &RequestInfo) -> Option<RequestInfo> {
    let resource = info.resource.as_ref()?;
    let into_pod = resource.group.is_empty()
        && resource.resource == "pods"
        && matches!(
            resource.subresource.as_str(),
            "exec" | "attach" | "portforward"
        );
    (into_pod && info.verb == "get").then(|| RequestInfo {
        verb: "create".into(),
        ..info.clone()
    })
}

/// The identity that the `Impersonate-` headers ask for; each part of it must be allowed.
pub(super) fn impersonated(
    state: &State,
    identity: Identity,
    headers: &HeaderMap,
) -> Result<Identity, ApiError> {
    if !headers
        .keys()
        .any(|name| name.as_str().starts_with("impersonate-"))
    {
        return Ok(identity);
    }
    let text = |value: &http::HeaderValue| value.to_str().map(str::to_owned).ok();
    let one = |name: &str| headers.get(name).and_then(text).filter(|v| !v.is_empty());
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(text)
        .collect();
    let extra = extra(headers);
    let uid = one("impersonate-uid").unwrap_or_default();
    let Some(user) = one("impersonate-user") else {
        if groups.is_empty() && extra.is_empty() && uid.is_empty() {
            return Ok(identity);
        }
        return Err(ApiError::internal(
            "requested groups, a uid or extra information without impersonating a user",
        ));
    };
    let account = account_of(&user);
    let mut asked = vec![match account {
        Some((namespace, name)) => attributes("", "serviceaccounts", namespace, name),
        None => attributes("", "users", "", &user),
    }];
    asked.extend(
        groups
            .iter()
            .map(|group| attributes("", "groups", "", group)),
    );
    if !uid.is_empty() {
        asked.push(attributes("authentication.k8s.io", "uids", "", &uid));
    }
    for (key, values) in &extra {
        for value in values {
            let mut attributes = attributes("authentication.k8s.io", "userextras", "", value);
            attributes.subresource = key.clone();
            asked.push(attributes);
        }
    }
    for resource in asked {
        let info = RequestInfo {
            verb: "impersonate".into(),
            path: String::new(),
            resource: Some(resource),
        };
        allowed(state, &identity, &info)?;
    }
    let groups = match account {
        Some((namespace, _)) if groups.is_empty() => token::groups(namespace),
        _ => groups,
    };
    Ok(Identity {
        groups: completed(&user, groups),
        user,
        uid,
        extra,
    })
}

fn attributes(group: &str, resource: &str, namespace: &str, name: &str) -> ResourceInfo {
    ResourceInfo {
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..ResourceInfo::default()
    }
}

/// Namespace and name of the service account that a user is.
fn account_of(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user
        .strip_prefix("system:serviceaccount:")?
        .split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

fn extra(headers: &HeaderMap) -> Vec<(String, Vec<String>)> {
    let mut extra = Vec::new();
    for name in headers.keys() {
        let Some(key) = name.as_str().strip_prefix(EXTRA_PREFIX) else {
            continue;
        };
        let Some(key) = percent_decode(key, false) else {
            continue;
        };
        let values = headers.get_all(name).iter();
        let values = values.filter_map(|value| value.to_str().ok().map(str::to_owned));
        extra.push((key, values.collect()));
    }
    extra.sort();
    extra
}

/// Whoever is somebody is among those who showed it, and nobody is not.
fn completed(user: &str, mut groups: Vec<String>) -> Vec<String> {
    let has = |group: &str| groups.iter().any(|own| own == group);
    let missing = if user == ANONYMOUS {
        (!has(UNAUTHENTICATED)).then_some(UNAUTHENTICATED)
    } else {
        (!has(AUTHENTICATED) && !has(UNAUTHENTICATED)).then_some(AUTHENTICATED)
    };
    groups.extend(missing.map(str::to_owned));
    groups
}

fn denied(identity: &Identity, info: &RequestInfo, reason: &str) -> ApiError {
    let user = &identity.user;
    let because = match reason {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let Some(resource) = &info.resource else {
        let message = format!(
            "forbidden: User {user:?} cannot {} path {:?}{because}",
            info.verb, info.path
        );
        let mut error = ApiError::new(403, "Forbidden", message);
        error.details = Some(serde_json::json!({}));
        return error;
    };
    let what = match resource.subresource.as_str() {
        "" => resource.resource.clone(),
        subresource => format!("{}/{subresource}", resource.resource),
    };
    let scope = match resource.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let why = format!(
        "User {user:?} cannot {} resource {what:?} in API group {:?} {scope}{because}",
        info.verb, resource.group
    );
    let mut error = ApiError::forbidden(&resource.group, &resource.resource, &resource.name, &why);
    if resource.name.is_empty() {
        error.message = format!(
            "{} is forbidden: {why}",
            qualified(&resource.resource, &resource.group)
        );
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_accounts() {
        for (user, expected) in [
            ("system:serviceaccount:n:a", Some(("n", "a"))),
            ("system:serviceaccount:n:", None),
            ("system:serviceaccount::a", None),
            ("system:serviceaccount:n:a:b", None),
            ("system:serviceaccount:n", None),
            ("jane", None),
        ] {
            assert_eq!(account_of(user), expected, "{user}");
        }
    }

    #[test]
    fn groups_are_completed() {
        for (user, groups, expected) in [
            ("jane", &[][..], &["system:authenticated"][..]),
            ("jane", &["a"], &["a", "system:authenticated"]),
            ("jane", &["system:authenticated"], &["system:authenticated"]),
            (
                "jane",
                &["system:unauthenticated"],
                &["system:unauthenticated"],
            ),
            (ANONYMOUS, &[], &["system:unauthenticated"]),
        ] {
            let groups = groups.iter().map(|g| (*g).to_owned()).collect();
            assert_eq!(completed(user, groups), expected, "{user}");
        }
    }

    #[test]
    fn a_list_of_one_name_is_named() {
        let parse = |path: &str, query: &str| {
            let query = Query::parse(Some(query)).expect("a query");
            let watch = query.flag("watch");
            let info = crate::path::parse(&http::Method::GET, path, watch).expect("a path");
            named(&info, &query)
                .and_then(|info| info.resource)
                .map(|r| r.name)
        };
        let pods = "/api/v1/namespaces/n/pods";
        let one = "fieldSelector=metadata.name%3Da";
        assert_eq!(parse(pods, one).as_deref(), Some("a"));
        assert_eq!(parse(pods, &format!("watch=1&{one}")).as_deref(), Some("a"));
        assert_eq!(parse(pods, "fieldSelector=metadata.name!%3Da"), None);
        assert_eq!(parse(pods, ""), None);
        assert_eq!(parse(&format!("{pods}/b"), one), None);
    }
}
