//! The daemon: the one place where roles are composed into one process.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use apiserver::pki::{self, Pki};
use apiserver::{ApiServer, Identity, TlsDialer};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backup;
use crate::instance::{Instance, start_time};
use crate::ports;
use crate::settings::Settings;

/// Roles get this long to end what they do.
const FAREWELL: Duration = Duration::from_secs(5);
/// Time between two looks at an autoscaler, unless the settings say otherwise.
const AUTOSCALER_PERIOD: Duration = Duration::from_secs(1);
/// Unless the settings say otherwise.
const PODS_MAX: u32 = 110;
/// As a kubelet: after everything that it runs.
const OOM_SCORE: i32 = -999;
/// How long a start waits for the data directory's lock.
const LOCK: Duration = Duration::from_secs(3);

/// Runs every role until SIGTERM or SIGINT. Containers keep running afterwards; the next start finds them.
pub fn run(instance: &Instance, settings: &Settings) -> Result<()> {
    let _lock = lock(instance)?;
    raise_descriptor_limit();
    // inherited by the supervising processes, whose containers get their own
    engine::lower_oom_score(OOM_SCORE);
    // one provider for everything that speaks TLS
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
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

/// An exclusive lock on the data directory, held as long as the returned file.
pub fn lock(instance: &Instance) -> Result<fs::File> {
    fs::create_dir_all(instance.run_dir())?;
    let path = instance.data_dir.join("daemon.lock");
    let file =
        fs::File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    // a daemon that was killed lets the lock go only when its last thread has ended, a moment after its PID is gone
    let deadline = Instant::now() + LOCK;
    while rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        }
        bail!(
            "another plimsoll is running on {}; see `plimsoll status`, end it with `plimsoll down`",
            instance.data_dir.display()
        );
    }
    Ok(file)
}

