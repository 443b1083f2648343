//! Whether an autoscaler's specification is valid, with upstream's errors in upstream's order.
//!
//! Source followed: `pkg/apis/autoscaling/validation/validation.go` (creation; the object's metadata is the API
//! server's to validate).

use super::field_error::{Errors, FieldError};
use crate::quantity::Quantity;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec,
    MetricIdentifier, MetricSpec, MetricTarget,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

const WINDOW_SECONDS_MAX: i32 = 3600;
const PERIOD_SECONDS_MAX: i32 = 1800;
const SOURCES: [&str; 5] = [
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];

/// Validates a specification as it stands, after defaulting. `minimum_lower_bound` is the least that
/// `minReplicas` may be: 0 with the feature gate HPAScaleToZero, else 1.
pub fn validate_autoscaler(
    spec: &HorizontalPodAutoscalerSpec,
    minimum_lower_bound: i32,
) -> Vec<FieldError> {
    let mut errors = Errors::default();
    if let Some(minimum) = spec
        .min_replicas
        .filter(|minimum| *minimum < minimum_lower_bound)
    {
        let detail = format!("must be greater than or equal to {minimum_lower_bound}");
        errors.invalid("spec.minReplicas", minimum, &detail);
    }
    if spec.max_replicas < 1 {
        errors.invalid(
            "spec.maxReplicas",
            spec.max_replicas,
            "must be greater than 0",
        );
    }
    if spec
        .min_replicas
        .is_some_and(|minimum| spec.max_replicas < minimum)
    {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.invalid("spec.maxReplicas", spec.max_replicas, detail);
    }
    // The one scalable kind of the core group may leave the group out.
    let needs_group = spec.scale_target_ref.kind != "ReplicationController";
    errors.reference(&spec.scale_target_ref, "spec.scaleTargetRef", needs_group);
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    for (index, metric) in metrics.iter().enumerate() {
        errors.metric(metric, &format!("spec.metrics[{index}]"));
    }
    let outside = metrics
        .iter()
        .any(|metric| metric.type_ == "Object" || metric.type_ == "External");
    if spec.min_replicas == Some(0) && !outside {
        errors.forbidden(
            "spec.metrics",
            "must specify at least one Object or External metric to support scaling to zero replicas",
        );
    }
    if let Some(behavior) = &spec.behavior {
        if let Some(rules) = &behavior.scale_up {
            errors.rules(rules, "spec.behavior.scaleUp");
        }
        if let Some(rules) = &behavior.scale_down {
            errors.rules(rules, "spec.behavior.scaleDown");
        }
    }
    errors.list
}

/// Validates a scale subresource's wanted size.
pub fn validate_scale(replicas: i32) -> Vec<FieldError> {
    let mut errors = Errors::default();
    if replicas < 0 {
        errors.invalid(
            "spec.replicas",
            replicas,
            "must be greater than or equal to 0",
        );
    }
    errors.list
}

impl Errors {
    fn reference(
        &mut self,
        reference: &CrossVersionObjectReference,
        path: &str,
        needs_group: bool,
    ) {
        for (field, value) in [("kind", &reference.kind), ("name", &reference.name)] {
            let field = format!("{path}.{field}");
            if value.is_empty() {
                self.required(field, "");
            } else {
                self.path_segment(field, value);
            }
        }
        let version = reference.api_version.as_deref().unwrap_or_default();
        let field = format!("{path}.apiVersion");
        match version.split('/').count() {
            0..=2 => {
                let group = version.split_once('/').map_or("", |(group, _)| group);
                if needs_group && group.is_empty() {
                    self.invalid(field, version, "apiVersion must specify API group");
                }
            }
            _ => self.invalid(
                field,
                version,
                &format!("unexpected GroupVersion string: {version}"),
            ),
        }
    }

    fn metric(&mut self, metric: &MetricSpec, path: &str) {
        let kind = metric.type_.as_str();
        if kind.is_empty() {
            self.required(format!("{path}.type"), "must specify a metric source type");
        }
        let known = SOURCES.contains(&kind);
        if !known {
            self.unsupported(format!("{path}.type"), kind, &SOURCES);
        }
        let present = self.sources(metric, path);
        let expected = match kind {
            "Object" => "object",
            "Pods" => "pods",
            "Resource" => "resource",
            "External" => "external",
            "ContainerResource" => "containerResource",
            _ => {
                self.unsupported(format!("{path}.type"), kind, &SOURCES);
                ""
            }
        };
        if known && !present.contains(&expected) {
            let detail = "must populate information for the given metric source";
            self.required(format!("{path}.{expected}"), detail);
        }
        if present.len() != 1 {
            for source in present.into_iter().filter(|source| *source != expected) {
                self.forbidden(
                    format!("{path}.{source}"),
                    "must populate the given metric source only",
                );
            }
        }
    }

