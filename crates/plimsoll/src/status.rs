//! `plimsoll env` and `plimsoll status`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde::Serialize;

use crate::cli::Output;
use crate::cluster;
use crate::instance::Instance;

/// Shell lines for `eval`.
pub fn environment(instance: &Instance) -> String {
    let quoted = |text: String| format!("'{}'", text.replace('\'', "'\\''"));
    format!(
        "export KUBECONFIG={}\nexport DOCKER_HOST={}\nexport PLIMSOLL_DATA_DIR={}\n",
        quoted(instance.kubeconfig().display().to_string()),
        quoted(format!("unix://{}", instance.docker_socket().display())),
        quoted(instance.data_dir.display().to_string()),
    )
}

#[derive(Serialize)]
struct Report {
    instance: String,
    data_dir: String,
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
    api: String,
    docker: String,
    kubeconfig: String,
    nodes: Vec<NodeLine>,
    pods_running: usize,
    pods_ready: usize,
    containers_running: usize,
    images: usize,
    /// What does not run, and why.
    troubles: Vec<Trouble>,
}

#[derive(Serialize)]
struct NodeLine {
    name: String,
    ready: bool,
    version: String,
}

#[derive(Serialize)]
struct Trouble {
    what: String,
    why: String,
}

/// Prints the state; exit code 3 when the daemon is not running (as systemctl has it), 1 when something is amiss.
pub fn show(data_dir: &Path, output: Output) -> Result<ExitCode> {
    let instance = Instance::existing(data_dir)?;
    let pid = instance.daemon_pid();
    let mut report = Report {
        instance: instance.name.clone(),
        data_dir: instance.data_dir.display().to_string(),
        running: pid.is_some(),
        pid,
        memory_bytes: pid.and_then(resident_bytes),
        api: instance.api_url(),
        docker: format!("unix://{}", instance.docker_socket().display()),
        kubeconfig: instance.kubeconfig().display().to_string(),
        nodes: Vec::new(),
        pods_running: 0,
        pods_ready: 0,
        containers_running: 0,
        images: 0,
        troubles: Vec::new(),
    };
    if pid.is_some() {
        cluster::block_on(async {
            let asked = match cluster::client(&instance).await {
                Ok(client) => ask_cluster(&client, &mut report).await,
                Err(error) => Err(error),
            };
            if let Err(error) = asked {
                report.troubles.push(Trouble {
                    what: "Kubernetes API".into(),
                    why: format!("{error:#}"),
                });
            }
            if let Err(error) = ask_engine(&instance, &mut report).await {
                report.troubles.push(Trouble {
                    what: "Docker API".into(),
                    why: format!("{error:#}"),
                });
            }
        })?;
    } else {
        let why = format!(
            "it is not running; start it with `plimsoll up --data-dir {}`; its log is {}",
            report.data_dir,
            instance.log().display()
        );
        report.troubles.push(Trouble {
            what: "daemon".into(),
            why,
        });
    }
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Output::Yaml => print!("{}", serde_saphyr::to_string(&report)?),
        Output::Text => print_text(&report),
    }
    Ok(if !report.running {
        ExitCode::from(3)
    } else if report.troubles.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn ask_cluster(client: &Client, report: &mut Report) -> Result<()> {
    for node in Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await?
    {
        let status = node.status.clone().unwrap_or_default();
        let ready = status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == "Ready");
        if let Some(condition) = ready.filter(|c| c.status != "True") {
            let why = format!(
                "{}: {}",
                condition.reason.as_deref().unwrap_or("NotReady"),
                condition.message.as_deref().unwrap_or("")
            );
            report.troubles.push(Trouble {
                what: format!("node {}", node.name_any()),
                why,
            });
        }
        let pressures = status.conditions.iter().flatten();
        for condition in pressures.filter(|c| c.type_.ends_with("Pressure") && c.status == "True") {
            report.troubles.push(Trouble {
                what: format!("node {}", node.name_any()),
                why: format!(
                    "{}: {}; it takes no pods, and evicts those that run until there is enough again (docs/operations.md, \"The node is short\")",
                    condition.type_,
                    condition.message.as_deref().unwrap_or("")
                ),
            });
        }
        report.nodes.push(NodeLine {
            name: node.name_any(),
            ready: ready.is_some_and(|c| c.status == "True"),
            version: status
                .node_info
                .map(|info| info.kubelet_version)
                .unwrap_or_default(),
        });
    }
    for pod in Api::<Pod>::all(client.clone())
        .list(&ListParams::default())
        .await?
    {
        let status = pod.status.clone().unwrap_or_default();
        let conditions = || status.conditions.iter().flatten();
        let ready = conditions().any(|c| c.type_ == "Ready" && c.status == "True");
        report.pods_running += usize::from(status.phase.as_deref() == Some("Running"));
        report.pods_ready += usize::from(ready);
        if ready
            || status.phase.as_deref() == Some("Succeeded")
            || pod.metadata.deletion_timestamp.is_some()
        {
            continue;
        }
        if let Some(why) = reason(&pod) {
            let what = format!(
                "pod {}/{}",
                pod.namespace().unwrap_or_default(),
                pod.name_any()
            );
            report.troubles.push(Trouble { what, why });
        }
    }
    Ok(())
}

