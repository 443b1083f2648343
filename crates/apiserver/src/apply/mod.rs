//! Server-side apply: whoever applies a configuration owns the fields in it (KEP-555, structured-merge-diff's
//! `merge.Updater`).
//!
//! Pure functions of objects and their field managers. Objects that somebody creates are tracked from then on; those that
//! are not (the program's own parts make most of them) from their first apply on: whatever they had before then belongs to
//! [`BEFORE_FIRST_APPLY`], as upstream has it for untracked objects.

mod fields;
mod managers;
mod node;
mod typed;

use std::collections::HashSet;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::object::ANNOTATIONS_BYTES_MAX;

pub(crate) use fields::FieldSet;
pub(crate) use managers::{Manager, Operation, decode, encode};
pub(crate) use node::Node;

/// Owner of what an object had when it was first applied to.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Somebody else's field that an apply would change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The other manager, as messages name it.
    pub manager: String,
    pub path: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ApplyError {
    /// The configuration, or the object, does not fit its type.
    Malformed(String),
    Conflicts(Vec<Conflict>),
}

/// An apply: whose, and of what.
pub(crate) struct Applied<'a> {
    pub node: Node<'a>,
    /// Whether every version of the kind has the same fields: then a manager's are its own, whatever version it spoke.
    pub one_schema: bool,
    /// Name, version, subresource and time of the applier; its fields are found here.
    pub manager: Manager,
    pub config: &'a Value,
    pub force: bool,
}

/// The first version of an object, with its managers.
pub(crate) fn create(applied: Applied<'_>) -> Result<Value, ApplyError> {
    let mut manager = applied.manager;
    manager.fields = owned(applied.node, applied.config, &manager.subresource)?;
    let mut object = applied.config.clone();
    object["metadata"]["managedFields"] = encode(vec![manager]);
    Ok(object)
}

/// `live` after an apply, with its new managers.
pub(crate) fn update(applied: Applied<'_>, live: &Value) -> Result<Value, ApplyError> {
    let Applied {
        node,
        one_schema,
        mut manager,
        config,
        force,
    } = applied;
    let comparable = |version: &str, other: &str| one_schema || version == other;
    let mut live = live.clone();
    let tracked = live["metadata"]
        .as_object_mut()
        .and_then(|m| m.remove("managedFields"));
    let before = decode(tracked.as_ref()).unwrap_or_default();
    let mut managers = before.clone();
    if managers.is_empty() {
        let mut fields = FieldSet::default();
        for subresource in ["", "status"] {
            let part = typed::set_of(node, &live, false).map_err(ApplyError::Malformed)?;
            fields.add(&within(part, subresource));
        }
        managers.push(Manager {
            name: BEFORE_FIRST_APPLY.into(),
            operation: Operation::Update,
            api_version: manager.api_version.clone(),
            subresource: String::new(),
            time: manager.time.clone(),
            fields,
        });
    }
    manager.fields = owned(node, config, &manager.subresource)?;
    let last = managers
        .iter()
        .position(|m| m.is(&manager))
        .map(|at| managers.remove(at));

    // What nobody wants any more: it was the applier's, is not in the new configuration, and is nobody else's.
    let mut kept = manager.fields.clone();
    for other in &managers {
        kept.add(&other.fields);
    }
    let same_version = last
        .as_ref()
        .filter(|m| comparable(&m.api_version, &manager.api_version));
    let mut doomed = same_version.map(|m| m.fields.clone()).unwrap_or_default();
    doomed.subtract(&kept);

    let mut new = typed::merge(node, Some(&live), config).map_err(ApplyError::Malformed)?;
    typed::remove(node, &mut new, &doomed, &kept);

    let (changed, removed) = difference(node, &live, &new);
    let mut conflicts = Vec::new();
    for other in &mut managers {
        if !comparable(&other.api_version, &manager.api_version) {
            continue;
        }
        let contested = changed.intersection(&other.fields);
        let described = other.describe();
        conflicts.extend(contested.paths().into_iter().map(|path| Conflict {
            manager: described.clone(),
            path,
        }));
        other.fields.subtract(&contested);
        other.fields.subtract(&removed);
    }
    if !conflicts.is_empty() && !force {
        return Err(ApplyError::Conflicts(conflicts));
    }
    if let Some(last) = last
        && last.fields == manager.fields
        && last.api_version == manager.api_version
    {
        manager.time = last.time;
    }
    managers.push(manager);
    new["metadata"]["managedFields"] = encode(managers);
    Ok(new)
}

/// [`update`] for kubectl, which applies by the server what it has applied by itself so far: what its own annotation says, and
/// what has not been changed since, is no conflict.
pub(crate) fn update_by_kubectl(applied: Applied<'_>, live: &Value) -> Result<Value, ApplyError> {
    let (node, config) = (applied.node, applied.config);
    let again = Applied {
        manager: applied.manager.clone(),
        force: true,
        ..applied
    };
    let conflicts = match update(applied, live) {
        Err(ApplyError::Conflicts(conflicts)) => conflicts,
        done => return done,
    };
    let own = set_by_kubectl(node, config, live).unwrap_or_default();
    let own: HashSet<String> = own.paths().into_iter().collect();
    let left = conflicts.into_iter();
    let left: Vec<_> = left.filter(|one| !own.contains(&one.path)).collect();
    match left.is_empty() {
        true => update(again, live),
        false => Err(ApplyError::Conflicts(left)),
    }
}

