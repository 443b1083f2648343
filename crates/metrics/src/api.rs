//! Answers `metrics.k8s.io/v1beta1` requests.
//!
//! Source followed: metrics-server's API (`pkg/api`), types of `k8s.io/metrics/pkg/apis/metrics/v1beta1`.

use std::time::Duration;

use autoscale::quantity::Quantity;
use bytes::Bytes;
use http::{Request, Response, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::history::Usage;
use crate::labels::{Selection, unescape};
use crate::refusal::{Refusal, reading, time};
use crate::resources::{GROUP, VERSION, resources};
use crate::store::{NodeUsage, PodUsage, Store};

/// Answers one request from what `store` holds; `oldest` is the oldest measurement still told.
pub fn answer(store: &Store, oldest: Timestamp, request: &Request<Bytes>) -> Response<Bytes> {
    reading(request.method(), GROUP, || route(store, oldest, request))
}

fn route(store: &Store, oldest: Timestamp, request: &Request<Bytes>) -> Result<Value, Refusal> {
    let path = request.uri().path();
    let prefix = format!("/apis/{GROUP}/{VERSION}");
    let rest = path
        .strip_prefix(&prefix)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let rest = rest.ok_or_else(Refusal::unknown_path)?;
    let parts = rest
        .split('/')
        .filter(|part| !part.is_empty())
        .map(unescape)
        .collect::<Result<Vec<String>, String>>()
        .map_err(|message| Refusal::bad_request(&message))?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let selection = || {
        Selection::parse(request.uri().query().unwrap_or_default())
            .map_err(|message| Refusal::bad_request(&message))
    };
    let table = wants_table(request);
    match parts[..] {
        [] => Ok(discovery()),
        ["nodes"] => {
            let selection = selection()?;
            let mut nodes = store.node_usage(oldest);
            nodes.retain(|node| selection.matches("", &node.name, &node.labels));
            Ok(if table {
                node_table(&nodes)
            } else {
                list("NodeMetricsList", nodes.iter().map(node).collect())
            })
        }
        ["nodes", name] => {
            let nodes = store.node_usage(oldest);
            let found = nodes
                .into_iter()
                .find(|node| node.name == name)
                .ok_or_else(|| Refusal::not_found(GROUP, "nodes", name))?;
            Ok(if table {
                node_table(&[found])
            } else {
                node(&found)
            })
        }
        ["pods"] => pods(store, oldest, None, &selection()?, table),
        ["namespaces", namespace, "pods"] => {
            pods(store, oldest, Some(namespace), &selection()?, table)
        }
        ["namespaces", namespace, "pods", name] => {
            let found = store.pod_usage(oldest, Some(namespace), |_, pod, _| pod == name);
            let found = found
                .first()
                .ok_or_else(|| Refusal::not_found(GROUP, "pods", &format!("{namespace}/{name}")))?;
            Ok(if table {
                pod_table(std::slice::from_ref(found))
            } else {
                pod(found)
            })
        }
        _ => Err(Refusal::unknown_path()),
    }
}

fn pods(
    store: &Store,
    oldest: Timestamp,
    namespace: Option<&str>,
    selection: &Selection,
    table: bool,
) -> Result<Value, Refusal> {
    let pods = store.pod_usage(oldest, namespace, |namespace, name, labels| {
        selection.matches(namespace, name, labels)
    });
    Ok(if table {
        pod_table(&pods)
    } else {
        list("PodMetricsList", pods.iter().map(pod).collect())
    })
}

/// Whether the representation that the client prefers (they are listed in that order) is a table.
fn wants_table(request: &Request<Bytes>) -> bool {
    let accept = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let first = accept.split(',').next().unwrap_or_default();
    let has = |wanted: &str| first.split(';').any(|parameter| parameter.trim() == wanted);
    has("as=Table") && has("v=v1") && has("g=meta.k8s.io")
}

fn list(kind: &str, items: Vec<Value>) -> Value {
    json!({"kind": kind, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {}, "items": items})
}

fn pod(pod: &PodUsage) -> Value {
    let containers: Vec<Value> = pod
        .containers
        .iter()
        .map(|(name, usage)| json!({"name": name, "usage": quantities(usage)}))
        .collect();
    json!({
        "kind": "PodMetrics",
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "creationTimestamp": time(pod.at),
            "labels": pod.labels,
        },
        "timestamp": time(pod.at),
        "window": duration(pod.window),
        "containers": containers,
    })
}

fn node(node: &NodeUsage) -> Value {
    json!({
        "kind": "NodeMetrics",
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": {"name": node.name, "creationTimestamp": time(node.usage.at), "labels": node.labels},
        "timestamp": time(node.usage.at),
        "window": duration(node.usage.window),
        "usage": quantities(&node.usage),
    })
}

fn quantities(usage: &Usage) -> Value {
    json!({
        "cpu": Quantity::from_nanos(usage.cpu_nanocores).decimal(),
        "memory": Quantity::from_units(usage.memory_bytes).binary(),
    })
}

fn pod_table(pods: &[PodUsage]) -> Value {
    let rows = pods.iter().map(|usage| {
        let cpu = usage
            .containers
            .values()
            .fold(0i64, |sum, usage| sum.saturating_add(usage.cpu_nanocores));
        let memory = usage
            .containers
            .values()
            .fold(0i64, |sum, usage| sum.saturating_add(usage.memory_bytes));
        row(
            &usage.name,
            Some(&usage.namespace),
            cpu,
            memory,
            usage.window,
            usage.at,
        )
    });
    table(rows.collect())
}

fn node_table(nodes: &[NodeUsage]) -> Value {
    let rows = nodes.iter().map(|node| {
        let usage = &node.usage;
        row(
            &node.name,
            None,
            usage.cpu_nanocores,
            usage.memory_bytes,
            usage.window,
            usage.at,
        )
    });
    table(rows.collect())
}

fn row(
    name: &str,
    namespace: Option<&str>,
    cpu: i64,
    memory: i64,
    window: Duration,
    at: Timestamp,
) -> Value {
    json!({
        "cells": [
            name,
            Quantity::from_nanos(cpu).decimal(),
            Quantity::from_units(memory).binary(),
            duration(window),
        ],
        "object": {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": time(at)},
        },
    })
}

fn table(rows: Vec<Value>) -> Value {
    let column = |name: &str, format: &str, description: &str| json!({"name": name, "type": "string", "format": format, "description": description, "priority": 0});
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": [
            column("Name", "name", "Name of the resource"),
            column("cpu", "quantity", "CPU used, averaged over the window"),
            column("memory", "quantity", "Working set at the end of the window"),
            column("Window", "duration", "Length of the window"),
        ],
        "rows": rows,
    })
}

fn discovery() -> Value {
    let resources: Vec<Value> = resources()
        .iter()
        .map(|resource| {
            json!({
                "name": resource.name,
                "singularName": resource.singular,
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": resource.verbs,
            })
        })
        .collect();
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": resources,
    })
}

/// A duration as Go reads it, to the millisecond.
fn duration(window: Duration) -> String {
    let text = format!("{:.3}", window.as_secs_f64());
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}
