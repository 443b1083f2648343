//! Services of type LoadBalancer: their ports are opened on this machine's own address, by which others reach it.
//!
//! Here and not among the controllers, because only the node knows that address and who holds its ports. What was given is
//! in the Service's status, as a cloud's controller would write it; rules follow from that (see [`crate::services`]).

mod held;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServiceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use network::{Network, Protocol};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::events::Recorder;
use crate::services::balanced_ports;
use crate::traffic::Traffic;
use held::Held;

/// Ports come free without telling, and addresses change: so often is a refusal looked at again.
const AGAIN: Duration = Duration::from_secs(5);

/// The machine may have another address: so often is that looked at while a Service has one of them.
const LOOK: Duration = Duration::from_secs(10);

/// The condition that says why a Service has no address; the name is upstream's.
const CONDITION: &str = "LoadBalancerPortsError";

/// Gives Services the machine's address, or tells why not.
pub struct Balancer {
    pub client: Client,
    pub network: Network,
    pub recorder: Recorder,
    pub traffic: Arc<Traffic>,
}

/// What becomes of one Service.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    /// It has these addresses.
    Given(Vec<IpAddr>),
    /// It cannot have one, because.
    Refused {
        reason: &'static str,
        message: String,
    },
    /// It is of another type now, and loses what it had.
    Cleared,
}

impl Balancer {
    /// Follows the Services that are known until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut changes = self.traffic.changes.subscribe();
        changes.mark_changed();
        let mut told: HashMap<String, String> = HashMap::new();
        let mut wait = Duration::from_secs(3600);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
            let services = self.traffic.services.read().clone();
            if !services.iter().any(|s| is_balanced(s) || has_address(s)) {
                told.clear();
                wait = Duration::from_secs(3600);
                continue;
            }
            let addresses = machine_addresses(&self.network);
            let outcomes = judge(&services, &addresses, &held::now(&self.network.published()));
            wait = LOOK;
            let mut seen = HashSet::new();
            for (service, outcome) in &outcomes {
                let uid = service.uid().unwrap_or_default();
                seen.insert(uid.clone());
                if matches!(outcome, Outcome::Refused { .. }) {
                    wait = AGAIN;
                }
                if let Err(error) = self.settle(service, outcome, &uid, &mut told).await {
                    tracing::warn!(%error, service = service.name_any(), "the status of a load balancer could not be written");
                    wait = AGAIN;
                }
            }
            told.retain(|uid, _| seen.contains(uid));
        }
    }

    async fn settle(
        &self,
        service: &Service,
        outcome: &Outcome,
        uid: &str,
        told: &mut HashMap<String, String>,
    ) -> Result<(), kube::Error> {
        if let Outcome::Refused { message, .. } = outcome
            && told.get(uid) != Some(message)
        {
            told.insert(uid.to_owned(), message.clone());
            let text = format!("Error syncing load balancer: {message}");
            let reason = "SyncLoadBalancerFailed";
            self.recorder.service(service, "Warning", reason, text);
        }
        let Some(status) = status(service, outcome, Timestamp::now()) else {
            return Ok(());
        };
        let namespace = service.namespace().unwrap_or_default();
        let api: Api<Service> = Api::namespaced(self.client.clone(), &namespace);
        // Of another object under the same name this would not be true.
        let patch = json!({ "metadata": { "uid": uid }, "status": status });
        let name = service.name_any();
        match api
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409 | 422) => {
                return Ok(());
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        if let Outcome::Given(addresses) = outcome {
            told.remove(uid);
            let text = format!("Ensured load balancer at {}", texts(addresses).join(", "));
            self.recorder
                .service(service, "Normal", "EnsuredLoadBalancer", text);
        }
        Ok(())
    }
}

/// The addresses from which this machine speaks to others, one of each family that services have; no packet is sent to
/// find them.
fn machine_addresses(network: &Network) -> Vec<IpAddr> {
    /// Documentation's addresses (RFC 5737, RFC 3849): the default route leads there if there is one.
    const ELSEWHERE: [(&str, &str); 2] = [
        ("0.0.0.0:0", "203.0.113.1:9"),
        ("[::]:0", "[2001:db8::1]:9"),
    ];
    let config = network.config();
    let ours = [config.pod_cidrs(), config.service_cidrs()].concat();
    let families = config.service_cidrs().len();
    ELSEWHERE[..families]
        .iter()
        .filter_map(|(from, to)| {
            let socket = UdpSocket::bind(from).ok()?;
            socket.connect(to).ok()?;
            let own = socket.local_addr().ok()?.ip();
            let of_others = !ours.iter().any(|range| range.contains(&own));
            (of_others && !own.is_loopback()).then_some(own)
        })
        .collect()
}

fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(IpAddr::to_string).collect()
}

/// The machine's addresses of the families that a Service has, in its order.
fn wanted(service: &Service, addresses: &[IpAddr]) -> Vec<IpAddr> {
    let spec = service.spec.as_ref();
    let listed = spec.and_then(|spec| spec.ip_families.clone());
    let listed = listed.filter(|families| !families.is_empty());
    let families = listed.unwrap_or_else(|| vec!["IPv4".into()]);
    let of = |family: &String| addresses.iter().find(|a| a.is_ipv6() == (family == "IPv6"));
    families.iter().filter_map(of).copied().collect()
}

fn is_balanced(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        // A class names somebody else's implementation.
        spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none()
    })
}

fn given(service: &Service) -> Vec<&str> {
    let status = service.status.as_ref();
    let ingress = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let ingress = ingress.into_iter().flatten();
    ingress.filter_map(|i| i.ip.as_deref()).collect()
}

fn has_address(service: &Service) -> bool {
    !given(service).is_empty()
}

