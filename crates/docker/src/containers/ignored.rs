//! Options that are taken and have no effect: whoever gives one is told so.

use serde_json::Value;

use crate::record::{Config, HostConfig};
use crate::reply::Refusal;

/// Fields of `HostConfig`, and the option of `docker run` by which they are known.
const OF_HOST: [(&str, &str); 29] = [
    ("BlkioDeviceReadBps", "--device-read-bps"),
    ("BlkioDeviceReadIOps", "--device-read-iops"),
    ("BlkioDeviceWriteBps", "--device-write-bps"),
    ("BlkioDeviceWriteIOps", "--device-write-iops"),
    ("BlkioWeight", "--blkio-weight"),
    ("BlkioWeightDevice", "--blkio-weight-device"),
    ("Cgroup", "HostConfig.Cgroup"),
    ("CgroupParent", "--cgroup-parent"),
    ("CpuPercent", "--cpu-percent"),
    ("CpuRealtimePeriod", "--cpu-rt-period"),
    ("CpuRealtimeRuntime", "--cpu-rt-runtime"),
    ("CpusetMems", "--cpuset-mems"),
    ("DeviceCgroupRules", "--device-cgroup-rule"),
    ("DeviceRequests", "--gpus"),
    ("DnsOptions", "--dns-option"),
    ("DnsSearch", "--dns-search"),
    ("Init", "--init"),
    ("IOMaximumBandwidth", "--io-maxbandwidth"),
    ("IOMaximumIOps", "--io-maxiops"),
    ("KernelMemoryTCP", "HostConfig.KernelMemoryTCP"),
    ("Links", "--link"),
    ("MemoryReservation", "--memory-reservation"),
    ("MemorySwap", "--memory-swap"),
    ("MemorySwappiness", "--memory-swappiness"),
    ("OomKillDisable", "--oom-kill-disable"),
    ("ShmSize", "--shm-size"),
    ("StorageOpt", "--storage-opt"),
    ("UTSMode", "--uts"),
    ("VolumeDriver", "--volume-driver"),
];
/// The same of `Config`.
const OF_CONFIG: [(&str, &str); 3] = [
    ("Domainname", "--domainname"),
    ("MacAddress", "--mac-address"),
    ("NetworkDisabled", "Config.NetworkDisabled"),
];
/// The same of a network's part of `NetworkingConfig`.
const OF_ENDPOINT: [(&str, &str); 5] = [
    ("Aliases", "--network-alias"),
    ("DriverOpts", "--network driver-opt"),
    ("IPAMConfig", "--ip, --ip6 or --link-local-ip"),
    ("Links", "--link"),
    ("MacAddress", "--mac-address"),
];
/// Names of the one runtime that there is.
const RUNTIMES: [&str; 4] = ["", "plimsoll", "runc", "io.containerd.runc.v2"];

/// What is said of a container's options that have no effect.
pub fn warnings(config: &Config, host: &HostConfig, networking: Option<&Value>) -> Vec<String> {
    let mut options: Vec<&str> = Vec::new();
    for (field, option) in OF_HOST {
        let given = host.rest.get(field).is_some_and(|value| match field {
            // -1 is how clients say nothing; swap that comes to nothing is what there is
            "MemorySwappiness" => *value != -1 && !is_empty(value),
            "MemorySwap" => *value != host.memory && !is_empty(value),
            _ => !is_empty(value),
        });
        options.extend(given.then_some(option));
    }
    if let Some(log) = host.rest.get("LogConfig") {
        let driver = log["Type"].as_str().unwrap_or_default();
        options.extend((!["", "json-file"].contains(&driver)).then_some("--log-driver"));
        options.extend((!is_empty(&log["Config"])).then_some("--log-opt"));
    }
    if host
        .group_add
        .iter()
        .any(|group| group.parse::<u32>().is_err())
    {
        options.push("--group-add of a group's name");
    }
    let given = OF_CONFIG.into_iter().filter(|(field, _)| {
        config
            .rest
            .get(*field)
            .is_some_and(|value| !is_empty(value))
    });
    options.extend(given.map(|(_, option)| option));
    let endpoints = networking.and_then(|networking| networking["EndpointsConfig"].as_object());
    for endpoint in endpoints.into_iter().flat_map(serde_json::Map::values) {
        let given = OF_ENDPOINT
            .into_iter()
            .filter(|(field, _)| !is_empty(&endpoint[*field]));
        options.extend(given.map(|(_, option)| option));
    }
    options.sort_unstable();
    options.dedup();
    let said = options
        .into_iter()
        .map(|option| format!("{option} is not supported and has no effect"));
    said.collect()
}

