//! What the server says of itself.

use serde_json::{Value, json};

use crate::reply::{Answer, full, json_of};
use crate::{API_VERSION, API_VERSION_MIN, Docker, containers};

pub fn ping() -> Answer {
    let mut response = http::Response::new(full("OK"));
    let headers = response.headers_mut();
    headers.insert("builder-version", http::HeaderValue::from_static("1"));
    headers.insert(
        "cache-control",
        http::HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Ok(response)
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

pub fn version() -> Answer {
    let version = env!("CARGO_PKG_VERSION");
    json_of(&json!({
        "Platform": { "Name": "Plimsoll" }, "Version": version, "ApiVersion": API_VERSION, "MinAPIVersion": API_VERSION_MIN,
        "Os": "linux", "Arch": architecture(), "KernelVersion": kernel(), "GitCommit": "", "GoVersion": "none (Rust)", "BuildTime": "",
        "Components": [{ "Name": "Engine", "Version": version, "Details": { "ApiVersion": API_VERSION, "MinAPIVersion": API_VERSION_MIN, "Os": "linux", "Arch": architecture() } }],
    }))
}

pub async fn info(docker: &Docker) -> Answer {
    let all = containers::all(docker).await;
    let live = all.iter().filter(|c| c.running()).count();
    let paused = all.iter().filter(|c| c.paused()).count();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    json_of(&json!({
        "ID": docker.inner.network.config().instance, "Name": std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim(),
        "Containers": all.len(), "ContainersRunning": live - paused, "ContainersPaused": paused, "ContainersStopped": all.len() - live,
        "Images": docker.inner.images.list().len(), "Driver": "overlay2", "DriverStatus": [], "LoggingDriver": "json-file",
        "Plugins": { "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["json-file"] },
        "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true, "CPUSet": true, "PidsLimit": true,
        "CgroupDriver": "cgroupfs", "CgroupVersion": docker.inner.engine.cgroup_version().to_string(), "IPv4Forwarding": true, "OomKillDisable": false, "KernelVersion": kernel(), "OperatingSystem": "Linux", "OSType": "linux",
        "Architecture": std::env::consts::ARCH, "NCPU": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "MemTotal": memory.unwrap_or(0) * 1024, "ServerVersion": env!("CARGO_PKG_VERSION"), "SecurityOptions": security_options(engine::app_armor()),
        "Warnings": null, "RegistryConfig": registries(docker.inner.images.registries()),
        "Swarm": { "LocalNodeState": "inactive" }, "DefaultRuntime": "plimsoll", "Runtimes": { "plimsoll": { "path": "plimsoll" } },
        "LiveRestoreEnabled": true, "Experimental": false, "Labels": [],
    }))
}

/// What is said about registries, in dockerd's form.
fn registries(registries: &image::Registries) -> serde_json::Value {
    let mirrors: Vec<_> = registries.mirrors.iter().map(|m| format!("{m}/")).collect();
    let mut indexes = serde_json::Map::new();
    let hub = json!({ "Name": "docker.io", "Mirrors": mirrors, "Secure": true, "Official": true });
    indexes.insert("docker.io".into(), hub);
    for host in &registries.insecure {
        let index =
            json!({ "Name": host.as_str(), "Mirrors": [], "Secure": false, "Official": false });
        indexes.insert(host.as_str().to_owned(), index);
    }
    json!({ "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"], "IndexConfigs": indexes, "Mirrors": mirrors })
}

/// In dockerd's order and words.
fn security_options(app_armor: engine::AppArmor) -> Vec<&'static str> {
    let named = (app_armor == engine::AppArmor::Ready).then_some("name=apparmor");
    named
        .into_iter()
        .chain(["name=seccomp,profile=builtin"])
        .collect()
}

pub async fn usage(docker: &Docker) -> Answer {
    let images = docker.inner.images.clone();
    let list: Vec<Value> = docker
        .inner
        .images
        .list()
        .iter()
        .map(|image| json!({ "Id": image.id, "RepoTags": image.tags, "Created": image.created.as_second(), "Size": image.size_bytes, "SharedSize": 0, "Containers": 0 }))
        .collect();
    let used = tokio::task::spawn_blocking({
        let images = images.clone();
        move || images.usage()
    })
    .await?;
    let mut rows = Vec::new();
    for container in containers::all(docker).await {
        let (images, id) = (images.clone(), container.id().to_owned());
        let size = tokio::task::spawn_blocking(move || images.snapshot_size(&id))
            .await?
            .unwrap_or(0);
        rows.push(json!({
            "Id": container.id(), "Names": [format!("/{}", container.record.name)], "Image": container.record.image, "ImageID": container.record.image_id,
            "Created": container.status.created_at.as_second(), "State": container.state(), "SizeRw": size, "SizeRootFs": size, "Mounts": [],
        }));
    }
    json_of(
        &json!({ "LayersSize": used.layers_bytes, "Images": list, "Containers": rows, "Volumes": [], "BuildCache": [] }),
    )
}

pub fn auth() -> Answer {
    json_of(&json!({ "Status": "Login Succeeded", "IdentityToken": "" }))
}
