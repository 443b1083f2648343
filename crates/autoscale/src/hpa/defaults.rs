//! What the API server fills into an autoscaling/v2 specification.
//!
//! Source followed: `pkg/apis/autoscaling/v2/defaults.go`.

use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior,
    HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget, ResourceMetricSource,
};

/// CPU utilisation, in percent of requests, that is aimed at when no metric is given.
pub const CPU_UTILIZATION_PERCENT: i32 = 80;

/// Fills a specification in place: one replica at least, CPU at 80 % when no metric is given, and the parts of
/// `behavior` that are unset, if it is set at all.
pub fn default_spec(spec: &mut HorizontalPodAutoscalerSpec) {
    spec.min_replicas.get_or_insert(1);
    if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
        spec.metrics = Some(vec![MetricSpec {
            type_: "Resource".to_owned(),
            resource: Some(ResourceMetricSource {
                name: "cpu".to_owned(),
                target: MetricTarget {
                    type_: "Utilization".to_owned(),
                    average_utilization: Some(CPU_UTILIZATION_PERCENT),
                    ..Default::default()
                },
            }),
            ..Default::default()
        }]);
    }
    if let Some(behavior) = &mut spec.behavior {
        default_behavior(behavior);
    }
}

/// Fills a behaviour in place.
pub fn default_behavior(behavior: &mut HorizontalPodAutoscalerBehavior) {
    behavior.scale_up = Some(scale_up_rules(behavior.scale_up.take()));
    behavior.scale_down = Some(scale_down_rules(behavior.scale_down.take()));
}

/// Rules for growing: what is unset becomes the larger of 4 pods and 100 % per 15 s, without stabilisation.
pub fn scale_up_rules(given: Option<HPAScalingRules>) -> HPAScalingRules {
    let default = HPAScalingRules {
        stabilization_window_seconds: Some(0),
        select_policy: Some("Max".to_owned()),
        policies: Some(vec![policy("Pods", 4), policy("Percent", 100)]),
        tolerance: None,
    };
    filled(given, default)
}

/// Rules for shrinking: what is unset becomes 100 % per 15 s; the window stays unset because it is the
/// controller's setting.
pub fn scale_down_rules(given: Option<HPAScalingRules>) -> HPAScalingRules {
    let default = HPAScalingRules {
        stabilization_window_seconds: None,
        select_policy: Some("Max".to_owned()),
        policies: Some(vec![policy("Percent", 100)]),
        tolerance: None,
    };
    filled(given, default)
}

fn policy(kind: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy {
        type_: kind.to_owned(),
        value,
        period_seconds: 15,
    }
}

fn filled(given: Option<HPAScalingRules>, default: HPAScalingRules) -> HPAScalingRules {
    let given = given.unwrap_or_default();
    HPAScalingRules {
        stabilization_window_seconds: given
            .stabilization_window_seconds
            .or(default.stabilization_window_seconds),
        select_policy: given.select_policy.or(default.select_policy),
        policies: given.policies.or(default.policies),
        tolerance: given.tolerance,
    }
}
