//! [`Network`]: the handle through which everything is done.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::foreign::Owner;
use crate::heal::Healer;
use crate::leases::{self, Leases};
use crate::link::Links;
use crate::rules::nft::OwnRuns;
use crate::rules::plan::Plans;
use crate::rules::{self, Replaced, Rules};
use crate::{
    Attachment, Config, Error, PodPolicy, Protocol, Published, Service, attach, bridge, conntrack,
    dns, families, files, loopback, names, netfilter, netns, system,
};

/// Longest id of an attachment.
const ID_BYTES_MAX: usize = 256;

/// The network of one instance. Clones share it; when the last one goes, the DNS server stops and all else stays.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Network").field(&self.inner.config).finish()
    }
}

/// What the network has to know of the machine. The defaults are right everywhere but in tests, except for
/// `gateway_ports`.
#[derive(Clone, Debug)]
pub struct Options {
    /// The machine's resolvers, to which names outside the cluster are forwarded.
    pub resolv_conf: PathBuf,
    /// Directory for what instances have to agree on (who turned forwarding on); gone after a reboot.
    pub shared_dir: PathBuf,
    /// What systemd-resolved asks; asked in its place when it does not answer at its 127.0.0.53.
    pub resolved_conf: PathBuf,
    /// TCP ports of the bridge's address, beside DNS, that containers shall reach even where this machine's firewall
    /// denies incoming connections: the Kubernetes API, for instance.
    pub gateway_ports: Vec<u16>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            shared_dir: "/run/plimsoll-network".into(),
            resolved_conf: "/run/systemd/resolve/resolv.conf".into(),
            gateway_ports: Vec::new(),
        }
    }
}

pub(crate) struct Inner {
    config: Config,
    options: Options,
    mtu: u32,
    links: Links,
    leases: Mutex<Leases>,
    /// Serialises writes of the lease file and holds how many changes it contains.
    saved: tokio::sync::Mutex<()>,
    pub rules: tokio::sync::Mutex<Rules>,
    /// What rules and zone agree with.
    traffic: tokio::sync::Mutex<Traffic>,
    zone: dns::SharedZone,
    /// Dropped, and so stopped, with the last handle or at purge.
    server: Mutex<Option<dns::Server>>,
    healer: Mutex<Option<Healer>>,
    pub purged: AtomicBool,
    /// Addresses whose connections are to be forgotten.
    freed: conntrack::Freed,
}

impl Inner {
    /// Whether the instance has IPv6.
    pub fn ipv6(&self) -> bool {
        self.config.ipv6.is_some()
    }
}

/// What was applied last; `None` before the first time and after a failure.
#[derive(Default)]
struct Traffic {
    services: Option<Vec<Service>>,
    policies: Option<Vec<PodPolicy>>,
}

impl Network {
    /// Makes bridge, forwarding, rules and DNS server, or finds those that an earlier process of the same instance left:
    /// working attachments stay, interfaces of this instance that no lease explains are removed.
    pub async fn open(config: Config) -> Result<Self, Error> {
        Self::open_with(config, Options::default()).await
    }

    /// [`Network::open`], with the machine's own places named.
    pub async fn open_with(config: Config, options: Options) -> Result<Self, Error> {
        config.check()?;
        files::make_directory(&config.state_dir)?;
        let mut leases: Leases = files::read_json(&lease_file(&config))?.unwrap_or_default();
        leases.keep_within(config.pod_cidr, config.ipv6.map(|ranges| ranges.pod_cidr));
        let gateway = leases::gateway(config.pod_cidr);

        let links = Links::open()?;
        let mtu = links.uplink_mtu().await?;
        bridge::check_ranges(&links, &config).await?;
        bridge::open(&links, &config, mtu).await?;
        loopback::open(&config.bridge);
        bridge::remove_orphans(&links, &config, &leases).await?;
        system::require_forwarding(&options.shared_dir, &config.bridge, config.ipv6.is_some())?;

        let zone = dns::SharedZone::new(dns::Zone::unknown(
            &config.cluster_domain,
            config.dns_ip,
            config.pod_cidrs(),
            config.service_cidrs(),
        ));
        let server = dns::Server::start(
            gateway,
            zone.clone(),
            dns::Forwarder::new(
                options.resolv_conf.clone(),
                options.resolved_conf.clone(),
                vec![gateway, config.dns_ip],
            ),
        )
        .await?;

        let mut plans = Plans::default();
        plans.set_published(leases.iter().flat_map(|(_, lease)| &lease.published));
        let layouts = families::layouts(&config, server.port());
        let api = options.gateway_ports.iter();
        let owner = Owner {
            instance: config.instance.clone(),
            bridge: config.bridge.clone(),
            gateway,
            ipv6: config.ipv6.is_some(),
            ports: [Protocol::Tcp, Protocol::Udp]
                .map(|protocol| (protocol, server.port()))
                .into_iter()
                .chain(api.map(|port| (Protocol::Tcp, *port)))
                .collect(),
        };
        let (runs, table) = (OwnRuns::default(), names::table(&config.instance));
        let ports = (
            bridge::mac(&config),
            names::interface_prefix(&config.instance),
            leases
                .iter()
                .map(|(_, lease)| place(&lease.attachment))
                .collect(),
        );
        // Before the first rule, so that nothing that happens to them is missed.
        let ear = netfilter::listen().map_err(|error| {
            Error::link("cannot listen for changes of the packet filter", error)
        })?;
        let rules = Rules::open(layouts, owner, ports, plans, runs.clone()).await?;

        let inner = Arc::new(Inner {
            config,
            options,
            mtu,
            links,
            leases: Mutex::new(leases),
            saved: tokio::sync::Mutex::new(()),
            rules: tokio::sync::Mutex::new(rules),
            traffic: tokio::sync::Mutex::default(),
            zone,
            server: Mutex::new(Some(server)),
            healer: Mutex::new(None),
            purged: AtomicBool::new(false),
            freed: conntrack::Freed::default(),
        });
        let healer = Healer::start(Arc::downgrade(&inner), ear, table, runs);
        *inner.healer.lock() = Some(healer);
        Ok(Self { inner })
    }

