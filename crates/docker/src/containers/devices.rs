//! `--device`: devices of the machine for a container.

use engine::Device;
use serde::{Deserialize, Serialize};

use crate::record::HostConfig;
use crate::reply::Refusal;

/// One `--device`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceRequest {
    pub path_on_host: String,
    pub path_in_container: String,
    pub cgroup_permissions: String,
}

/// The engine's words for it. Whether there is such a device is seen when the container starts, as with dockerd.
///
/// # Errors
/// A path that is none.
pub fn of(host: &HostConfig) -> Result<Vec<Device>, Refusal> {
    host.devices.iter().map(device).collect()
}

fn device(request: &DeviceRequest) -> Result<Device, Refusal> {
    let or = |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
    let source = &request.path_on_host;
    let target = or(&request.path_in_container, source);
    for path in [source, &target] {
        if !path.starts_with('/') {
            return Err(Refusal::bad(format!("{path:?} is not an absolute path")));
        }
    }
    Ok(Device {
        source: source.into(),
        target,
        access: or(&request.cgroup_permissions, "rwm"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_as_the_command_sends_them() {
        let text = r#"{"Devices":[{"PathOnHost":"/dev/fuse","PathInContainer":"/dev/x","CgroupPermissions":"r"},{"PathOnHost":"/dev/kvm"}]}"#;
        let host: HostConfig = serde_json::from_str(text).expect("valid");
        let devices = of(&host).unwrap_or_else(|_| panic!("{text}"));
        let shown: Vec<String> = devices
            .iter()
            .map(|one| format!("{} {} {}", one.source.display(), one.target, one.access))
            .collect();
        assert_eq!(shown, ["/dev/fuse /dev/x r", "/dev/kvm /dev/kvm rwm"]);
        let shown = serde_json::to_value(&host).expect("encode");
        assert_eq!(shown["Devices"][0]["PathInContainer"], "/dev/x");
        // a name of the Container Device Interface
        let named = r#"{"Devices":[{"PathOnHost":"vendor.com/gpu=all"}]}"#;
        assert!(of(&serde_json::from_str(named).expect("valid")).is_err());
    }
}
