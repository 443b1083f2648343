//! One evaluation of one autoscaler: read, decide, write.

use std::sync::Arc;
use std::time::Duration;

use autoscale::hpa::{Hpa, Pod as PodInput, Reading};
use autoscale::selector::Selector;
use autoscale::{Decision, EventType, Failure, Inputs, Rescale, Settings};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, Client};

use super::memory::Memory;
use super::readings;
use super::record::{DecisionRecord, DecisionSink, LAST_DECISION, annotation};
use super::shown;
use super::target::Targets;
use crate::error::{message, status_code};
use crate::events::{Recorder, Severity};
use crate::informer::Informer;
use crate::objects;
use crate::shared::in_namespace;

/// A node's clock may be so far ahead of ours.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// The status of a change of size is written so often until it stands, the next time after twice this pause.
const STATUS_ATTEMPTS: u32 = 5;
const STATUS_PAUSE: Duration = Duration::from_millis(50);

/// A pod that started later than now did so before the clock went back: it counts as long started, else its load would be
/// ignored until that moment comes again.
fn not_of_the_future(pod: &mut PodInput, now: Timestamp) {
    let is_future = |at: Timestamp| at.duration_since(now) > SKEW;
    if pod.start_time.is_some_and(is_future) {
        pod.start_time = Some(Timestamp::UNIX_EPOCH);
    }
    if let Some(ready) = &mut pod.ready
        && is_future(ready.last_transition)
    {
        ready.last_transition = Timestamp::UNIX_EPOCH;
    }
}

/// Everything an evaluation works with.
pub struct Evaluator {
    pub client: Client,
    pub pods: Informer<Pod>,
    pub recorder: Recorder,
    pub targets: Targets,
    pub memory: Memory,
    pub settings: Settings,
    pub sink: Arc<dyn DecisionSink>,
}

/// The scale as read, with the resource to write it to.
type ReadScale = Result<(ApiResource, Scale), String>;

impl Evaluator {
    /// Evaluates once. Failures end in the autoscaler's conditions and events; the size then stays.
    pub async fn evaluate(&self, cached: &Arc<HorizontalPodAutoscaler>) {
        let autoscaler = self.memory.newest(cached);
        let scale = self.scale(&autoscaler).await;
        let inputs = self.inputs(&autoscaler, &scale).await;
        let mut decision = autoscale::decide(&inputs);
        if let (Some(Rescale { to, .. }), Ok((resource, scale))) = (&decision.rescale, scale) {
            let namespace = objects::namespace(&*autoscaler);
            if let Err(error) = self.targets.write(&resource, namespace, scale, *to).await {
                decision = autoscale::decide_after_failed_write(&inputs, &error);
            }
        }
        self.conclude(&autoscaler, inputs, decision).await;
    }

    async fn scale(&self, autoscaler: &HorizontalPodAutoscaler) -> ReadScale {
        let target = &autoscaler.spec.scale_target_ref;
        let resource = self
            .targets
            .resolve(target.api_version.as_deref(), &target.kind)
            .await?;
        let namespace = objects::namespace(autoscaler);
        let scale = self
            .targets
            .read(&resource, namespace, &target.name)
            .await?;
        Ok((resource, scale))
    }

    async fn inputs(&self, autoscaler: &HorizontalPodAutoscaler, scale: &ReadScale) -> Inputs {
        let namespace = objects::namespace(autoscaler).to_owned();
        let uid = objects::uid(autoscaler);
        let scale = match scale {
            Ok((_, scale)) => Ok(autoscale::Scale::from(scale)),
            Err(error) => Err(Failure::new(error.clone())),
        };
        let text = scale.as_ref().ok().map(|scale| scale.selector.as_str());
        if let Some(text) = text {
            let name = objects::name(autoscaler);
            self.memory.selectors.remember(uid, &namespace, name, text);
        }
        let selector = text
            .filter(|text| !text.is_empty())
            .and_then(|text| Selector::parse(text).ok());
        let (mut pods, mut pod_usage, mut metrics) = (Vec::new(), Reading::NotRead, Vec::new());
        if let (Some(selector), Some(text)) = (selector, text) {
            let specs = autoscaler.spec.metrics.as_deref().unwrap_or_default();
            pod_usage = readings::pod_usage(&self.client, &namespace, text, specs).await;
            let each = specs
                .iter()
                .map(|spec| readings::metric(&self.client, &self.targets, &namespace, text, spec));
            metrics = join_all(each).await;
            // Pods after samples: a pod that appeared in between then counts as one without a sample, not the
            // sample as one of nobody.
            pods = self.pods_of(&namespace, &selector);
        }
        let labels = pods.iter().map(|pod: &PodInput| &pod.labels);
        let others = self.memory.selectors.others(uid, &namespace, labels);
        let now = Timestamp::now();
        pods.iter_mut().for_each(|pod| not_of_the_future(pod, now));
        Inputs {
            now,
            settings: self.settings.clone(),
            hpa: Hpa {
                name: objects::name(autoscaler).to_owned(),
                namespace,
                generation: autoscaler.metadata.generation,
                spec: autoscaler.spec.clone(),
                status: autoscaler.status.clone().unwrap_or_default(),
            },
            scale,
            pods,
            pod_usage,
            metrics,
            others,
            state: self.memory.state(uid, now),
        }
    }

