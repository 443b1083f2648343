//! One role in a process of its own, against any API server over TLS, this program's or a stock one.
//!
//! The server may be away at any time: every role waits for it and goes on.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver::pki::Authority;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::listen::bind;
use super::machine::{Machine, Part, kubelet_tls};
use super::process::{lock_node, node_name};
use super::{OOM_SCORE, controllers, election, prepare, process, scheduler, signer};
use crate::instance::Instance;
use crate::settings::{Role, Settings};

/// How long a connection to the API server may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Runs the role until SIGTERM or SIGINT. The node has the data directory's instance, the others keep nothing. `signing` are the
/// files of the authority's certificate and key by which the controllers sign.
pub fn run(
    role: Role,
    kubeconfig: &Path,
    signing: Option<(&Path, &Path)>,
    data_dir: &Path,
    settings: &Settings,
) -> Result<()> {
    let runtime = prepare()?;
    let signer = match signing {
        Some((certificate, key)) => Some(signer(
            Authority::read(certificate, key)
                .context("cannot sign (--cluster-signing-cert-file, --cluster-signing-key-file)")?,
        )),
        None => None,
    };
    let outcome = match role {
        Role::Node => {
            let instance = Instance::find_or_make(data_dir, settings)?;
            let lock = lock_node(&instance)?;
            super::process::sign(&lock)?;
            engine::lower_oom_score(OOM_SCORE);
            let outcome = runtime.block_on(node(&instance, kubeconfig, settings));
            let _ = fs::remove_file(instance.node_pid_file());
            outcome
        }
        Role::Controllers | Role::Scheduler => {
            runtime.block_on(elected(role, kubeconfig, signer, settings))
        }
    };
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn elected(
    role: Role,
    kubeconfig: &Path,
    signer: Option<::controllers::Signer>,
    settings: &Settings,
) -> Result<()> {
    let cluster = Cluster::of(role, kubeconfig).await?;
    let shutdown = CancellationToken::new();
    let mut roles = JoinSet::new();
    let work = match role {
        Role::Controllers => {
            // the authority's key is the API server's, unless its files were named
            controllers(
                cluster.client.clone(),
                cluster.ca_pem.clone(),
                signer,
                settings,
            )
        }
        _ => scheduler(cluster.client.clone()),
    };
    // As upstream's: each process is a candidate of its own.
    let identity = format!("{}_{:016x}", node_name(), rand::random::<u64>());
    tracing::info!(
        role = role.name(),
        server = cluster.url,
        identity,
        "starting"
    );
    cluster.watch_for(&mut roles, &shutdown);
    election::spawn(
        &mut roles,
        role,
        cluster.client,
        Some(identity),
        &shutdown,
        work,
    );
    process::live(roles, &shutdown, None).await
}

async fn node(instance: &Instance, kubeconfig: &Path, settings: &Settings) -> Result<()> {
    let cluster = Cluster::of(Role::Node, kubeconfig).await?;
    engine::check_kernel().context("cannot start the container engine")?;
    let machine = Machine::open(instance, settings).await?;
    let gateway = IpAddr::V4(instance.gateway());
    let name = node_name();
    let part = Part {
        kubelet: bind(gateway, instance.kubelet_port).await?,
        tls: kubelet_tls(
            &instance.data_dir.join("pki"),
            &cluster.ca_pem,
            &name,
            &gateway.to_string(),
        )?,
        name,
        client: cluster.client.clone(),
    };
    let shutdown = CancellationToken::new();
    let mut roles = JoinSet::new();
    tracing::info!(
        role = "node",
        server = cluster.url,
        name = part.name,
        "starting"
    );
    cluster.watch_for(&mut roles, &shutdown);
    machine.serve_docker(instance, &mut roles, &shutdown)?;
    machine.run_node(instance, settings, part, &mut roles, &shutdown)?;
    let ended = process::live(roles, &shutdown, Some(&instance.node_pid_file())).await;
    let _ = fs::remove_file(instance.docker_socket());
    ended
}

/// An API server, as a kubeconfig names it.
struct Cluster {
    client: kube::Client,
    url: String,
    ca_pem: String,
}

impl Cluster {
    async fn of(role: Role, file: &Path) -> Result<Self> {
        let name = role.name();
        let shown = file.display();
        let kubeconfig = Kubeconfig::read_from(file).with_context(|| {
            format!(
                "cannot read the kubeconfig {shown}; `plimsoll up --without {name}` writes one as {name}.kubeconfig in its data directory"
            )
        })?;
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("cannot use the kubeconfig {shown}"))?;
        config.connect_timeout = Some(CONNECT);
        let url = config.cluster_url.to_string();
        let certificates = config.root_cert.as_deref().unwrap_or_default();
        anyhow::ensure!(
            !certificates.is_empty(),
            "the kubeconfig {shown} names no certificate authority of the cluster (certificate-authority-data)"
        );
        let ca_pem = certificates.iter().map(|der| pem(der)).collect();
        let client = kube::Client::try_from(config)
            .with_context(|| format!("cannot use the kubeconfig {shown}"))?;
        Ok(Self {
            client,
            url,
            ca_pem,
        })
    }

    /// Tells once when the server cannot be reached, and when it can: roles try again by themselves and say little.
    fn watch_for(&self, roles: &mut JoinSet<()>, shutdown: &CancellationToken) {
        let (client, url, stop) = (self.client.clone(), self.url.clone(), shutdown.clone());
        roles.spawn(async move {
            let (mut away, mut pause) = (false, PAUSE_MIN);
            loop {
                match client.apiserver_version().await {
                    Ok(version) => {
                        if away {
                            tracing::info!(url, version = version.git_version, "the API server answers");
                        }
                        (away, pause) = (false, PAUSE_MAX * 5);
                    }
                    Err(error) => {
                        if !away {
                            tracing::warn!(
                                %error, url,
                                "the API server does not answer; trying again until it does. Is it up, and is this kubeconfig its own?"
                            );
                            pause = PAUSE_MIN;
                        }
                        away = true;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}