async fn serve(instance: &Instance, settings: &Settings) -> Result<()> {
    let shutdown = CancellationToken::new();
    let mut roles = JoinSet::new();
    let data = &instance.data_dir;
    let gateway = IpAddr::V4(instance.gateway());
    let node_name = node_name();

    // before anything is made on a machine that cannot run containers
    engine::check_kernel().context("cannot start the container engine")?;
    let store_path = instance.store_file();
    fs::create_dir_all(data.join("store"))?;
    let opening = tokio::task::spawn_blocking(move || {
        store::embedded::EmbeddedStore::open(&store_path, store::embedded::Options::default())
    });
    let options = network::Options {
        gateway_ports: vec![instance.api_port, instance.kubelet_port],
        ..network::Options::default()
    };
    let (store, network) = tokio::join!(
        opening,
        network::Network::open_with(instance.network(), options)
    );
    let store = Arc::new(store?.context("cannot open the store")?);
    let network = network.context("cannot set up the network")?;
    let engine = engine::Engine::open(instance.engine())
        .await
        .context("cannot start the container engine")?;
    // Compiling the profile takes some milliseconds: nobody waits for them here, and hardly a first container.
    let confining = engine.clone();
    tokio::spawn(async move {
        match (engine::app_armor(), confining.load_default_profile().await) {
            (_, Err(error)) => {
                tracing::warn!(%error, "containers that ask for no AppArmor profile will not start")
            }
            (engine::AppArmor::WithoutParser, Ok(())) => tracing::warn!(
                "the kernel has AppArmor, but there is no apparmor_parser: containers have no profile; install the package apparmor"
            ),
            _ => {}
        }
    });
    let images_dir = data.join("images");
    let images = tokio::task::spawn_blocking(move || {
        image::Images::open(images_dir, image::Options::default())
    })
    .await?
    .context("cannot open the image store")?;

    // Every room has accepted what it found.
    if let Some(before) = instance.clone().note_version()? {
        tracing::info!(before, "another version ran here last");
    }

    let mut apis = Vec::new();
    for address in api_addresses(gateway, &settings.api_addresses) {
        apis.push(bind(address, instance.api_port).await?);
    }
    let kubelet = bind(gateway, instance.kubelet_port).await?;

    let mut config = apiserver::Config::new(data);
    config.service_cidr = instance.service_cidr.to_string();
    let ipv6 = instance.ipv6_ranges();
    config.service_cidr6 = ipv6.map(|ranges| ranges.service_cidr.to_string());
    config.advertise_address = Some(SocketAddr::new(gateway, instance.api_port));
    let server = ApiServer::open(config, store.clone())
        .await
        .context("cannot start the API server")?;

    let pki = Pki::open(&data.join("pki")).context("cannot open the certificates")?;
    let first_service = Ipv4Addr::from(u32::from(instance.service_cidr.network()) + 1);
    let names: Vec<String> = [
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
        gateway.to_string(),
        first_service.to_string(),
        node_name.clone(),
    ])
    .chain(settings.api_addresses.iter().map(ToString::to_string))
    .collect();
    let tls = pki.server_tls(&pki.server(&names)?, &[b"h2", b"http/1.1"])?;
    let kubeconfig = pki::kubeconfig(
        &instance.name,
        &instance.api_url(),
        pki.ca_certificate(),
        &pki.admin()?,
    );
    write_private(&instance.kubeconfig(), &kubeconfig)?;
    server.set_node_dialer(Arc::new(TlsDialer(pki.client_tls(&pki.kubelet_client()?)?)));

    // what each of them may do, roles and bindings say (apiserver's data/default-roles.txt)
    let role = |user: &str, groups: &[&str]| server.in_process_client(Identity::new(user, groups));
    let metrics = metrics::Server::new(
        role(
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

    let socket = instance.docker_socket();
    let _ = fs::remove_file(&socket);
    let docker_listener = UnixListener::bind(&socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o660))?;
    let docker = docker::Docker::new(
        engine.clone(),
        images.clone(),
        network.clone(),
        data.join("logs").join("containers"),
    );
    roles.spawn(docker::serve(docker_listener, docker, shutdown.clone()));
    roles.spawn(backup::serve(
        instance.backup_socket(),
        store,
        images.clone(),
        shutdown.clone(),
    )?);

    let node = node::Config {
        name: node_name.clone(),
        address: gateway,
        further_address: instance.gateway6().map(IpAddr::V6),
        port: instance.kubelet_port,
        tls: kubelet_tls(&pki, &node_name, &gateway.to_string())?,
        logs_dir: data.join("logs").join("pods"),
        seccomp_dir: data.join("seccomp"),
        state_dir: data.join("node"),
        claims_dir: data.join("claims"),
        cluster_domain: "cluster.local".into(),
        pods_max: settings.max_pods.unwrap_or(PODS_MAX),
        pressure: settings.pressure.resolve()?,
    };
    let node_client = role(&format!("system:node:{node_name}"), &["system:nodes"]);
    let (stop, images_of_node, network_of_node) =
        (shutdown.clone(), images.clone(), network.clone());
    let node_engine = engine.clone();
    roles.spawn(async move {
        if let Err(error) = node::run(
            node,
            node_client,
            node_engine,
            images_of_node,
            network_of_node,
            kubelet,
            stop,
        )
        .await
        {
            tracing::error!(%error, "the node role could not start");
        }
    });
    let controllers_config = controllers::Config {
        cluster_ca_pem: pki.ca_certificate().to_owned(),
        // decisions follow the load within a second; what upstream ties to its 15 s stays tied to the clock
        hpa_sync: settings
            .autoscaler_period
            .and_then(|period| Duration::try_from(period).ok())
            .unwrap_or(AUTOSCALER_PERIOD),
        ..controllers::Config::default()
    };
    roles.spawn(controllers::run(
        role("system:kube-controller-manager", &[]),
        controllers_config,
        shutdown.clone(),
    ));
    roles.spawn(scheduler::run(
        role("system:kube-scheduler", &[]),
        scheduler::Config::default(),
        shutdown.clone(),
    ));
    let stop = shutdown.clone();
    roles.spawn(async move { metrics.collect(stop).await });

    let pid = std::process::id();
    write_private(
        &instance.pid_file(),
        &format!("{pid} {}\n", start_time(pid).unwrap_or_default()),
    )?;
    notify("READY=1");
    tracing::info!(instance = instance.name, api = instance.api_url(), "ready");

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        // Half of a daemon would look alive and do nothing.
        ended = roles.join_next() => Some(match ended {
            Some(Err(error)) => format!("a role ended: {error}"),
            _ => "a role ended, see above".to_owned(),
        }),
    };
    tracing::info!("stopping; containers keep running");
    notify("STOPPING=1");
    shutdown.cancel();
    let _ = tokio::time::timeout(FAREWELL, async {
        while roles.join_next().await.is_some() {}
    })
    .await;
    server.stop();
    let _ = fs::remove_file(&socket);
    failed.map_or(Ok(()), |why| {
        Err(anyhow::anyhow!("{why}; start the daemon again"))
    })
}

