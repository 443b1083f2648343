//! Whether pods are as safe as their namespace wants them (upstream's admission plugin PodSecurity; the standards are in
//! `crate::pod_security`). A namespace without labels wants nothing: that costs a look at it.

mod existing;

use serde_json::Value;

use super::{Context, list, write};
use crate::object::{self, at, items, text};
use crate::pod_security::{Policy, evaluate};
use crate::status::ApiError;

/// Refuses a pod that does not meet what its namespace enforces, and labels that make no sense; warns of pods, and of
/// templates of pods, that do not meet what it warns of. The object is valid.
pub(super) async fn admit(
    context: &Context,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let subresource = context.info.subresource.as_str();
    match (context.kind.group, context.kind.plural) {
        ("", "pods") if subresource != "status" => pod(context, new, old).await,
        _ if !subresource.is_empty() => Ok(()),
        ("", "namespaces") => namespace(context, new, old).await,
        (group, plural) => match template(group, plural, new) {
            Some(template) => {
                let policy = policy(context).await?;
                warn(context, &policy, template);
                Ok(())
            }
            None => Ok(()),
        },
    }
}

async fn pod(context: &Context, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    if old.is_some_and(|old| !is_significant(new, old)) {
        return Ok(());
    }
    let policy = policy(context).await?;
    let enforced = policy.enforce;
    let wrong = evaluate(enforced, &new["metadata"], &new["spec"]);
    if !wrong.is_empty() {
        let name = text(new, &["metadata", "name"]);
        let details = wrong.details();
        let why = format!("violates PodSecurity \"{enforced}\": {details}");
        return Err(ApiError::forbidden("", "pods", name, &why));
    }
    // what was just found right needs no second look
    if policy.warn != enforced {
        warn(context, &policy, new);
    }
    Ok(())
}

/// Warns of a pod or a template.
fn warn(context: &Context, policy: &Policy, pod: &Value) {
    let standard = policy.warn;
    let wrong = evaluate(standard, &pod["metadata"], &pod["spec"]);
    if !wrong.is_empty() {
        let details = wrong.details();
        let warning = format!("would violate PodSecurity \"{standard}\": {details}");
        context.warnings.add(warning);
    }
}

/// What the namespace of the object asks for.
async fn policy(context: &Context) -> Result<Policy, ApiError> {
    let key = format!("/registry/namespaces/{}", context.info.namespace);
    let (found, _) = context
        .state
        .store
        .get(&key)
        .await
        .map_err(|error| list::store_error(context, error))?;
    let namespace = found.map(|found| object::parse(&found.value, found.mod_revision));
    let labels = namespace.as_ref().map(|n| &n["metadata"]["labels"]);
    Ok(Policy::of(labels.unwrap_or(&Value::Null)).0)
}

/// The template of the pods that an object makes.
fn template<'a>(group: &str, plural: &str, object: &'a Value) -> Option<&'a Value> {
    let path: &[&str] = match (group, plural) {
        ("", "podtemplates") => &["template"],
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => &["spec", "template"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    };
    at(object, path)
}

/// Whether an update changes what is looked at: images, and which containers there are. Nothing else that a check reads can
/// change, and a pod that was there before its namespace's labels must not be held up.
fn is_significant(new: &Value, old: &Value) -> bool {
    let in_order = ["containers", "initContainers"].into_iter().any(|kind| {
        let (new, old) = (items(new, &["spec", kind]), items(old, &["spec", kind]));
        let mut pairs = new.iter().zip(old);
        new.len() != old.len() || pairs.any(|(new, old)| new["image"] != old["image"])
    });
    let before = items(old, &["spec", "ephemeralContainers"]);
    in_order
        || items(new, &["spec", "ephemeralContainers"])
            .iter()
            .any(|container| {
                let mut before = before.iter();
                let same = before.find(|before| before["name"] == container["name"]);
                same.is_none_or(|same| same["image"] != container["image"])
            })
}

async fn namespace(context: &Context, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let (policy, problems) = Policy::of(&new["metadata"]["labels"]);
    let Some(old) = old else {
        return write::refuse(context, new, problems);
    };
    let (before, earlier) = Policy::of(&old["metadata"]["labels"]);
    // labels that were wrong before may stay
    if problems.0 != earlier.0 {
        write::refuse(context, new, problems)?;
    }
    if policy.enforce.may_ask_more_than(before.enforce) {
        let name = text(new, &["metadata", "name"]);
        for warning in existing::warnings(context, name, policy.enforce).await {
            context.warnings.add(warning);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn updates_that_are_looked_at() {
        let old = json!({"spec": {"initContainers": [{"name": "i", "image": "i:1"}], "containers": [{"name": "a", "image": "a:1"}],
            "ephemeralContainers": [{"name": "e", "image": "e:1"}]}});
        let changed = |change: fn(&mut Value)| {
            let mut new = old.clone();
            change(&mut new);
            is_significant(&new, &old)
        };
        assert!(!changed(|_| {}));
        assert!(!changed(
            |new| new["metadata"] = json!({"labels": {"a": "b"}})
        ));
        assert!(!changed(
            |new| new["spec"]["tolerations"] = json!([{"key": "a"}])
        ));
        assert!(!changed(
            |new| new["spec"]["ephemeralContainers"] = json!([])
        ));
        assert!(changed(
            |new| new["spec"]["initContainers"][0]["image"] = "i:2".into()
        ));
        assert!(changed(
            |new| new["spec"]["containers"][0]["image"] = "a:2".into()
        ));
        assert!(changed(|new| new["spec"]["containers"] = json!([])));
        assert!(changed(
            |new| new["spec"]["ephemeralContainers"][0]["image"] = "e:2".into()
        ));
        assert!(changed(
            |new| new["spec"]["ephemeralContainers"][0]["name"] = "f".into()
        ));
    }

    #[test]
    fn where_kinds_have_their_template() {
        let object = json!({"template": 1, "spec": {"template": 2, "jobTemplate": {"spec": {"template": 3}}}});
        for (group, plural, found) in [
            ("", "podtemplates", Some(1)),
            ("", "replicationcontrollers", Some(2)),
            ("apps", "deployments", Some(2)),
            ("apps", "replicasets", Some(2)),
            ("apps", "statefulsets", Some(2)),
            ("apps", "daemonsets", Some(2)),
            ("batch", "jobs", Some(2)),
            ("batch", "cronjobs", Some(3)),
            ("", "services", None),
            ("example.com", "deployments", None),
        ] {
            let template = template(group, plural, &object).and_then(Value::as_i64);
            assert_eq!(template, found, "{plural}");
        }
        assert_eq!(
            template("", "replicationcontrollers", &json!({"spec": {}})),
            None
        );
    }
}
