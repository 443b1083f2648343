//! How full the volumes are that pods have by claims.

use std::path::{Path, PathBuf};

use engine::{ContainerStatus, State};
use k8s_openapi::api::core::v1::Pod;

/// A claim that a pod has mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// What the pod calls it.
    pub volume: String,
    pub claim: String,
    pub path: PathBuf,
}

/// Space and inodes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub capacity_bytes: u64,
    pub available_bytes: u64,
    pub used_bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

impl Space {
    /// Of the file system that a path is on. A volume that shares it with others shares the figures.
    pub fn of(path: &Path) -> Option<Self> {
        let stat = rustix::fs::statvfs(path).ok()?;
        Some(Self {
            capacity_bytes: stat.f_blocks * stat.f_frsize,
            available_bytes: stat.f_bavail * stat.f_frsize,
            used_bytes: stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize,
            inodes: stat.f_files,
            inodes_free: stat.f_ffree,
        })
    }

    /// Inodes that are in use; some file systems make them as they need them.
    pub fn inodes_used(&self) -> u64 {
        self.inodes.saturating_sub(self.inodes_free)
    }
}

/// The claims of a pod, where one of its `containers` that run has the whole of one mounted.
pub fn mounted(pod: &Pod, containers: &[&ContainerStatus]) -> Vec<Mounted> {
    let spec = pod.spec.iter();
    let volumes = spec.flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| {
            let source = volume.persistent_volume_claim.as_ref()?;
            Some(Mounted {
                volume: volume.name.clone(),
                claim: source.claim_name.clone(),
                path: path_of(pod, &volume.name, containers)?,
            })
        })
        .collect()
}

fn path_of(pod: &Pod, volume: &str, containers: &[&ContainerStatus]) -> Option<PathBuf> {
    let spec = pod.spec.as_ref()?;
    let running = containers.iter().filter(|c| c.state == State::Running);
    running
        .filter_map(|status| {
            let init = spec.init_containers.iter().flatten();
            let mut all = spec.containers.iter().chain(init);
            let container = all.find(|container| container.name == status.spec.name)?;
            let mount = container.volume_mounts.iter().flatten().find(|mount| {
                mount.name == volume && mount.sub_path.is_none() && mount.sub_path_expr.is_none()
            })?;
            let mut mounts = status.spec.mounts.iter();
            let made = mounts.find(|made| made.target == mount.mount_path)?;
            Some(made.source.clone())
        })
        .next()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn claims_are_found_where_containers_have_them() {
        let pod: Pod = serde_json::from_value(serde_json::json!({ "spec": {
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data-db-0" } },
                { "name": "part", "persistentVolumeClaim": { "claimName": "shared" } }, { "name": "e", "emptyDir": {} }],
            "containers": [{ "name": "db", "volumeMounts": [{ "name": "e", "mountPath": "/e" },
                { "name": "data", "mountPath": "/data" }, { "name": "part", "mountPath": "/part", "subPath": "x" }] }] } }))
        .expect("a pod");
        let mount = |source: &str, target: &str| engine::Mount {
            source: source.into(),
            target: target.into(),
            kind: engine::MountKind::Bind,
            read_only: false,
            options: Vec::new(),
        };
        let spec = engine::ContainerSpec {
            name: "db".into(),
            mounts: vec![mount("/srv/e", "/e"), mount("/srv/claim", "/data")],
            ..Default::default()
        };
        let mut status = ContainerStatus {
            id: "c".into(),
            sandbox: "s".into(),
            spec: Arc::new(spec),
            state: State::Running,
            pid: Some(1),
            paused: false,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            started_at: None,
            exit: None,
        };
        let found = mounted(&pod, &[&status]);
        let data = Mounted {
            volume: "data".into(),
            claim: "data-db-0".into(),
            path: "/srv/claim".into(),
        };
        assert_eq!(found, [data]);
        status.state = State::Exited;
        assert_eq!(mounted(&pod, &[&status]), []);
    }

    #[test]
    fn space_of_a_directory() {
        let space = Space::of(Path::new("/")).expect("a file system");
        assert!(space.capacity_bytes >= space.used_bytes);
        assert_eq!(Space::of(Path::new("/nowhere/at/all")), None);
    }
}