/// Why a pod is not ready, in the words of the first condition or container that knows.
pub fn reason(pod: &Pod) -> Option<String> {
    let status = pod.status.clone().unwrap_or_default();
    let scheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False");
    if let Some(condition) = scheduled {
        return Some(format!(
            "{}: {}",
            condition.reason.as_deref().unwrap_or("Unschedulable"),
            condition.message.as_deref().unwrap_or("")
        ));
    }
    for container in status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten()
    {
        let state = container.state.clone().unwrap_or_default();
        if let Some(waiting) = state.waiting {
            let reason = waiting.reason.unwrap_or_else(|| "waiting".into());
            let message = waiting
                .message
                .map(|message| format!(": {message}"))
                .unwrap_or_default();
            return Some(format!(
                "container {} is waiting: {reason}{message}",
                container.name
            ));
        }
        if let Some(ended) = state.terminated.filter(|ended| ended.exit_code != 0) {
            return Some(format!(
                "container {} ended with code {} ({})",
                container.name,
                ended.exit_code,
                ended.reason.unwrap_or_default()
            ));
        }
        if state.running.is_some() && !container.ready {
            return Some(format!(
                "container {} runs but is not ready; `kubectl describe pod {}` shows its probes",
                container.name,
                pod.name_any()
            ));
        }
    }
    status
        .message
        .or_else(|| Some("it has just been made".into()))
}

async fn ask_engine(instance: &Instance, report: &mut Report) -> Result<()> {
    let docker = crate::container::Client::new(instance);
    report.containers_running = docker
        .get_json("/containers/json")
        .await?
        .as_array()
        .map_or(0, Vec::len);
    report.images = docker
        .get_json("/images/json")
        .await?
        .as_array()
        .map_or(0, Vec::len);
    Ok(())
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

fn print_text(report: &Report) {
    let state = match (report.pid, report.memory_bytes) {
        (Some(pid), Some(bytes)) => format!("running (pid {pid}, {} MiB)", bytes >> 20),
        (Some(pid), None) => format!("running (pid {pid})"),
        (None, _) => "not running".into(),
    };
    println!("instance    {} in {}", report.instance, report.data_dir);
    println!("daemon      {state}");
    println!(
        "Kubernetes  {}  (KUBECONFIG={})",
        report.api, report.kubeconfig
    );
    println!("Docker      {}", report.docker);
    for node in &report.nodes {
        println!(
            "node        {} {} {}",
            node.name,
            if node.ready { "Ready" } else { "NotReady" },
            node.version
        );
    }
    if report.running {
        println!(
            "pods        {} running, {} ready",
            report.pods_running, report.pods_ready
        );
        println!(
            "containers  {} running; {} images",
            report.containers_running, report.images
        );
    }
    for trouble in &report.troubles {
        println!("\n! {}\n  {}", trouble.what, trouble.why);
    }
}