/// One runtime is there, and it does not become another one by its name.
///
/// # Errors
/// A name that it does not have.
pub fn check_runtime(host: &HostConfig) -> Result<(), Refusal> {
    let named = host.rest.get("Runtime").and_then(Value::as_str);
    match named.filter(|name| !RUNTIMES.contains(name)) {
        Some(name) => Err(Refusal::bad(format!(
            "unknown or invalid runtime name: {name}"
        ))),
        None => Ok(()),
    }
}

/// Nothing, in one of the ways in which clients write it.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(given) => !given,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(config: Value, host: Value, networking: Value) -> Vec<String> {
        let config = serde_json::from_value(config).expect("a configuration");
        let host = serde_json::from_value(host).expect("a host configuration");
        warnings(&config, &host, Some(&networking))
            .into_iter()
            .map(|text| text.replace(" is not supported and has no effect", ""))
            .collect()
    }

    #[test]
    fn what_has_no_effect_is_told() {
        // as the docker command sends it when nothing of it is asked for
        let nothing = told(
            json!({"Domainname": "", "OnBuild": null}),
            json!({"MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": -1, "OomKillDisable": false, "DeviceCgroupRules": null, "Links": null,
                "BlkioWeightDevice": [], "LogConfig": {"Type": "", "Config": {}}, "ConsoleSize": [24, 80], "IpcMode": "private", "Isolation": ""}),
            json!({"EndpointsConfig": {"default": {"IPAMConfig": {}, "Aliases": null, "MacAddress": "", "Links": []}}}),
        );
        assert_eq!(nothing, Vec::<String>::new());
        let all = told(
            json!({"MacAddress": "02:42:ac:11:00:02"}),
            json!({"Memory": 1024, "MemorySwap": -1, "MemoryReservation": 1024, "CpusetMems": "0", "GroupAdd": ["5", "audio"], "CgroupParent": "/x",
                "StorageOpt": {"size": "1G"}, "BlkioWeight": 10, "OomKillDisable": true, "LogConfig": {"Type": "syslog", "Config": {"tag": "a"}}}),
            json!({"EndpointsConfig": {"bridge": {"IPAMConfig": {"IPv4Address": "172.17.0.9"}, "Aliases": ["a"], "MacAddress": "02:42:ac:11:00:02"}}}),
        );
        assert_eq!(
            all,
            [
                "--blkio-weight",
                "--cgroup-parent",
                "--cpuset-mems",
                "--group-add of a group's name",
                "--ip, --ip6 or --link-local-ip",
                "--log-driver",
                "--log-opt",
                "--mac-address",
                "--memory-reservation",
                "--memory-swap",
                "--network-alias",
                "--oom-kill-disable",
                "--storage-opt",
            ]
        );
        let swap = told(
            json!({}),
            json!({"Memory": 1024, "MemorySwap": 1024}),
            json!({}),
        );
        assert_eq!(swap, Vec::<String>::new(), "no swap is what there is");
    }

    #[test]
    fn runtimes_by_their_names() {
        for (name, known) in [("", true), ("runc", true), ("nvidia", false)] {
            let host = json!({ "Runtime": name });
            let host = serde_json::from_value(host).expect("a host configuration");
            assert_eq!(check_runtime(&host).is_ok(), known, "{name}");
        }
    }
}