/// What kubectl set by itself, and is so still.
fn set_by_kubectl(node: Node<'_>, config: &Value, live: &Value) -> Option<FieldSet> {
    let last = live["metadata"]["annotations"][LAST_APPLIED].as_str()?;
    let last: Value = serde_json::from_str(last).ok()?;
    if last["apiVersion"] != config["apiVersion"] {
        return None;
    }
    let mut set = typed::set_of(node, &last, true).ok()?;
    let (mut changed, mut removed) = (FieldSet::default(), FieldSet::default());
    typed::compare(node, &last, live, &mut changed, &mut removed);
    set.subtract(&changed);
    set.subtract(&removed);
    Some(set)
}

/// The managers after an apply by `applier`, whose time it is when the object itself is not what it was. Both as they are
/// stored, so that another way of writing the same is no change.
pub(crate) fn stamp(
    managers: Option<Value>,
    applier: &Manager,
    old: &Value,
    new: &Value,
) -> Option<Value> {
    let bare = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
            metadata.remove("resourceVersion");
        }
        object
    };
    if bare(old) == bare(new) {
        return managers;
    }
    let mut decoded = decode(managers.as_ref())?;
    for manager in &mut decoded {
        if manager.is(applier) {
            manager.time.clone_from(&applier.time);
        }
    }
    Some(encode(decoded))
}

/// Annotation of what `kubectl apply` applied last without the server's help.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Who goes over to applying by the server and back again finds what was applied last: an object that has the annotation gets
/// this configuration there, without the annotation itself. It goes when the annotations are too large with it.
pub(crate) fn keep_last_applied(value: &mut Value, config: &Value) {
    let Some(Value::Object(annotations)) = value.pointer_mut("/metadata/annotations") else {
        return;
    };
    if !annotations.contains_key(LAST_APPLIED) {
        return;
    }
    let mut config = config.clone();
    if let Some(Value::Object(given)) = config.pointer_mut("/metadata/annotations") {
        given.remove(LAST_APPLIED);
    }
    annotations.insert(LAST_APPLIED.into(), format!("{config}\n").into());
    let bytes = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(bytes).sum::<usize>() > ANNOTATIONS_BYTES_MAX {
        annotations.remove(LAST_APPLIED);
    }
}

/// The managers of an object that was created otherwise than by apply: everything in it is its creator's.
pub(crate) fn after_create(node: Node, mut manager: Manager, new: &Value) -> Value {
    let (made, _) = difference(node, &json!({}), new);
    manager.fields = within(made, &manager.subresource);
    encode(vec![manager])
}

/// The managers after somebody changed an object otherwise than by apply: what they changed is theirs now. `None`
/// when nobody is tracked.
pub(crate) fn after_update(
    node: Node<'_>,
    one_schema: bool,
    mut manager: Manager,
    mut managers: Vec<Manager>,
    old: &Value,
    new: &Value,
) -> Option<Value> {
    if managers.is_empty() {
        return None;
    }
    let (changed, removed) = difference(node, old, new);
    if changed.is_empty() && removed.is_empty() {
        return Some(encode(managers));
    }
    let own = managers.iter().position(|m| m.is(&manager));
    if let Some(at) = own {
        manager.fields = managers.remove(at).fields;
    }
    for other in &mut managers {
        if one_schema || other.api_version == manager.api_version {
            other.fields.subtract(&changed);
            other.fields.subtract(&removed);
        }
    }
    manager.fields.add(&changed);
    manager.fields.subtract(&removed);
    managers.push(manager);
    Some(encode(managers))
}

fn difference(node: Node<'_>, old: &Value, new: &Value) -> (FieldSet, FieldSet) {
    let (mut changed, mut removed) = (FieldSet::default(), FieldSet::default());
    typed::compare(node, old, new, &mut changed, &mut removed);
    (without_identity(changed), without_identity(removed))
}

/// What a configuration makes its applier own.
fn owned(node: Node<'_>, config: &Value, subresource: &str) -> Result<FieldSet, ApplyError> {
    let set = typed::set_of(node, config, true).map_err(ApplyError::Malformed)?;
    Ok(within(set, subresource))
}

/// The part of a set that writers of a subresource (or of the main resource) can own.
fn within(mut set: FieldSet, subresource: &str) -> FieldSet {
    match subresource {
        "status" => set.children.retain(|element, _| element == "f:status"),
        _ => drop(set.children.remove("f:status")),
    }
    without_identity(set)
}

/// What makes the object this object.
static IDENTITY: LazyLock<FieldSet> = LazyLock::new(|| {
    let identity = json!({"f:apiVersion": {}, "f:kind": {}, "f:metadata": {".": {},
        "f:name": {}, "f:namespace": {}, "f:creationTimestamp": {}, "f:selfLink": {}, "f:uid": {},
        "f:generation": {}, "f:managedFields": {}, "f:resourceVersion": {}}});
    FieldSet::from_value(&identity).unwrap_or_default()
});

/// Nobody owns the object's identity.
fn without_identity(mut set: FieldSet) -> FieldSet {
    set.subtract(&IDENTITY);
    if let Some(metadata) = set.children.get_mut("f:metadata") {
        metadata.children.remove("f:managedFields");
    }
    set.tidy();
    set
}

#[cfg(test)]
mod tests;
