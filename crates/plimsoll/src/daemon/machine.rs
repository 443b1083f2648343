//! The node's part of the machine: engine, images and network, and what runs on them.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use apiserver::pki::Pki;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::instance::Instance;
use crate::settings::Settings;

/// Unless the settings say otherwise.
const PODS_MAX: u32 = 110;

/// All that containers need.
pub struct Machine {
    engine: engine::Engine,
    pub images: image::Images,
    network: network::Network,
}

impl Machine {
    /// Opens what is there, and makes what is not.
    pub async fn open(instance: &Instance, settings: &Settings) -> Result<Self> {
        super::private::close(&instance.data_dir)?;
        let options = network::Options {
            gateway_ports: vec![instance.api_port, instance.kubelet_port],
            ..network::Options::default()
        };
        let network = network::Network::open_with(instance.network(), options)
            .await
            .context("cannot set up the network")?;
        let engine = engine::Engine::open(instance.engine())
            .await
            .context("cannot start the container engine")?;
        confine(engine.clone());
        let images_dir = instance.data_dir.join("images");
        let options = image::Options {
            registries: settings.registries.resolve(),
            ..image::Options::default()
        };
        let images = tokio::task::spawn_blocking(move || image::Images::open(images_dir, options))
            .await?
            .context("cannot open the image store")?;
        Ok(Self {
            engine,
            images,
            network,
        })
    }

    /// Docker's API, on the instance's socket.
    pub fn serve_docker(
        &self,
        instance: &Instance,
        roles: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> Result<()> {
        let socket = instance.docker_socket();
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("cannot listen on {}", socket.display()))?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o660))?;
        let docker = docker::Docker::new(
            self.engine.clone(),
            self.images.clone(),
            self.network.clone(),
            instance.data_dir.join("logs").join("containers"),
        );
        roles.spawn(docker::serve(listener, docker, shutdown.clone()));
        Ok(())
    }

    /// The node role.
    pub fn run_node(
        &self,
        instance: &Instance,
        settings: &Settings,
        part: Part,
        roles: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> Result<()> {
        let data = &instance.data_dir;
        let config = node::Config {
            name: part.name,
            address: IpAddr::V4(instance.gateway()),
            further_address: instance.gateway6().map(IpAddr::V6),
            port: instance.kubelet_port,
            tls: part.tls,
            logs_dir: data.join("logs").join("pods"),
            seccomp_dir: data.join("seccomp"),
            state_dir: data.join("node"),
            claims_dir: data.join("claims"),
            cluster_domain: "cluster.local".into(),
            pods_max: settings.max_pods.unwrap_or(PODS_MAX),
            pressure: settings.pressure.resolve()?,
        };
        let (engine, images, network) = (
            self.engine.clone(),
            self.images.clone(),
            self.network.clone(),
        );
        let stop = shutdown.clone();
        roles.spawn(async move {
            let ran = node::run(
                config,
                part.client,
                engine,
                images,
                network,
                part.kubelet,
                stop,
            );
            if let Err(error) = ran.await {
                tracing::error!(%error, "the node role could not start");
            }
        });
        Ok(())
    }
}

/// What a node is to its cluster.
pub struct Part {
    pub name: String,
    pub client: kube::Client,
    /// Where the kubelet's API listens, and with which certificates.
    pub kubelet: TcpListener,
    pub tls: Arc<rustls::ServerConfig>,
}

/// Compiling the profile takes some milliseconds: nobody waits for them here, and hardly a first container.
fn confine(engine: engine::Engine) {
    tokio::spawn(async move {
        match (engine::app_armor(), engine.load_default_profile().await) {
            (_, Err(error)) => {
                tracing::warn!(%error, "containers that ask for no AppArmor profile will not start")
            }
            (engine::AppArmor::WithoutParser, Ok(())) => tracing::warn!(
                "the kernel has AppArmor, but there is no apparmor_parser: containers have no profile; install the package apparmor"
            ),
            _ => {}
        }
    });
}

/// The kubelet's API demands a certificate of the cluster's CA from every client. Its own is of this instance's CA; in a
/// cluster of another, the API server must take it without (a stock one does unless it is told a CA).
pub fn kubelet_tls(
    pki: &Path,
    cluster_ca_pem: &str,
    node: &str,
    address: &str,
) -> Result<Arc<rustls::ServerConfig>> {
    let pki = Pki::open(pki).context("cannot open the certificates")?;
    let pair = pki.kubelet(node, &[node.to_owned(), address.to_owned()])?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(cluster_ca_pem)? {
        roots.add(certificate)?;
    }
    // who has none may have a token
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated();
    let verifier = verifier.build()?;
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