/// Where the Kubernetes API listens: this machine alone, its pods, and what the settings add.
fn api_addresses(gateway: IpAddr, further: &[IpAddr]) -> Vec<IpAddr> {
    // an unspecified address takes them all
    if let Some(all) = further.iter().find(|address| address.is_unspecified()) {
        return vec![*all];
    }
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), gateway];
    for address in further {
        if !addresses.contains(address) {
            addresses.push(*address);
        }
    }
    addresses
}

async fn bind(ip: IpAddr, port: u16) -> Result<TcpListener> {
    let address = SocketAddr::new(ip, port);
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| match ports::holder(port) {
        Some(holder) => format!(
            "cannot listen on {address}: {holder} has the port; end that program, or choose other ports with `plimsoll up --api-port PORT --kubelet-port PORT`"
        ),
        None => format!(
            "cannot listen on {address}; choose other ports with `plimsoll up --api-port PORT --kubelet-port PORT`"
        ),
    })
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

/// The kubelet's API demands a certificate of the cluster's CA from every client.
fn kubelet_tls(pki: &Pki, node: &str, address: &str) -> Result<Arc<rustls::ServerConfig>> {
    let pair = pki.kubelet(node, &[node.to_owned(), address.to_owned()])?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(pki.ca_certificate())? {
        roots.add(certificate)?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let key = rustls_pemfile::private_key(&mut pair.key.as_bytes())?
        .context("the kubelet's key is not PEM")?;
    let mut config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&pair.certificate)?, key)?;
    // upgrades (exec, attach) exist in HTTP/1.1 only
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    Ok(rustls_pemfile::certs(&mut pem.as_bytes()).collect::<Result<_, _>>()?)
}

/// Writes a file that only its owner may read. One that says the same is left alone: a start must not need space on the disk.
fn write_private(path: &Path, text: &str) -> Result<()> {
    if std::fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let directory = path.parent().context("a file has a directory")?;
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Names a Node as kubelets do: the host's name in lower case.
fn node_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_lowercase();
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let name: String = name
        .chars()
        .map(|c| if valid(c) { c } else { '-' })
        .collect();
    let name = name.trim_matches(['-', '.']).to_owned();
    if name.is_empty() {
        "localhost".into()
    } else {
        name
    }
}

/// Tells whoever started this process, in systemd's way.
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let sent = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|socket| socket.send_to(state.as_bytes(), Path::new(&path)));
    if let Err(error) = sent {
        tracing::warn!(%error, "the starter could not be told {state}");
    }
}

/// Every container costs descriptors; the soft limit of 1024 is for programs that use select().
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_listens_where_it_is_told_to_and_on_no_address_twice() {
        let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let gateway = address("10.64.0.1");
        let listed = |further: &[&str]| {
            let further: Vec<IpAddr> = further.iter().map(|text| address(text)).collect();
            let listed = api_addresses(gateway, &further);
            listed.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(listed(&[]), ["127.0.0.1", "10.64.0.1"]);
        assert_eq!(
            listed(&["192.0.2.1", "10.64.0.1", "192.0.2.1"]),
            ["127.0.0.1", "10.64.0.1", "192.0.2.1"]
        );
        assert_eq!(listed(&["192.0.2.1", "0.0.0.0"]), ["0.0.0.0"]);
    }
}
