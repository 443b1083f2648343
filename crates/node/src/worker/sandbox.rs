//! A pod's sandbox: made, started again when it was lost, given an address and its published ports.

use std::net::{IpAddr, SocketAddr};

use engine::{PublishedPort, SandboxNetwork, SandboxSpec, SandboxState, SandboxUpdate};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Worker, generation};
use crate::{confinement, container, resolv, resources, runtime_class};

impl Worker {
    pub(super) async fn ensure_sandbox(&mut self) -> Result<(), String> {
        let id = self.sandbox_id();
        let shared = self.shared.clone();
        let (engine, network) = (&shared.engine, &shared.network);
        let present = engine.sandbox(&id).await;
        if present
            .as_ref()
            .is_some_and(|sandbox| sandbox.state == SandboxState::Running)
            && self.sandbox_ready
        {
            return Ok(());
        }
        let spec = self.pod.spec.clone().unwrap_or_default();
        if present.is_none() {
            runtime_class::check(&shared.client, spec.runtime_class_name.as_deref()).await?;
            let sandbox = SandboxSpec {
                id: id.clone(),
                hostname: container::kernel_hostname(&self.pod, &shared.config.cluster_domain)?,
                labels: container::pod_labels(&self.pod),
                network: if self.host_network() {
                    SandboxNetwork::Host
                } else {
                    SandboxNetwork::Own
                },
                resources: resources::pod_resources(&spec),
                hosts: container::hosts(&self.pod, &[], &shared.config.cluster_domain),
                resolv_conf: self.resolv_conf(),
                user_namespace: spec.host_users == Some(false),
                pid: confinement::processes(&spec),
                ipc: confinement::shared_memory(&spec),
                ..SandboxSpec::default()
            };
            engine
                .create_sandbox(sandbox)
                .await
                .map_err(|e| e.to_string())?;
        }
        let started = match present {
            Some(sandbox) if sandbox.state == SandboxState::Running => sandbox,
            _ => {
                if !self.attempts.is_empty() {
                    self.shared.recorder.normal(
                        &self.pod,
                        None,
                        "SandboxChanged",
                        "Pod sandbox changed, it will be killed and re-created.",
                    );
                }
                if !self.ids.is_empty() {
                    let next = self.sandboxes.saturating_add(1);
                    generation::write(&self.directory(), next)
                        .map_err(|e| format!("cannot note that the sandbox is made anew: {e}"))?;
                    self.sandboxes = next;
                }
                engine.start_sandbox(&id).await.map_err(|e| e.to_string())?
            }
        };
        let addresses: Vec<String> = if self.host_network() {
            shared.config.addresses()
        } else {
            let namespace = started
                .netns
                .ok_or("the sandbox has no network namespace")?;
            let attachment = network.attach(&namespace, &id).await;
            let given = attachment.map_err(|e| e.to_string())?.addresses();
            // Nothing of the pod runs yet: its first packet finds its policies in force.
            shared.traffic.protect(&self.pod, &given).await?;
            given.iter().map(ToString::to_string).collect()
        };
        let published = host_ports(&self.pod, addresses.first());
        let update = SandboxUpdate {
            hosts: Some(container::hosts(
                &self.pod,
                &addresses,
                &shared.config.cluster_domain,
            )),
            published: (!published.is_empty()).then(|| published.clone()),
            ..SandboxUpdate::default()
        };
        engine
            .update_sandbox(&id, update)
            .await
            .map_err(|e| e.to_string())?;
        if !published.is_empty() {
            network
                .set_published(&id, translated(&published, &addresses))
                .await
                .map_err(|e| e.to_string())?;
        }
        self.addresses = addresses;
        self.sandbox_ready = true;
        Ok(())
    }

    fn resolv_conf(&self) -> String {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let namespace = self.pod.namespace().unwrap_or_default();
        let machine = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let sources = resolv::Sources {
            machine: &machine,
            // The gateway rather than the service address: the same server, without a translation for each question.
            server: self.shared.network.gateway(),
            domain: &self.shared.config.cluster_domain,
        };
        resolv::text(&spec, &namespace, &sources)
    }
}

fn host_ports(pod: &Pod, address: Option<&String>) -> Vec<PublishedPort> {
    let Some(ip) = address.and_then(|ip| ip.parse::<IpAddr>().ok()) else {
        return Vec::new();
    };
    let spec = pod.spec.clone().unwrap_or_default();
    if spec.host_network == Some(true) {
        return Vec::new();
    }
    let sidecars = spec.init_containers.iter().flatten();
    let ports = spec
        .containers
        .iter()
        .chain(sidecars.filter(|container| container::is_sidecar(container)))
        .flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(PublishedPort {
                host_ip: port.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
                host_port: u16::try_from(port.host_port?)
                    .ok()
                    .filter(|port| *port > 0)?,
                target: SocketAddr::new(ip, u16::try_from(port.container_port).ok()?),
                protocol: match port.protocol.as_deref().unwrap_or("TCP") {
                    "TCP" => engine::Protocol::Tcp,
                    "UDP" => engine::Protocol::Udp,
                    _ => return None,
                },
            })
        })
        .collect()
}

/// The same for packets from other machines, by each address of the pod.
fn translated(ports: &[PublishedPort], addresses: &[String]) -> Vec<network::Published> {
    let addresses: Vec<IpAddr> = addresses.iter().filter_map(|ip| ip.parse().ok()).collect();
    let all = ports
        .iter()
        .flat_map(|port| addresses.iter().map(move |ip| (port, *ip)));
    all.map(|(port, ip)| network::Published {
        host_ip: port.host_ip,
        host_port: port.host_port,
        target: SocketAddr::new(ip, port.target.port()),
        protocol: match port.protocol {
            engine::Protocol::Tcp => network::Protocol::Tcp,
            engine::Protocol::Udp => network::Protocol::Udp,
        },
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecars_publish_ports_as_containers_do() {
        let ports = |port: u16| serde_json::json!([{"containerPort": 80, "hostPort": port}]);
        let pod = serde_json::json!({"spec": {
            "initContainers": [
                {"name": "first", "ports": ports(1)},
                {"name": "sidecar", "restartPolicy": "Always", "ports": ports(2)},
            ],
            "containers": [{"name": "main", "ports": ports(3)}],
        }});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let published = host_ports(&pod, Some(&"10.0.0.9".to_owned()));
        let numbers: Vec<u16> = published.iter().map(|port| port.host_port).collect();
        assert_eq!(numbers, [3, 2]);
    }
}
