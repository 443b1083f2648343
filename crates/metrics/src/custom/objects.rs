//! Pods and Services as far as they matter here: the rest is not even decoded.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer};

/// What is null counts as absent: one odd object must not end a watch.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A pod.
#[derive(Clone, Debug, Deserialize)]
pub struct Pod {
    pub metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    pub spec: PodSpec,
    #[serde(default, deserialize_with = "or_default")]
    pub status: PodStatus,
}

/// Its containers.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PodSpec {
    #[serde(default, deserialize_with = "or_default")]
    pub containers: Vec<Container>,
}

/// A container's ports.
#[derive(Clone, Debug, Deserialize)]
pub struct Container {
    #[serde(default, deserialize_with = "or_default")]
    pub ports: Vec<ContainerPort>,
}

/// One of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    #[serde(default, deserialize_with = "or_default")]
    pub container_port: i32,
    pub protocol: Option<String>,
}

/// How the pod is.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PodStatus {
    pub phase: Option<String>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub conditions: Vec<Condition>,
}

/// One condition.
#[derive(Clone, Debug, Deserialize)]
pub struct Condition {
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    pub kind: String,
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
}

impl Pod {
    /// The first TCP port of its containers.
    pub fn first_port(&self) -> Option<u16> {
        let ports = self
            .spec
            .containers
            .iter()
            .flat_map(|container| &container.ports);
        let mut tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|p| p == "TCP"));
        u16::try_from(tcp.next()?.container_port).ok()
    }

    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        let ready = |condition: &Condition| condition.kind == "Ready" && condition.status == "True";
        self.status.conditions.iter().any(ready)
    }
}

/// A Service.
#[derive(Clone, Debug, Deserialize)]
pub struct Service {
    pub metadata: ObjectMeta,
    #[serde(default, deserialize_with = "or_default")]
    pub spec: ServiceSpec,
}

/// The pods that it picks.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ServiceSpec {
    #[serde(default, deserialize_with = "or_default")]
    pub selector: BTreeMap<String, String>,
}

macro_rules! resource {
    ($type:ty: $like:ty) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = <$like as Resource>::Scope;

            fn kind(_: &()) -> Cow<'_, str> {
                <$like>::kind(&())
            }

            fn group(_: &()) -> Cow<'_, str> {
                <$like>::group(&())
            }

            fn version(_: &()) -> Cow<'_, str> {
                <$like>::version(&())
            }

            fn plural(_: &()) -> Cow<'_, str> {
                <$like>::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(Pod: api::Pod);
resource!(Service: api::Service);
