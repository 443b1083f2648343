//! The templates that a StatefulSet or DaemonSet has had, kept as ControllerRevisions: which one is the present one, what
//! a new one looks like, which are too many.
//!
//! Pure, but for `keep`. Follows `pkg/controller/history` and the `getPatch` of both controllers, whose form kubectl's
//! `rollout history` and `rollout undo` read.

mod keep;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::Resource;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use crate::deployment::revision::template_hash;
use crate::objects;

pub use keep::History;

/// Characters of an owner's name that go into its revisions' names.
const NAME_LENGTH_MAX: usize = 223;

/// How the history is brought up to date.
#[derive(Debug)]
pub enum Step {
    /// The newest revision is of the present template.
    Keep(Arc<ControllerRevision>),
    /// An older one is: it becomes the newest.
    Renumber(Arc<ControllerRevision>, i64),
    /// None is; the new one has this number.
    Create(i64),
}

/// Oldest first.
pub fn sort(revisions: &mut [Arc<ControllerRevision>]) {
    revisions.sort_by(|a, b| {
        let key = |one: &ControllerRevision| (number(one), objects::created(one));
        key(a)
            .cmp(&key(b))
            .then_with(|| objects::name(&**a).cmp(objects::name(&**b)))
    });
}

/// Which revision is of the template. `revisions` are sorted.
pub fn step(template: &PodTemplateSpec, revisions: &[Arc<ControllerRevision>]) -> Step {
    let wanted = data(template);
    let next = revisions.last().map_or(0, |last| number(last)) + 1;
    match revisions.iter().rev().find(|one| one.data.0 == wanted) {
        Some(same) if number(same) + 1 == next => Step::Keep(same.clone()),
        Some(same) => Step::Renumber(same.clone(), next),
        None => Step::Create(next),
    }
}

/// `revision`.
pub fn number(revision: &ControllerRevision) -> i64 {
    revision.revision.unwrap_or(0)
}

/// The patch that brings an owner back to this template.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = json!(template);
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// The template that a revision keeps; nothing if it keeps something else.
pub fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// A revision of the owner's template; its hash is the value of `label`.
pub fn new<O: Resource<DynamicType = ()>>(
    owner: &O,
    template: &PodTemplateSpec,
    label: &str,
    revision: i64,
    collisions: i32,
) -> ControllerRevision {
    let hash = template_hash(template, (collisions > 0).then_some(collisions));
    let labels = template
        .metadata
        .as_ref()
        .and_then(|meta| meta.labels.clone());
    let mut labels: BTreeMap<String, String> = labels.unwrap_or_default();
    labels.insert(label.to_owned(), hash.clone());
    let name = objects::name(owner);
    let name = name.get(..NAME_LENGTH_MAX).unwrap_or(name);
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![objects::controller_reference(owner)]),
            ..Default::default()
        },
        data: RawExtension(data(template)),
        revision: Some(revision),
    }
}

/// The oldest `count` of those that nobody needs. `revisions` are sorted.
pub fn surplus(
    revisions: &[Arc<ControllerRevision>],
    needed: impl Fn(&ControllerRevision) -> bool,
    count: usize,
) -> Vec<Arc<ControllerRevision>> {
    let free = revisions.iter().filter(|one| !needed(one));
    free.take(count).cloned().collect()
}

#[cfg(test)]
mod tests;