    fn pods_of(&self, namespace: &str, selector: &Selector) -> Vec<PodInput> {
        let none = std::collections::BTreeMap::new();
        self.pods
            .by_index(&in_namespace(namespace))
            .iter()
            .filter(|pod| selector.matches(pod.metadata.labels.as_ref().unwrap_or(&none)))
            .map(|pod| PodInput::from(&**pod))
            .collect()
    }

    async fn conclude(
        &self,
        autoscaler: &Arc<HorizontalPodAutoscaler>,
        inputs: Inputs,
        decision: Decision,
    ) {
        let uid = objects::uid(&**autoscaler).to_owned();
        for event in &decision.events {
            let severity = match event.kind {
                EventType::Normal => Severity::Normal,
                EventType::Warning => Severity::Warning,
            };
            if severity == Severity::Normal
                || self.memory.may_warn(&uid, &event.reason, &event.message)
            {
                self.recorder.record(
                    &**autoscaler,
                    severity,
                    &event.reason,
                    event.message.clone(),
                );
            }
        }
        let news = self.memory.decided(&uid, &decision);
        self.write_status(autoscaler, &decision).await;
        if decision.rescale.is_some() || news.another_error {
            self.tell(autoscaler, &decision).await;
        }
        if news.worth_keeping {
            self.sink.record(DecisionRecord {
                uid,
                inputs,
                decision,
            });
        }
    }

    /// Logs a decision that differs, and leaves its short form on the autoscaler.
    async fn tell(&self, autoscaler: &HorizontalPodAutoscaler, decision: &Decision) {
        let key = objects::key(autoscaler);
        let summary = decision.summary();
        match (&decision.rescale, &decision.error) {
            (Some(rescale), _) => tracing::info!(
                autoscaler = key,
                from = rescale.from,
                to = rescale.to,
                reason = rescale.reason,
                "rescaled: {summary}"
            ),
            (None, Some(error)) => {
                tracing::warn!(autoscaler = key, %error, "cannot decide, the size stays")
            }
            (None, None) => tracing::info!(autoscaler = key, "can decide again: {summary}"),
        }
        let Some(value) = annotation(decision) else {
            return;
        };
        let change = serde_json::json!({"metadata": {"annotations": {LAST_DECISION: value}}});
        let name = objects::name(autoscaler);
        if let Err(error) = self
            .api(autoscaler)
            .patch(name, &PatchParams::default(), &Patch::Merge(&change))
            .await
        {
            tracing::debug!(autoscaler = key, %error, "the decision's short form was not written");
        }
    }

    /// Writes the status: at once when anything but measured values changed; every 2 s if these changed enough for a
    /// person who watches the load (see [`shown`]); else every 15 s, as upstream does.
    async fn write_status(&self, autoscaler: &Arc<HorizontalPodAutoscaler>, decision: &Decision) {
        let uid = objects::uid(&**autoscaler);
        if !decision.status_changed {
            return;
        }
        let before = autoscaler.status.clone().unwrap_or_default();
        if essence(&before) == essence(&decision.status) {
            let pace = shown::pace(&before, &decision.status);
            if !self.memory.status_is_due(uid, pace) {
                return;
            }
        }
        let mut object = HorizontalPodAutoscaler::clone(autoscaler);
        object.status = Some(decision.status.clone());
        let (api, name) = (self.api(autoscaler), objects::name(&**autoscaler));
        let mut pause = STATUS_PAUSE;
        for attempt in 1.. {
            let parameters = PostParams::default();
            let error = match api.replace_status(name, &parameters, &object).await {
                Ok(written) => return self.memory.status_written(uid, written),
                Err(error) => error,
            };
            // That a size was changed, and why, is told nowhere else: whoever sees none later may take it for a person's wish.
            let must = decision.rescale.is_some() && status_code(&error) != Some(404);
            if !must || attempt == STATUS_ATTEMPTS {
                return self.status_failed(autoscaler, &error);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            if let Ok(latest) = api.get(name).await {
                if objects::uid(&latest) != uid {
                    return;
                }
                object = latest;
                object.status = Some(decision.status.clone());
            }
        }
    }

    fn status_failed(&self, autoscaler: &HorizontalPodAutoscaler, error: &kube::Error) {
        let key = objects::key(autoscaler);
        // Someone else changed the object; the next evaluation starts from that.
        if matches!(status_code(error), Some(404 | 409)) {
            tracing::debug!(autoscaler = key, %error, "status not written");
            return;
        }
        tracing::warn!(autoscaler = key, %error, "status not written");
        let message = message(error);
        let (uid, reason) = (objects::uid(autoscaler), "FailedUpdateStatus");
        if self.memory.may_warn(uid, reason, &message) {
            let severity = Severity::Warning;
            self.recorder.record(autoscaler, severity, reason, message);
        }
    }

    fn api(&self, autoscaler: &HorizontalPodAutoscaler) -> Api<HorizontalPodAutoscaler> {
        Api::namespaced(self.client.clone(), objects::namespace(autoscaler))
    }
}

/// The status without what merely moves with the load: measured values, and texts that hold them.
fn essence(status: &HorizontalPodAutoscalerStatus) -> HorizontalPodAutoscalerStatus {
    let mut status = status.clone();
    status.current_metrics = status
        .current_metrics
        .filter(|metrics| !metrics.is_empty())
        .map(|_| Vec::new());
    status.current_replicas = status.current_replicas.or(Some(0));
    for condition in status.conditions.iter_mut().flatten() {
        condition.message = None;
    }
    status
}
