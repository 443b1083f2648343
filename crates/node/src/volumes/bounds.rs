//! How large an emptyDir may grow.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::volumes;
use crate::resources;

/// An emptyDir on disk that may only grow so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounded {
    pub volume: String,
    pub path: PathBuf,
    pub bytes_max: u64,
    /// As the user wrote it.
    pub limit: String,
}

/// The pod's bounded emptyDirs. Those in memory are bounded by the kernel.
pub fn bounded(pod: &Pod, directory: &Path) -> Vec<Bounded> {
    let one = |volume: &Volume| {
        let empty = volume.empty_dir.as_ref()?;
        let limit = empty.size_limit.as_ref()?;
        let bytes_max = u64::try_from(resources::value(limit)?)
            .ok()
            .filter(|bytes| *bytes > 0)?;
        (empty.medium.as_deref() != Some("Memory")).then(|| Bounded {
            volume: volume.name.clone(),
            path: directory.join("volumes").join(&volume.name),
            bytes_max,
            limit: limit.0.clone(),
        })
    };
    volumes(pod).filter_map(one).collect()
}

/// The size of a tmpfs: what the volume names, and no more than the pod's containers may use together.
pub fn memory_bytes(pod: &Pod, limit: Option<&Quantity>) -> Option<i64> {
    let own = limit.and_then(resources::value).filter(|bytes| *bytes > 0);
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let limits: Option<Vec<i64>> = containers.map(|c| resources::limit(c, "memory")).collect();
    let of_pod = limits
        .map(|limits| {
            limits
                .iter()
                .fold(0i64, |sum, bytes| sum.saturating_add(*bytes))
        })
        .filter(|bytes| *bytes > 0);
    own.into_iter().chain(of_pod).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "spec": spec })).expect("a pod")
    }

    #[test]
    fn sizes() {
        let quantity = |text: &str| Quantity(text.into());
        let limited = pod(json!({ "containers": [
            { "name": "a", "resources": { "limits": { "memory": "1Mi" } } }, { "name": "b", "resources": { "limits": { "memory": "1Mi" } } }] }));
        let free = pod(
            json!({ "containers": [{ "name": "a" }, { "name": "b", "resources": { "limits": { "memory": "1Mi" } } }] }),
        );
        for (pod, limit, want) in [
            (&limited, None, Some(2 << 20)),
            (&limited, Some("1Mi"), Some(1 << 20)),
            (&limited, Some("1Gi"), Some(2 << 20)),
            (&free, Some("1Gi"), Some(1 << 30)),
            (&free, None, None),
        ] {
            assert_eq!(
                memory_bytes(pod, limit.map(quantity).as_ref()),
                want,
                "{limit:?}"
            );
        }
        let bounds = pod(json!({ "containers": [], "volumes": [
            { "name": "a", "emptyDir": { "sizeLimit": "1Ki" } }, { "name": "b", "emptyDir": { "sizeLimit": "1Ki", "medium": "Memory" } }, { "name": "c", "emptyDir": {} }] }));
        assert_eq!(
            bounded(&bounds, Path::new("/p")),
            [Bounded {
                volume: "a".into(),
                path: "/p/volumes/a".into(),
                bytes_max: 1024,
                limit: "1Ki".into()
            }]
        );
    }
}
