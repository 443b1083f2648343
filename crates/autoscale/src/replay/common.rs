//! The forms that several tables share, and comparing.

use std::fmt::Debug;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::hpa::{Container, ContainerUsage, Pod, PodUsage, ReadyCondition, ScaleEvent};

/// Differences of a case that could be evaluated; empty if it passed.
pub type Differences = Result<Vec<String>, String>;

/// The case in its table's form.
pub fn parse<T: DeserializeOwned>(case: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(case).map_err(|error| {
        let (path, inner) = (error.path(), error.inner());
        format!("the case does not have its table's form: {path}: {inner}")
    })
}

/// Unix seconds as a time.
pub fn time(seconds: i64) -> Result<Timestamp, String> {
    Timestamp::from_second(seconds).map_err(|error| format!("{seconds} is no time: {error}"))
}

/// Compares what is expected, if anything, with what came out.
pub fn check<T: PartialEq + Debug>(
    differences: &mut Vec<String>,
    what: &str,
    expected: Option<T>,
    got: &T,
) {
    if let Some(expected) = expected.filter(|expected| expected != got) {
        differences.push(format!("{what}: expected {expected:?}, got {got:?}"));
    }
}

/// Compares an error with the text that it must contain.
pub fn check_error(differences: &mut Vec<String>, expected: Option<&str>, got: Option<&str>) {
    match (expected, got) {
        (None, None) => {}
        (Some(expected), Some(got)) if got.contains(expected) => {}
        (expected, got) => differences.push(format!("error: expected {expected:?}, got {got:?}")),
    }
}

/// A pod of a case.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CasePod {
    pub name: String,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    phase: String,
    #[serde(default)]
    ready: Option<String>,
    #[serde(default)]
    ready_last_transition_time: Option<i64>,
    #[serde(default)]
    ready_condition: Option<CaseCondition>,
    #[serde(default)]
    start_time: Option<i64>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    containers: Vec<CaseContainer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseCondition {
    status: String,
    last_transition_time: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseContainer {
    name: String,
    #[serde(default, alias = "cpuRequestMilli")]
    request_milli: Option<i64>,
    #[serde(default)]
    memory_request_bytes: Option<i64>,
}

impl CasePod {
    /// The pod, with its requests taken as requests of `resource`.
    pub fn pod(self, resource: &str) -> Result<Pod, String> {
        let condition = match (self.ready_condition, self.ready) {
            (Some(condition), _) => Some((condition.status, condition.last_transition_time)),
            (None, Some(status)) => {
                Some((status, self.ready_last_transition_time.unwrap_or_default()))
            }
            (None, None) => None,
        };
        let ready = condition
            .map(|(status, at)| {
                Ok::<_, String>(ReadyCondition {
                    status,
                    last_transition: time(at)?,
                })
            })
            .transpose()?;
        let containers = self.containers.into_iter().map(|container| Container {
            name: container.name,
            requests_milli: container
                .request_milli
                .map(|milli| (resource.to_owned(), milli))
                .into_iter()
                .chain(
                    container
                        .memory_request_bytes
                        .map(|bytes| ("memory".to_owned(), bytes.saturating_mul(1000))),
                )
                .collect(),
        });
        Ok(Pod {
            name: self.name,
            labels: self.labels,
            phase: self.phase,
            deleted: self.deleted,
            start_time: self.start_time.map(time).transpose()?,
            ready,
            containers: containers.collect(),
            sidecars: Vec::new(),
            pod_requests_milli: None,
        })
    }
}

/// A pod's usage in a case.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseUsage {
    pub pod: String,
    #[serde(default)]
    pub timestamp: i64,
    #[serde(default)]
    pub window_seconds: f64,
    #[serde(default)]
    containers: Vec<CaseContainerUsage>,
    #[serde(default, alias = "value")]
    pub value_milli: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CaseContainerUsage {
    name: String,
    #[serde(default, alias = "cpuMilli")]
    usage_milli: Option<i64>,
    #[serde(default)]
    memory_bytes: Option<i64>,
}

impl CaseUsage {
    /// The usage, with its values taken as values of `resource`.
    pub fn usage(self, resource: &str) -> Result<PodUsage, String> {
        let containers = self.containers.into_iter().map(|container| ContainerUsage {
            name: container.name,
            usage_milli: container
                .usage_milli
                .map(|milli| (resource.to_owned(), milli))
                .into_iter()
                .chain(
                    container
                        .memory_bytes
                        .map(|bytes| ("memory".to_owned(), bytes.saturating_mul(1000))),
                )
                .collect(),
        });
        Ok(PodUsage {
            pod: self.pod,
            timestamp: time(self.timestamp)?,
            window_seconds: self.window_seconds,
            containers: containers.collect(),
        })
    }
}

/// A past change of size in a case.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseEvent {
    replica_change: i32,
    timestamp: i64,
}

/// Past changes of size.
pub fn events(cases: Vec<CaseEvent>) -> Result<Vec<ScaleEvent>, String> {
    cases
        .into_iter()
        .map(|event| {
            Ok(ScaleEvent {
                change: event.replica_change,
                at: time(event.timestamp)?,
                outdated: false,
            })
        })
        .collect()
}
