//! A pod's claim: the volume it is bound to, as a directory of this machine.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::{VolumeError, host_path};

/// Where a claim's volume lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub path: PathBuf,
    /// Whether fsGroup may change owners in it: not in a hostPath, which is the host's.
    pub owned: bool,
}

/// Whether the claim is ready to be used by a pod, and the name of its volume if so.
pub fn bound(volume: &str, claim: &PersistentVolumeClaim) -> Result<String, VolumeError> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let wrong = |why: &str| VolumeError::Claim {
        volume: volume.to_owned(),
        why: format!("error processing PVC {namespace}/{name}: {why}"),
    };
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(wrong("PVC is being deleted"));
    }
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let spec = claim.spec.as_ref();
    if spec.and_then(|spec| spec.volume_mode.as_deref()) == Some("Block") {
        return Err(wrong("volume mode Block is not supported; Filesystem is"));
    }
    match spec.and_then(|spec| spec.volume_name.clone()) {
        Some(name) if phase == Some("Bound") && !name.is_empty() => Ok(name),
        _ => Err(wrong("PVC is not bound")),
    }
}

/// The volume's place, if it belongs to the claim.
pub fn place(
    volume: &str,
    claim: &PersistentVolumeClaim,
    of: &PersistentVolume,
) -> Result<Found, VolumeError> {
    let wrong = |why: String| VolumeError::Claim {
        volume: volume.to_owned(),
        why,
    };
    let name = of.metadata.name.as_deref().unwrap_or_default();
    let spec = of
        .spec
        .as_ref()
        .ok_or_else(|| wrong(format!("PersistentVolume {name} has no spec")))?;
    let owner = spec
        .claim_ref
        .as_ref()
        .and_then(|claim| claim.uid.as_deref());
    if owner.is_none() || owner != claim.metadata.uid.as_deref() {
        return Err(wrong(format!(
            "PersistentVolume {name} is bound to another claim"
        )));
    }
    if let Some(local) = &spec.local {
        if !Path::new(&local.path).exists() {
            return Err(wrong(format!("path {:?} does not exist", local.path)));
        }
        return Ok(Found {
            path: PathBuf::from(&local.path),
            owned: true,
        });
    }
    if let Some(host) = &spec.host_path {
        return Ok(Found {
            path: host_path::find(volume, &host.path, host.type_.as_deref().unwrap_or(""))?,
            owned: false,
        });
    }
    Err(VolumeError::Unsupported {
        volume: volume.to_owned(),
        what: "this kind of PersistentVolume",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_bound_claim_has_a_place() {
        let claim = |change: serde_json::Value| {
            let mut claim = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"},
                "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}});
            json_patch(&mut claim, &change);
            serde_json::from_value::<PersistentVolumeClaim>(claim).expect("a claim")
        };
        assert_eq!(bound("x", &claim(json!({}))).expect("bound"), "v");
        for (change, why) in [
            (json!({"status": {"phase": "Pending"}}), "PVC is not bound"),
            (json!({"status": {"phase": "Lost"}}), "PVC is not bound"),
            (
                json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}}),
                "PVC is being deleted",
            ),
        ] {
            let error = bound("x", &claim(change)).expect_err(why).to_string();
            assert!(
                error.ends_with(&format!("error processing PVC n/c: {why}")),
                "{error}"
            );
        }
        let volume = |spec: serde_json::Value| {
            serde_json::from_value::<PersistentVolume>(
                json!({"metadata": {"name": "v"}, "spec": spec}),
            )
            .expect("a volume")
        };
        let good = volume(
            json!({"claimRef": {"uid": "u"}, "local": {"path": "/"}, "accessModes": ["ReadOnlyMany"]}),
        );
        let found = place("x", &claim(json!({})), &good).expect("a place");
        assert_eq!((found.path.as_path(), found.owned), (Path::new("/"), true));
        for (spec, why) in [
            (
                json!({"claimRef": {"uid": "other"}, "local": {"path": "/"}}),
                "bound to another claim",
            ),
            (json!({"local": {"path": "/"}}), "bound to another claim"),
            (
                json!({"claimRef": {"uid": "u"}, "local": {"path": "/nowhere/at/all"}}),
                "does not exist",
            ),
            (
                json!({"claimRef": {"uid": "u"}, "nfs": {"path": "/", "server": "s"}}),
                "not supported",
            ),
        ] {
            let error = place("x", &claim(json!({})), &volume(spec))
                .expect_err(why)
                .to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    fn json_patch(into: &mut serde_json::Value, change: &serde_json::Value) {
        for (key, value) in change.as_object().into_iter().flatten() {
            match value.is_object() && into[key].is_object() {
                true => json_patch(&mut into[key], value),
                false => into[key] = value.clone(),
            }
        }
    }
}
