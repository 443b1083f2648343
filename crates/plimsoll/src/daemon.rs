//! The daemon: the one place where roles are composed into processes: all into one ([`run`]), or each into its own ([`apart`]).

mod apart;
mod election;
mod listen;
mod machine;
mod objects;
mod private;
mod process;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver::pki::{self, Authority, Pki};
use apiserver::{ApiServer, Identity, TlsDialer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backup;
use crate::instance::Instance;
use crate::settings::{Role, Settings};
use listen::{api_addresses, bind, bind_ahead};
use machine::{Machine, Part};
use objects::Objects;
use process::{node_name, write_private};

pub use apart::run as run_apart;
pub use objects::on_etcd;
pub use process::{lock, lock_node};

/// Time between two looks at an autoscaler, unless the settings say otherwise.
const AUTOSCALER_PERIOD: Duration = Duration::from_secs(1);
/// As a kubelet: after everything that it runs.
const OOM_SCORE: i32 = -999;

/// Runs every role that the settings do not leave away, until SIGTERM or SIGINT. Containers keep running afterwards; the next
/// start finds them.
pub fn run(instance: &Instance, settings: &Settings) -> Result<()> {
    let lock = lock(instance)?;
    process::sign(&lock)?;
    let _node = settings
        .has(Role::Node)
        .then(|| lock_node(instance))
        .transpose()?;
    let runtime = prepare()?;
    // inherited by the supervising processes, whose containers get their own
    engine::lower_oom_score(OOM_SCORE);
    let outcome = runtime.block_on(serve(instance, settings));
    runtime.shutdown_timeout(Duration::from_secs(1));
    let _ = fs::remove_file(instance.pid_file());
    // What a newer version wrote is refused by the room whose it is; which version that was is known here.
    match outcome {
        Err(error) if instance.is_of_another_version() => {
            let version = &instance.version;
            Err(error.context(format!("plimsoll {version} ran here last")))
        }
        outcome => outcome,
    }
}

/// What a process of any role needs.
fn prepare() -> Result<tokio::runtime::Runtime> {
    process::raise_descriptor_limit();
    // one provider for everything that speaks TLS
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

async fn serve(instance: &Instance, settings: &Settings) -> Result<()> {
    let shutdown = CancellationToken::new();
    let mut roles = JoinSet::new();
    let data = &instance.data_dir;
    let gateway = IpAddr::V4(instance.gateway());
    let node_name = node_name();

    if settings.has(Role::Node) {
        // before anything is made on a machine that cannot run containers
        engine::check_kernel().context("cannot start the container engine")?;
    }
    let machine = async {
        match settings.has(Role::Node) {
            true => Machine::open(instance, settings).await.map(Some),
            false => Ok(None),
        }
    };
    let (objects, machine) = tokio::join!(Objects::open(instance, settings), machine);
    let (objects, machine) = (objects?, machine?);

    // Every room has accepted what it found.
    if let Some(before) = instance.clone().note_version()? {
        tracing::info!(before, "another version ran here last");
    }

    let mut apis = Vec::new();
    for address in api_addresses(gateway, &settings.api_addresses) {
        apis.push(match address == gateway && machine.is_none() {
            true => bind_ahead(address, instance.api_port)?,
            false => bind(address, instance.api_port).await?,
        });
    }
    let kubelet = match &machine {
        Some(_) => Some(bind(gateway, instance.kubelet_port).await?),
        None => None,
    };

    let mut config = apiserver::Config::new(data);
    config.service_cidr = instance.service_cidr.to_string();
    let ipv6 = instance.ipv6_ranges();
    config.service_cidr6 = ipv6.map(|ranges| ranges.service_cidr.to_string());
    config.advertise_address = Some(SocketAddr::new(gateway, instance.api_port));
    config.advertise_only_if_absent = objects.is_shared() && machine.is_none();
    let server = ApiServer::open(config, objects.store())
        .await
        .context("cannot start the API server")?;

    let pki = Pki::open(&data.join("pki")).context("cannot open the certificates")?;
    // who listens on all addresses is asked by each of them
    let everywhere = settings.api_addresses.iter().any(IpAddr::is_unspecified);
    let own = match everywhere {
        true => network::machine_addresses().await?,
        false => Vec::new(),
    };
    let names = server_names(instance, settings, &node_name, &own);
    let tls = pki.server_tls(&pki.server(&names)?, &[b"h2", b"http/1.1"])?;
    let kubeconfig = |pair: &pki::Pair| {
        let ca = pki.ca_certificate();
        pki::kubeconfig(&instance.name, &instance.api_url(), ca, pair)
    };
    write_private(&instance.kubeconfig(), &kubeconfig(&pki.admin()?))?;
    for role in &settings.without {
        let (user, group) = role.user(&node_name);
        let pair = pki.client(role.name(), &user, group)?;
        write_private(&instance.role_kubeconfig(*role), &kubeconfig(&pair))?;
    }
    server.set_node_dialer(Arc::new(TlsDialer(pki.client_tls(&pki.kubelet_client()?)?)));

    // what each of them may do, roles and bindings say (apiserver's data/default-roles.txt)
    let client =
        |user: &str, groups: &[&str]| server.in_process_client(Identity::new(user, groups));
    let metrics = metrics::Server::new(
        client(
            "system:serviceaccount:kube-system:metrics-server",
            &[
                "system:serviceaccounts",
                "system:serviceaccounts:kube-system",
            ],
        ),
        metrics::Config::default(),
    );
    for api in metrics.group_versions() {
        let list = api.resources;
        let resources = Arc::new(move || list().iter().map(aggregated).collect());
        server.aggregate_listed(api.group, api.version, resources, api.service);
    }

    for listener in apis {
        let (server, tls, shutdown) = (server.clone(), tls.clone(), shutdown.clone());
        roles.spawn(async move { server.serve(listener, tls, shutdown).await });
    }

    let role_client = |role: Role| {
        let (user, group) = role.user(&node_name);
        client(&user, group.as_slice())
    };
    if let (Some(machine), Some(kubelet)) = (&machine, kubelet) {
        machine.serve_docker(instance, &mut roles, &shutdown)?;
        if let Objects::Embedded(store) = &objects {
            roles.spawn(backup::serve(
                instance.backup_socket(),
                store.clone(),
                machine.images.clone(),
                shutdown.clone(),
            )?);
        }
        let part = Part {
            name: node_name.clone(),
            client: role_client(Role::Node),
            kubelet,
            tls: machine::kubelet_tls(
                &data.join("pki"),
                pki.ca_certificate(),
                &node_name,
                &gateway.to_string(),
            )?,
        };
        machine.run_node(instance, settings, part, &mut roles, &shutdown)?;
    }
    // Nobody else can be there: the embedded store has one API server.
    let identity = objects
        .is_shared()
        .then(|| identity(instance, &node_name))
        .transpose()?;
    if settings.has(Role::Controllers) {
        let ca = pki.ca_certificate().to_owned();
        let client = role_client(Role::Controllers);
        let own = Pki::open(&data.join("pki")).context("cannot open the certificates")?;
        let signer = signer(own.into_authority());
        let work = controllers(client.clone(), ca, Some(signer), settings);
        election::spawn(
            &mut roles,
            Role::Controllers,
            client,
            identity.clone(),
            &shutdown,
            work,
        );
    }
    if settings.has(Role::Scheduler) {
        let client = role_client(Role::Scheduler);
        let work = scheduler(client.clone());
        election::spawn(
            &mut roles,
            Role::Scheduler,
            client,
            identity,
            &shutdown,
            work,
        );
    }
    let stop = shutdown.clone();
    roles.spawn(async move { metrics.collect(stop).await });

    tracing::info!(instance = instance.name, api = instance.api_url(), "ready");
    let ended = process::live(roles, &shutdown, Some(&instance.pid_file())).await;
    server.stop();
    if machine.is_some() {
        let _ = fs::remove_file(instance.docker_socket());
    }
    ended
}

/// What this daemon is called among those on the same store: as long as the machine runs the same, however often the daemon
/// starts, and never another machine's, whatever was copied from it.
fn identity(instance: &Instance, node_name: &str) -> Result<String> {
    let file = instance.run_dir().join("identity");
    if let Ok(identity) = fs::read_to_string(&file)
        && identity.starts_with(node_name)
    {
        return Ok(identity);
    }
    let identity = format!("{node_name}_{:016x}", rand::random::<u64>());
    write_private(&file, &identity)?;
    Ok(identity)
}

/// Signs what is approved with the cluster's own authority.
fn signer(authority: Authority) -> controllers::Signer {
    controllers::Signer::new(move |order| {
        authority
            .sign(order.request, order.usages, order.from, order.until)
            .map_err(|error| error.to_string())
    })
}

/// The controllers, to be run as often as they are elected. Without a signer, approved certificates are left to others.
fn controllers(
    client: kube::Client,
    cluster_ca_pem: String,
    signer: Option<controllers::Signer>,
    settings: &Settings,
) -> election::Work {
    let config = controllers::Config {
        cluster_ca_pem,
        // decisions follow the load within a second; what upstream ties to its 15 s stays tied to the clock
        autoscalers: controllers::hpa::Pace {
            period: settings
                .autoscaler_period
                .and_then(|period| Duration::try_from(period).ok())
                .unwrap_or(AUTOSCALER_PERIOD),
            on_change: settings.autoscaler_on_change.unwrap_or(true),
        },
        signer,
        ..controllers::Config::default()
    };
    Box::new(move |stop| Box::pin(controllers::run(client.clone(), config.clone(), stop)))
}

/// The scheduler, to be run as often as it is elected.
fn scheduler(client: kube::Client) -> election::Work {
    Box::new(move |stop| {
        let config = scheduler::Config::default();
        Box::pin(scheduler::run(client.clone(), config, stop))
    })
}

/// What the API server's certificate is for. `own`: addresses of this machine by which it is asked, too.
fn server_names(
    instance: &Instance,
    settings: &Settings,
    node_name: &str,
    own: &[IpAddr],
) -> Vec<String> {
    let first_service = Ipv4Addr::from(u32::from(instance.service_cidr.network()) + 1);
    [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain([
        "127.0.0.1".into(),
        "::1".into(),
        instance.gateway().to_string(),
        first_service.to_string(),
        node_name.to_owned(),
    ])
    .chain(settings.api_addresses.iter().map(ToString::to_string))
    .chain(own.iter().map(ToString::to_string))
    .collect()
}

fn aggregated(resource: &metrics::Resource) -> apiserver::AggregatedResource {
    apiserver::AggregatedResource {
        name: resource.name.to_string(),
        singular: resource.singular.to_owned(),
        kind: resource.kind.to_owned(),
        namespaced: resource.namespaced,
        verbs: resource
            .verbs
            .iter()
            .map(|verb| (*verb).to_owned())
            .collect(),
        short_names: Vec::new(),
    }
}
