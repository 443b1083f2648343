//! Objects that every cluster has, made when the server starts.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Value, json};

use crate::Error;
use crate::auth::Identity;
use crate::handlers::Context;
use crate::handlers::create::create_value;
use crate::path::ResourceInfo;
use crate::query::Query;
use crate::registry::{self, KindRef};
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
        if let Err(error) = crate::apiservices::sweep(&state).await {
            tracing::debug!(%error, "APIServices of what is not answered any more stay for now");
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
    crate::apiservices::ensure(state).await?;
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
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address.ip().to_string()}], "ports": slice["ports"]}],
    });
    advertise(state, "", "endpoints", endpoints).await?;
    advertise(state, "discovery.k8s.io", "endpointslices", slice).await
}

/// Where the API server is, in one of the two forms that are asked for. Another start may have had another address.
async fn advertise(
    state: &Arc<State>,
    group: &str,
    resource: &str,
    object: Value,
) -> Result<(), Error> {
    let kind = registry::find(group, "v1", resource);
    if let (Some(kind), false) = (kind, state.config.advertise_only_if_absent) {
        let key = kind.key("default", "kubernetes");
        let known = state.store.get(&key).await.ok().and_then(|(kv, _)| kv);
        let stale = known.is_some_and(|kv| {
            let old = crate::object::parse(&kv.value, kv.mod_revision);
            ["endpoints", "ports", "subsets"]
                .iter()
                .any(|field| !covers(&old[*field], &object[*field]))
        });
        if stale {
            let _ = state.store.delete(&key, store::Expect::Any).await;
        }
    }
    ensure(state, group, "v1", resource, "default", object).await
}

/// Whether `old` says all that `new` says; it may say more, such as defaults.
fn covers(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => new
            .iter()
            .all(|(field, new)| covers(old.get(field).unwrap_or(&Value::Null), new)),
        (Value::Array(old), Value::Array(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| covers(old, new))
        }
        _ => old == new,
    }
}

pub(crate) async fn ensure(
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
    kind: impl Into<KindRef>,
    namespace: &str,
    name: &str,
) -> Context {
    let kind = kind.into();
    Context {
        state: state.clone(),
        identity: Identity::new("system:apiserver", &[crate::pki::MASTERS]),
        info: ResourceInfo {
            group: kind.group.into(),
            version: kind.version.into(),
            resource: kind.plural.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..ResourceInfo::default()
        },
        kind,
        options: "CreateOptions",
        query: Query::default(),
        accept: None,
        role: true,
        lasting: None,
        content_type: String::new(),
        applying: false,
        manager: "plimsoll".into(),
        through: None,
        ending: tokio_util::sync::CancellationToken::new(),
        warnings: Default::default(),
    }
}