/// Decides for every Service that is, or was, of the type. Pure. Who has the address keeps it; of the others the oldest
/// comes first.
fn judge<'a>(
    services: &'a [Service],
    addresses: &[IpAddr],
    held: &[Held],
) -> Vec<(&'a Service, Outcome)> {
    let keeps = |service: &Service| {
        let wanted = wanted(service, addresses);
        !wanted.is_empty() && given(service) == texts(&wanted)
    };
    let mut sorted: Vec<&Service> = services.iter().collect();
    sorted.sort_by_key(|service| {
        (
            !keeps(service),
            service.creation_timestamp().map(|time| time.0),
            service.namespace(),
            service.name_any(),
        )
    });
    // what was given stays with whom it was given to; ports that came later have to be free
    let is_granted = |service: &Service, port: (Protocol, u16)| {
        keeps(service) && balanced_ports(service).is_none_or(|ports| ports.contains(&port))
    };
    let by = |service: &Service| {
        let namespace = service.namespace().unwrap_or_default();
        format!("the service {namespace}/{}", service.name_any())
    };
    let mut taken: HashMap<(IpAddr, Protocol, u16), String> = HashMap::new();
    for service in sorted.iter().filter(|service| is_balanced(service)) {
        let own = ports(service);
        for (protocol, port) in own.into_iter().filter(|port| is_granted(service, *port)) {
            for address in wanted(service, addresses) {
                let entry = taken.entry((address, protocol, port));
                entry.or_insert_with(|| by(service));
            }
        }
    }
    let mut outcomes = Vec::new();
    for service in sorted {
        if !is_balanced(service) {
            let other_type = service
                .spec
                .as_ref()
                .is_some_and(|spec| spec.type_.as_deref() != Some("LoadBalancer"));
            if other_type && has_address(service) {
                outcomes.push((service, Outcome::Cleared));
            }
            continue;
        }
        let wanted = wanted(service, addresses);
        if wanted.is_empty() {
            let message = "this machine has no address of the service's families by which others reach it: it has no default route".to_owned();
            let reason = "NoAddress";
            outcomes.push((service, Outcome::Refused { reason, message }));
            continue;
        }
        let ports: Vec<(IpAddr, Protocol, u16)> = wanted
            .iter()
            .flat_map(|address| {
                let ports = ports(service).into_iter();
                ports.map(|(protocol, port)| (*address, protocol, port))
            })
            .collect();
        let own = by(service);
        let conflict = ports.iter().find_map(|(address, protocol, port)| {
            let other = taken.get(&(*address, *protocol, *port)).cloned();
            let other = other.filter(|other| *other != own).or_else(|| {
                let held = held
                    .iter()
                    .find(|held| held.is_on(*protocol, *port, *address));
                let granted = is_granted(service, (*protocol, *port));
                held.filter(|_| !granted).map(|held| held.by.clone())
            });
            Some(format!(
                "port {port}/{} of {address} is held by {}",
                protocol.as_str().to_uppercase(),
                other?
            ))
        });
        match conflict {
            Some(message) => {
                let reason = "PortInUse";
                outcomes.push((service, Outcome::Refused { reason, message }));
            }
            None => {
                taken.extend(ports.into_iter().map(|port| (port, own.clone())));
                outcomes.push((service, Outcome::Given(wanted)));
            }
        }
    }
    outcomes
}

fn ports(service: &Service) -> Vec<(Protocol, u16)> {
    let ports = service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let protocol = match port.protocol.as_deref().unwrap_or("TCP") {
                "TCP" => Protocol::Tcp,
                "UDP" => Protocol::Udp,
                _ => return None,
            };
            Some((protocol, u16::try_from(port.port).ok()?))
        })
        .collect()
}

/// The fields of the status to write; `None` when they are so already. Conditions of others stay.
fn status(service: &Service, outcome: &Outcome, now: Timestamp) -> Option<serde_json::Value> {
    let before: ServiceStatus = service.status.clone().unwrap_or_default();
    let mut conditions = before.conditions.clone().unwrap_or_default();
    let known = conditions.iter().position(|one| one.type_ == CONDITION);
    let known = known.map(|at| conditions.remove(at));
    if let Outcome::Refused { reason, message } = outcome {
        let since = known
            .as_ref()
            .filter(|known| known.status == "True")
            .map(|known| known.last_transition_time.clone());
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        conditions.push(Condition {
            type_: CONDITION.into(),
            status: "True".into(),
            reason: (*reason).into(),
            message: message.clone(),
            observed_generation: None,
            last_transition_time: since.unwrap_or(Time(now)),
        });
    }
    let wanted = match outcome {
        Outcome::Given(addresses) => texts(addresses),
        Outcome::Refused { .. } | Outcome::Cleared => Vec::new(),
    };
    let same_conditions = before.conditions.unwrap_or_default() == conditions;
    let opened = ports(service);
    let same_ports =
        wanted.is_empty() || balanced_ports(service) == Some(opened.iter().copied().collect());
    if given(service) == wanted && same_conditions && same_ports {
        return None;
    }
    let opened: Vec<_> = opened
        .iter()
        .map(|(protocol, port)| {
            json!({ "port": port, "protocol": protocol.as_str().to_uppercase() })
        })
        .collect();
    let ingress: Vec<_> = wanted
        .iter()
        .map(|ip| json!({ "ip": ip, "ipMode": "VIP", "ports": opened }))
        .collect();
    let ingress = if ingress.is_empty() {
        serde_json::Value::Null
    } else {
        ingress.into()
    };
    let conditions = if conditions.is_empty() {
        serde_json::Value::Null
    } else {
        json!(conditions)
    };
    Some(json!({ "loadBalancer": { "ingress": ingress }, "conditions": conditions }))
}

#[cfg(test)]
mod tests;