    /// The sources that are given; only the first is looked into.
    fn sources(&mut self, metric: &MetricSpec, path: &str) -> Vec<&'static str> {
        let mut present = Vec::new();
        if let Some(source) = &metric.object {
            let path = format!("{path}.object");
            self.reference(
                &source.described_object,
                &format!("{path}.describedObject"),
                false,
            );
            self.identifier(&source.metric, &path);
            self.target(&source.target, &path);
            if source.target.value.is_none() && source.target.average_value.is_none() {
                let detail = "must set either a target value or averageValue";
                self.required(format!("{path}.target.averageValue"), detail);
            }
            present.push("object");
        }
        if let Some(source) = &metric.external {
            if present.is_empty() {
                let path = format!("{path}.external");
                self.identifier(&source.metric, &path);
                self.target(&source.target, &path);
                let (value, average) = (&source.target.value, &source.target.average_value);
                if value.is_none() && average.is_none() {
                    let detail = "must set either a target value for metric or a per-pod target";
                    self.required(format!("{path}.target.averageValue"), detail);
                }
                if value.is_some() && average.is_some() {
                    let detail = "may not set both a target value for metric and a per-pod target";
                    self.forbidden(format!("{path}.target.value"), detail);
                }
            }
            present.push("external");
        }
        if let Some(source) = &metric.pods {
            if present.is_empty() {
                let path = format!("{path}.pods");
                self.identifier(&source.metric, &path);
                self.target(&source.target, &path);
                if source.target.average_value.is_none() {
                    let detail = "must specify a positive target averageValue";
                    self.required(format!("{path}.target.averageValue"), detail);
                }
            }
            present.push("pods");
        }
        if let Some(source) = &metric.resource {
            if present.is_empty() {
                self.resource(
                    &source.name,
                    &source.target,
                    None,
                    &format!("{path}.resource"),
                );
            }
            present.push("resource");
        }
        if let Some(source) = &metric.container_resource {
            if present.is_empty() {
                let path = format!("{path}.containerResource");
                self.resource(&source.name, &source.target, Some(&source.container), &path);
            }
            present.push("containerResource");
        }
        present
    }

    fn resource(&mut self, name: &str, target: &MetricTarget, container: Option<&str>, path: &str) {
        if name.is_empty() {
            self.required(format!("{path}.name"), "must specify a resource name");
        }
        match container {
            Some("") => self.required(format!("{path}.container"), "must specify a container"),
            Some(container) => self.label(format!("{path}.container"), container),
            None => {}
        }
        self.target(target, path);
        if target.average_utilization.is_none() && target.average_value.is_none() {
            let detail = "must set either a target raw value or a target utilization";
            self.required(format!("{path}.target.averageUtilization"), detail);
        }
        if target.average_utilization.is_some() && target.average_value.is_some() {
            let detail = "may not set both a target raw value and a target utilization";
            self.forbidden(format!("{path}.target.averageValue"), detail);
        }
    }

    fn identifier(&mut self, metric: &MetricIdentifier, path: &str) {
        let field = format!("{path}.metric.name");
        if metric.name.is_empty() {
            self.required(field, "must specify a metric name");
        } else {
            self.path_segment(field, &metric.name);
        }
    }

    fn target(&mut self, target: &MetricTarget, path: &str) {
        let path = format!("{path}.target");
        if target.type_.is_empty() {
            self.required(format!("{path}.type"), "must specify a metric target type");
        }
        if !["Utilization", "Value", "AverageValue"].contains(&target.type_.as_str()) {
            let detail = "must be either Utilization, Value, or AverageValue";
            self.invalid(format!("{path}.type"), &target.type_, detail);
        }
        for (field, quantity) in [
            ("value", &target.value),
            ("averageValue", &target.average_value),
        ] {
            if let Some(quantity) = quantity
                .as_ref()
                .filter(|quantity| !parsed(quantity, Quantity::is_positive))
            {
                self.invalid(format!("{path}.{field}"), &quantity.0, "must be positive");
            }
        }
        if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
            self.invalid(
                format!("{path}.averageUtilization"),
                percent,
                "must be greater than 0",
            );
        }
    }

    fn rules(&mut self, rules: &HPAScalingRules, path: &str) {
        if let Some(window) = rules.stabilization_window_seconds {
            let field = format!("{path}.stabilizationWindowSeconds");
            if window < 0 {
                self.invalid(
                    field.clone(),
                    window,
                    "must be greater than or equal to zero",
                );
            }
            if window > WINDOW_SECONDS_MAX {
                self.invalid(
                    field,
                    window,
                    &format!("must be less than or equal to {WINDOW_SECONDS_MAX}"),
                );
            }
        }
        let selects = ["Disabled", "Max", "Min"];
        if let Some(select) = rules
            .select_policy
            .as_deref()
            .filter(|select| !selects.contains(select))
        {
            self.unsupported(format!("{path}.selectPolicy"), select, &selects);
        }
        let policies = rules.policies.as_deref().unwrap_or_default();
        if policies.is_empty() {
            self.required(
                format!("{path}.policies"),
                "must specify at least one Policy",
            );
        }
        for (index, policy) in policies.iter().enumerate() {
            self.policy(policy, &format!("{path}.policies[{index}]"));
        }
        if let Some(tolerance) = rules
            .tolerance
            .as_ref()
            .filter(|quantity| parsed(quantity, Quantity::is_negative))
        {
            self.invalid(
                format!("{path}.tolerance"),
                &tolerance.0,
                "must be greater than or equal to 0",
            );
        }
    }

    fn policy(&mut self, policy: &HPAScalingPolicy, path: &str) {
        if policy.type_ != "Pods" && policy.type_ != "Percent" {
            self.unsupported(format!("{path}.type"), &policy.type_, &["Percent", "Pods"]);
        }
        if policy.value <= 0 {
            self.invalid(
                format!("{path}.value"),
                policy.value,
                "must be greater than zero",
            );
        }
        let field = format!("{path}.periodSeconds");
        if policy.period_seconds <= 0 {
            self.invalid(
                field.clone(),
                policy.period_seconds,
                "must be greater than zero",
            );
        }
        if policy.period_seconds > PERIOD_SECONDS_MAX {
            let detail = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
            self.invalid(field, policy.period_seconds, &detail);
        }
    }
}

fn parsed(quantity: &ApiQuantity, is: fn(Quantity) -> bool) -> bool {
    Quantity::parse(&quantity.0).is_ok_and(is)
}
