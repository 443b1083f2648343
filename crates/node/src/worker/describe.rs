//! What one attempt is started with: environment, command, mounts, and the file for its last words.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use engine::{Mount, MountKind};
use image::Image;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Secret};
use kube::{Api, ResourceExt};

use super::Worker;
use crate::container;
use crate::downward::Facts;
use crate::environment::{self, Sources};
use crate::volumes;

const MESSAGE_PATH: &str = "/dev/termination-log";

/// Environment, command, mounts and the file for its last words.
type Described = (Vec<(String, String)>, Vec<String>, Vec<Mount>, PathBuf);

impl Worker {
    /// What `container` is started with; an error is the waiting reason and its message.
    pub(super) async fn describe(
        &self,
        container: &Container,
        image: &Image,
        restarts: i32,
    ) -> Result<Described, (&'static str, String)> {
        let config_error = |message: String| ("CreateContainerConfigError", message);
        let sources = self.sources(container).await.map_err(config_error)?;
        let environment = environment::environment(&self.pod, container, &sources)
            .map_err(|e| config_error(e.to_string()))?;
        let entrypoint = image.config.entrypoint.clone().unwrap_or_default();
        let cmd = image.config.cmd.clone().unwrap_or_default();
        let argv = environment::command(container, &environment, &entrypoint, &cmd);
        if argv.is_empty() {
            let message = "no command specified: neither the container nor its image names one";
            return Err(("CreateContainerError", message.to_owned()));
        }
        if let Some(why) = container::breaks_non_root(&self.pod, container, &image.config.user) {
            return Err(config_error(why));
        }
        let volumes = self.volumes.clone().unwrap_or_default();
        let mut mounts = volumes::mounts(container, &volumes, &environment, &self.directory())
            .map_err(config_error)?;
        let directory = self.directory().join("containers").join(&container.name);
        let message_file = directory.join(restarts.to_string());
        make_message_file(&directory, &message_file)
            .map_err(|e| config_error(format!("{}: {e}", message_file.display())))?;
        let target = container
            .termination_message_path
            .clone()
            .filter(|path| !path.is_empty());
        mounts.push(Mount {
            source: message_file.clone(),
            target: target.unwrap_or_else(|| MESSAGE_PATH.to_owned()),
            kind: MountKind::Bind,
            ..Mount::default()
        });
        Ok((environment, argv, mounts, message_file))
    }

    /// What fields of the pod and of this node may be asked for.
    pub(super) fn facts(&self) -> Facts {
        let allocatable = self.shared.division.allocatable;
        Facts {
            pod_ips: self.addresses.clone(),
            host_ips: self.shared.config.addresses(),
            node_name: self.shared.config.name.clone(),
            node_cpu_milli: allocatable.cpu_milli,
            node_memory_bytes: allocatable.memory_bytes,
            node_disk_bytes: allocatable.disk_bytes,
        }
    }

    async fn sources(&self, container: &Container) -> Result<Sources, String> {
        let namespace = self.pod.namespace().unwrap_or_default();
        // without them, whatever looks for the API server by its variables fails for as long as it lives
        self.shared.traffic.read_once().await?;
        let (map_names, secret_names) = environment::references(container);
        let mut sources = Sources {
            services: self.shared.traffic.services.read().clone(),
            facts: self.facts(),
            ..Sources::default()
        };
        let maps: Api<ConfigMap> = Api::namespaced(self.shared.client.clone(), &namespace);
        for name in map_names {
            if let Some(map) = maps.get_opt(&name).await.map_err(|e| e.to_string())? {
                sources.config_maps.insert(name, map);
            }
        }
        let secrets: Api<Secret> = Api::namespaced(self.shared.client.clone(), &namespace);
        for name in secret_names {
            if let Some(secret) = secrets.get_opt(&name).await.map_err(|e| e.to_string())? {
                sources.secrets.insert(name, secret);
            }
        }
        Ok(sources)
    }
}

/// Empty, and writable by whatever user the container runs as.
fn make_message_file(directory: &Path, file: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(file, "")?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666))
}