    /// Gives the namespace at `netns` an `eth0` with an address of the pod range, a default route, and `lo`.
    /// The same `id` (at most 256 bytes) gets the same address until it is detached; a namespace that has lost its
    /// interface, or another namespace under the same id, gets it again. One call at a time for an id.
    pub async fn attach(&self, netns: &Path, id: &str) -> Result<Attachment, Error> {
        self.usable()?;
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(Error::Config(format!(
                "an attachment's id has 1 to {ID_BYTES_MAX} bytes, not {}",
                id.len()
            )));
        }
        let namespace = netns::open(netns)?;
        let config = &self.inner.config;
        let ranges = (config.pod_cidr, config.ipv6.map(|ranges| ranges.pod_cidr));
        let (attachment, new) = self
            .inner
            .leases
            .lock()
            .lease(&config.instance, ranges, id)?;
        if new {
            self.save().await?;
        }
        // before the first packet can come from there
        let (port, addresses) = place(&attachment);
        self.inner.rules.lock().await.place(&port, addresses).await;
        let machine = (&self.inner.links, config, self.inner.mtu);
        let made = attach::connect(machine, &namespace, netns, &attachment).await;
        if made.is_err() && new {
            // The caller learns of the first failure; a lease left over would only be found at the next start.
            let _ = self.detach(id).await;
        }
        made.map(|()| attachment)
    }

    /// Removes the interface and published ports of `id` and frees its address. Nothing to do is no error. What has begun is brought
    /// to its end, also when nobody waits for it any more.
    pub async fn detach(&self, id: &str) -> Result<(), Error> {
        let (network, id) = (self.clone(), id.to_owned());
        let detaching = tokio::spawn(async move { network.detach_whole(&id).await });
        let cut = |error| Error::Config(format!("detaching was cut short: {error}"));
        detaching.await.map_err(cut)?
    }

    async fn detach_whole(&self, id: &str) -> Result<(), Error> {
        self.usable()?;
        let Some(lease) = self.inner.leases.lock().get(id).cloned() else {
            return Ok(());
        };
        if !lease.published.is_empty() {
            self.set_published(id, Vec::new()).await?;
        }
        self.inner
            .links
            .remove(&lease.attachment.host_interface)
            .await?;
        let port = &lease.attachment.host_interface;
        self.inner.rules.lock().await.place(port, Vec::new()).await;
        self.inner.leases.lock().release(id);
        let inner = Arc::downgrade(&self.inner);
        let in_use = move || {
            let inner = inner.upgrade();
            let leases = inner.iter().map(|inner| inner.leases.lock().clone());
            let all = leases.flat_map(|leases| {
                let each = leases
                    .iter()
                    .flat_map(|(_, lease)| lease.attachment.addresses());
                each.collect::<Vec<_>>()
            });
            all.collect()
        };
        let addresses = lease.attachment.addresses().into_iter();
        self.inner.freed.add(addresses, in_use);
        self.save().await
    }

    /// Whether the machine's port leads to a Service already, on this address or (none) on any: by a node port, or an address of the
    /// machine that a load balancer has.
    pub async fn is_of_a_service(&self, at: Option<IpAddr>, protocol: Protocol, port: u16) -> bool {
        // what cannot be looked up stands in nobody's way
        let local = self.inner.links.addresses().await.unwrap_or_default();
        let rules = self.inner.rules.lock().await;
        rules.wanted().iter().any(|plan| {
            let mut addresses = plan.addresses.keys();
            plan.node_ports.contains_key(&(protocol, port))
                || addresses.any(|(address, of, number)| {
                    (*of, *number) == (protocol, port)
                        && local.contains(address)
                        && at.is_none_or(|at| at.is_unspecified() || at == *address)
                })
        })
    }

    /// What `id` was given, if it is attached.
    pub fn attachment(&self, id: &str) -> Option<Attachment> {
        let leases = self.inner.leases.lock();
        leases.get(id).map(|lease| lease.attachment.clone())
    }

    /// The ids that are attached. The owner of the network detaches those that it does not know.
    pub fn attached(&self) -> Vec<String> {
        let leases = self.inner.leases.lock();
        leases.iter().map(|(id, _)| id.clone()).collect()
    }

    /// Takes the whole desired set of services: rules and DNS answers change to it, the rules in one transaction. The
    /// same set again costs nothing.
    /// Established TCP connections to an endpoint that has gone stay; UDP flows to it are forgotten.
    pub async fn set_services(&self, services: Vec<Service>) -> Result<(), Error> {
        self.set_traffic(Some(services), None).await
    }

    /// Takes the whole desired set of pods that policies restrict, in one transaction: at no moment is a pod less
    /// protected than before and after. Connections that are there stay.
    pub async fn set_policies(&self, policies: Vec<PodPolicy>) -> Result<(), Error> {
        self.set_traffic(None, Some(policies)).await
    }

    /// [`Network::set_services`] and [`Network::set_policies`] in one transaction; `None` leaves a part as it is.
    ///
    /// The first call of a process replaces what an earlier one left, so it must have both where there are both: else
    /// pods would be without their policies, or services without endpoints, until the second.
    pub async fn set_traffic(
        &self,
        services: Option<Vec<Service>>,
        policies: Option<Vec<PodPolicy>>,
    ) -> Result<(), Error> {
        self.usable()?;
        let config = &self.inner.config;
        let mut rules = self.inner.rules.lock().await;
        let mut last = self.inner.traffic.lock().await;
        let services = services.filter(|new| last.services.as_ref() != Some(new));
        let policies = policies.filter(|new| last.policies.as_ref() != Some(new));
        if services.is_none() && policies.is_none() {
            return Ok(());
        }
        let known = last.services.as_deref().unwrap_or_default();
        let renewal = |new: &[Service]| match last.services.is_some() {
            true => dns::renewal(known, new),
            false => dns::Renewal::All,
        };
        // Beside the rules, which is the kernel's work.
        let zone = services.as_ref().and_then(|new| {
            let renewal = renewal(new);
            let (config, services) = (config.clone(), new.clone());
            let now = self.inner.zone.get();
            let make = move || match renewal {
                dns::Renewal::Endpoints => now.with_endpoints(services),
                _ => dns::Zone::new(
                    &config.cluster_domain,
                    config.dns_ip,
                    services,
                    config.pod_cidrs(),
                    config.service_cidrs(),
                ),
            };
            (renewal != dns::Renewal::Nothing).then(|| tokio::task::spawn_blocking(make))
        });
        let reserved = config.dns_ip.into();
        let changed = match (&services, last.services.take()) {
            (Some(services), Some(known)) if policies.is_none() => {
                rules.change_services(&known, services, reserved).await
            }
            (_, known) => {
                let change = |plans: &mut Plans| {
                    if let Some(services) = &services {
                        plans.set_services(services, reserved);
                    }
                    if let Some(policies) = &policies {
                        last.policies = None;
                        plans.set_policies(policies);
                    }
                };
                let changed = rules.change(change).await;
                last.services = known.filter(|_| services.is_none() && changed.is_ok());
                changed
            }
        };
        // Names are right also while the rules cannot be.
        if let Some(zone) = zone {
            let cut = |error| Error::Config(format!("names were not made: {error}"));
            self.inner.zone.set(zone.await.map_err(cut)?);
        }
        let before = changed?;
        last.services = services.or_else(|| last.services.take());
        last.policies = policies.or_else(|| last.policies.take());
        self.forget_flows(&before, rules.wanted()).await
    }

    /// The ports of this machine that lead into containers, for addresses other than loopback.
    pub fn published(&self) -> Vec<Published> {
        let leases = self.inner.leases.lock();
        leases
            .iter()
            .flat_map(|(_, lease)| lease.published.clone())
            .collect()
    }

    /// Takes all published ports of `id` (an empty list removes them), for addresses other than loopback.
    pub async fn set_published(&self, id: &str, ports: Vec<Published>) -> Result<(), Error> {
        self.usable()?;
        let mut rules = self.inner.rules.lock().await;
        let before;
        let all: Vec<Published> = {
            let mut leases = self.inner.leases.lock();
            let Some(lease) = leases.get_mut(id) else {
                return Err(Error::Config(format!(
                    "ports cannot be published for {id}: it is not attached"
                )));
            };
            before = std::mem::replace(&mut lease.published, ports);
            leases
                .iter()
                .flat_map(|(_, lease)| lease.published.clone())
                .collect()
        };
        self.save().await?;
        let changed = rules
            .change_published(|plans| plans.set_published(all.iter()))
            .await;
        if changed.is_err() {
            // whoever comes next finds what may still lead there
            if let Some(lease) = self.inner.leases.lock().get_mut(id) {
                for port in before {
                    if !lease.published.contains(&port) {
                        lease.published.push(port);
                    }
                }
            }
            let _ = self.save().await;
        }
        self.forget_flows(&changed?, rules.wanted()).await
    }

    /// Text of /etc/resolv.conf: the cluster's name server, for a pod of `namespace` the cluster's search path, and for
    /// all (also Docker containers and build steps) this machine's own search domains, as kubelet and Docker have it.
    pub fn resolv_conf(&self, namespace: Option<&str>) -> String {
        // The gateway rather than dns_ip: the same server, without a translation (and its tracking entry) per query.
        let server = format!("nameserver {}\n", self.gateway());
        let domain = &self.inner.config.cluster_domain;
        let mut search = Vec::new();
        if let Some(namespace) = namespace {
            search.extend([
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.clone(),
            ]);
        }
        search.extend(dns::search_domains(&self.inner.options.resolv_conf));
        let search = match &search[..] {
            [] => String::new(),
            list => format!("search {}\n", list.join(" ")),
        };
        let options = namespace.map_or("", |_| "options ndots:5\n");
        format!("{search}{server}{options}")
    }

    /// The bridge's address.
    pub fn gateway(&self) -> Ipv4Addr {
        leases::gateway(self.inner.config.pod_cidr)
    }

    /// The bridge's addresses, IPv4 first.
    pub fn gateways(&self) -> Vec<IpAddr> {
        families::gateways(&self.inner.config)
    }

    /// The configuration that it was opened with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Removes everything that this instance made: links, routes, rules, files; gives changed system settings back
    /// unless another instance still needs them. The handle is of no use afterwards.
    pub async fn purge(&self) -> Result<(), Error> {
        let inner = &self.inner;
        // Nothing may be changed meanwhile or afterwards.
        let _rules = inner.rules.lock().await;
        inner.purged.store(true, Ordering::SeqCst);
        drop(inner.server.lock().take());
        drop(inner.healer.lock().take());
        *inner.leases.lock() = Leases::default();
        Self::purge_closed(&inner.config, &inner.options).await
    }

    /// [`Network::purge`] for an instance that is not open, and may be too damaged to be opened.
    pub async fn purge_closed(config: &Config, options: &Options) -> Result<(), Error> {
        rules::purge(&config.instance).await?;
        let links = Links::open()?;
        bridge::remove(&links, config).await?;
        let left = links.all().await?;
        system::release_forwarding(&options.shared_dir, &config.bridge, |name| {
            left.iter().any(|link| link.name == name)
        })?;
        files::remove(&lease_file(config))?;
        // Somebody else's files in there are not ours to remove.
        let _ = std::fs::remove_dir(&config.state_dir);
        Ok(())
    }

    /// Has the kernel forget UDP flows that do not go where `after` sends them.
    async fn forget_flows(&self, replaced: &Replaced, after: &Plans) -> Result<(), Error> {
        let (before, instead) = replaced.sides(after);
        if conntrack::concerned(before, instead) {
            let config = &self.inner.config;
            let ranges = (config.pod_cidrs(), config.service_cidrs());
            let local = self.inner.links.addresses().await?;
            let judge = conntrack::Judge::new(ranges, self.gateways(), local, (before, after));
            conntrack::forget(judge).await;
        }
        Ok(())
    }

    /// Writes the leases as they are when it is its turn, so that writers who waited find their change already there.
    async fn save(&self) -> Result<(), Error> {
        let _turn = self.inner.saved.lock().await;
        let leases = self.inner.leases.lock().clone();
        let path = lease_file(&self.inner.config);
        blocking(move || files::write_json(&path, &leases)).await
    }

    fn usable(&self) -> Result<(), Error> {
        if self.inner.purged.load(Ordering::SeqCst) {
            return Err(Error::Purged);
        }
        Ok(())
    }
}

/// The port of an attachment, and what may come from there.
fn place(attachment: &Attachment) -> (String, Vec<IpAddr>) {
    (attachment.host_interface.clone(), attachment.addresses())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Config(format!("the work was cut short: {error}"))),
    }
}

fn lease_file(config: &Config) -> PathBuf {
    config.state_dir.join("leases.json")
}
