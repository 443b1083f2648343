//! The shell: does the steps of a plan, with upstream's events.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::plan::Step;
use super::{Context, identity};
use crate::error::{Error, is_namespace_terminating, is_not_found, message, reason};
use crate::events::Severity;
use crate::history::template_of;
use crate::objects;
use crate::pod_control::delete;

/// Pods that were made and deleted, for the cache to catch up with.
#[derive(Default)]
struct Written {
    created: Vec<Pod>,
    deleted: Vec<String>,
}

impl Context {
    /// Does the steps; the first that fails ends it.
    pub(super) async fn act(
        &self,
        set: &StatefulSet,
        current: &ControllerRevision,
        update: &ControllerRevision,
        steps: Vec<Step>,
    ) -> Result<(), Error> {
        let mut written = Written::default();
        let mut outcome = Ok(());
        for step in steps {
            let revision = match &step {
                Step::Create { updated: false, .. } => current,
                _ => update,
            };
            outcome = self.do_step(set, revision, step, &mut written).await;
            if outcome.is_err() {
                break;
            }
        }
        self.expectations.wrote(
            objects::uid(set),
            &self.shared.pods,
            &written.created,
            written.deleted,
        );
        match outcome {
            // what cannot be made in a namespace that goes away is not missed
            Err(Failed(error, _)) if is_namespace_terminating(&error) => Ok(()),
            Err(Failed(error, action)) => Err(Error::api(action, objects::key(set))(error)),
            Ok(()) => Ok(()),
        }
    }

    async fn do_step(
        &self,
        set: &StatefulSet,
        revision: &ControllerRevision,
        step: Step,
        written: &mut Written,
    ) -> Result<(), Failed> {
        match step {
            Step::Claim(pod, claim) => self.make_claim(set, &pod, &claim).await,
            Step::Own(claim, owners) => {
                let change = json!({"metadata": {
                    "uid": claim.metadata.uid,
                    "resourceVersion": claim.metadata.resource_version,
                    "ownerReferences": owners,
                }});
                let name = objects::name(&*claim);
                let outcome = self
                    .claims_api(set)
                    .patch(name, &PatchParams::default(), &Patch::Merge(&change))
                    .await;
                settle(outcome.map(drop), "update a PersistentVolumeClaim of")
            }
            Step::Create { ordinal, .. } => {
                let template = template_of(revision).unwrap_or_else(|| set.spec.template.clone());
                let pod = identity::pod(set, template, objects::name(revision), ordinal);
                let name = identity::pod_name(set, ordinal);
                let outcome = self
                    .pods_api(set)
                    .create(&PostParams::default(), &pod)
                    .await;
                match outcome {
                    Ok(pod) => {
                        self.tell(set, "create", &name, Ok(()));
                        written.created.push(pod);
                        Ok(())
                    }
                    Err(error) => {
                        if reason(&error) != "AlreadyExists" && !is_namespace_terminating(&error) {
                            self.tell(set, "create", &name, Err(&message(&error)));
                        }
                        Err(Failed(error, "create a Pod of"))
                    }
                }
            }
            Step::Refuse(pod, why) => {
                self.tell(set, "create", &pod, Err(&why));
                Ok(())
            }
            Step::Label(pod, ordinal) => {
                let name = objects::name(&*pod);
                let labels: std::collections::BTreeMap<_, _> =
                    identity::labels_of(name, ordinal).into();
                let change = json!({"metadata": {"uid": pod.metadata.uid, "labels": labels}});
                let outcome = self
                    .pods_api(set)
                    .patch(name, &PatchParams::default(), &Patch::Merge(&change))
                    .await
                    .map(drop);
                let failure = outcome.as_ref().err().map(message);
                self.tell(set, "update", name, failure.as_deref().map_or(Ok(()), Err));
                settle(outcome, "update a Pod of")
            }
            Step::Delete(pod) => self.delete_pod(set, &pod, written).await,
        }
    }

    async fn delete_pod(
        &self,
        set: &StatefulSet,
        pod: &Arc<Pod>,
        written: &mut Written,
    ) -> Result<(), Failed> {
        let outcome = delete(&self.pods_api(set), pod).await;
        let gone = outcome.as_ref().is_err_and(is_not_found);
        if !gone {
            let failure = outcome.as_ref().err().map(message);
            let done = failure.as_deref().map_or(Ok(()), Err);
            self.tell(set, "delete", objects::name(&**pod), done);
        }
        if gone || outcome.is_ok() {
            written.deleted.push(objects::uid(&**pod).to_owned());
        }
        settle(outcome, "delete a Pod of")
    }

    async fn make_claim(
        &self,
        set: &StatefulSet,
        pod: &str,
        claim: &PersistentVolumeClaim,
    ) -> Result<(), Failed> {
        let name = objects::name(claim);
        let error = match self
            .claims_api(set)
            .create(&PostParams::default(), claim)
            .await
        {
            Ok(_) => {
                let text = format!(
                    "create Claim {name} Pod {pod} in StatefulSet {} success",
                    objects::name(set)
                );
                self.recorder
                    .record(set, Severity::Normal, "SuccessfulCreate", text);
                return Ok(());
            }
            Err(error) if reason(&error) == "AlreadyExists" => return Ok(()),
            Err(error) => error,
        };
        if !is_namespace_terminating(&error) {
            let why = message(&error);
            let text = format!(
                "create Claim {name} for Pod {pod} in StatefulSet {} failed error: {why}",
                objects::name(set)
            );
            self.recorder
                .record(set, Severity::Warning, "FailedCreate", text);
            let why = format!("failed to create PVC {name}: {why}");
            self.tell(set, "create", pod, Err(&why));
        }
        Err(Failed(error, "create a PersistentVolumeClaim of"))
    }

    /// What was done to a pod, or why it was not.
    fn tell(&self, set: &StatefulSet, verb: &str, pod: &str, done: Result<(), &str>) {
        let of = objects::name(set);
        let word = match verb {
            "create" => "Create",
            "update" => "Update",
            _ => "Delete",
        };
        let (severity, reason, text) = match done {
            Ok(()) => (
                Severity::Normal,
                format!("Successful{word}"),
                format!("{verb} Pod {pod} in StatefulSet {of} successful"),
            ),
            Err(why) => (
                Severity::Warning,
                format!("Failed{word}"),
                format!("{verb} Pod {pod} in StatefulSet {of} failed error: {why}"),
            ),
        };
        self.recorder.record(set, severity, &reason, text);
    }

    fn pods_api(&self, set: &StatefulSet) -> Api<Pod> {
        Api::namespaced(self.shared.client.clone(), objects::namespace(set))
    }

    fn claims_api(&self, set: &StatefulSet) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.shared.client.clone(), objects::namespace(set))
    }
}

/// The API's answer, and what was asked.
struct Failed(kube::Error, &'static str);

/// What is gone needs no change.
fn settle(outcome: Result<(), kube::Error>, action: &'static str) -> Result<(), Failed> {
    match outcome {
        Err(error) if is_not_found(&error) => Ok(()),
        Err(error) => Err(Failed(error, action)),
        Ok(()) => Ok(()),
    }
}
