//! Objects that every cluster has, made when the server starts.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Error;
use crate::auth::Identity;
use crate::handlers::Context;
use crate::handlers::write::create_value;
use crate::path::ResourceInfo;
use crate::query::Query;
use crate::registry::{self, Kind};
use crate::server::State;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// How often it is made sure that they are still there (upstream does so for the service `kubernetes`).
const INTERVAL: Duration = Duration::from_secs(10);

/// Makes again what somebody deleted, until the server goes.
pub(crate) async fn keep(state: Weak<State>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(state) = state.upgrade().filter(|s| !s.shutdown.is_cancelled()) else {
            return;
        };
        if let Err(error) = run(&state).await {
            tracing::warn!(%error, "an object that every cluster has is missing");
        }
    }
}

/// Makes what is missing; what is there stays as it is, except for the server's own address.
pub(crate) async fn run(state: &Arc<State>) -> Result<(), Error> {
    for name in NAMESPACES {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(state, "", "v1", "namespaces", "", namespace).await?;
    }
    for class in crate::handlers::priority::system_classes() {
        ensure(
            state,
            "scheduling.k8s.io",
            "v1",
            "priorityclasses",
            "",
            class,
        )
        .await?;
    }
    let port = state.config.advertise_address.map_or(443, |a| a.port());
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP", "clusterIP": state.addresses.first().to_string(), "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    });
    ensure(state, "", "v1", "services", "default", service).await?;
    let Some(address) = state.config.advertise_address else {
        return Ok(());
    };
    let family = match address.ip() {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    // Another start may have had another address.
    let key = "/registry/endpointslices/default/kubernetes";
    let stale = state
        .store
        .get(key)
        .await
        .ok()
        .and_then(|(kv, _)| kv)
        .is_some_and(|kv| {
            let old = crate::object::parse(&kv.value, kv.mod_revision);
            old["endpoints"][0]["addresses"] != slice["endpoints"][0]["addresses"]
                || old["ports"] != slice["ports"]
        });
    if stale {
        let _ = state.store.delete(key, store::Expect::Any).await;
    }
    ensure(
        state,
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        "default",
        slice,
    )
    .await
}

async fn ensure(
    state: &Arc<State>,
    group: &str,
    version: &str,
    resource: &str,
    namespace: &str,
    object: Value,
) -> Result<(), Error> {
    let name = object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let what = format!("{resource} {name:?}");
    let fail = |reason: String| Error::Bootstrap {
        what: what.clone(),
        reason,
    };
    let kind = registry::find(group, version, resource)
        .ok_or_else(|| fail("there is no such kind".into()))?;
    let (found, _) = state
        .store
        .get(&kind.key(namespace, &name))
        .await
        .map_err(|e| fail(e.to_string()))?;
    if found.is_some() {
        return Ok(());
    }
    let context = context(state, kind, namespace, "");
    match create_value(&context, object, false).await {
        Ok(_) => Ok(()),
        Err(error) if error.code == 409 => Ok(()),
        Err(error) => Err(fail(error.message)),
    }
}

/// As if the server itself had asked for this kind: for one object, or (without a name) to make one.
pub(crate) fn context(
    state: &Arc<State>,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
) -> Context {
    Context {
        state: state.clone(),
        identity: Identity::new("system:apiserver", &[crate::pki::MASTERS]),
        kind,
        info: ResourceInfo {
            group: kind.group.into(),
            version: kind.version.into(),
            resource: kind.plural.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..ResourceInfo::default()
        },
        query: Query::default(),
        accept: None,
        content_type: String::new(),
        applying: false,
        manager: "plimsoll".into(),
        ending: tokio_util::sync::CancellationToken::new(),
    }
}
