//! Which kernel parameters a pod may set: those that are its own and can harm nobody else.
//!
//! Follows the kubelet's `pkg/kubelet/sysctl` (`SafeSysctlAllowlist`) without further ones allowed by a setting.

use k8s_openapi::api::core::v1::Pod;

/// Each belongs to a namespace of the pod's own, and costs no memory of the machine.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Why the pod is not run here: reason and message of its status.
pub fn refusal(pod: &Pod) -> Option<(&'static str, String)> {
    let spec = pod.spec.as_ref()?;
    let wanted = spec.security_context.as_ref()?.sysctls.as_ref()?;
    wanted.iter().find_map(|sysctl| {
        // the kernel takes both ways of writing them
        let name = sysctl.name.replace('/', ".");
        let why = match name.split('.').next() {
            Some("net") if spec.host_network == Some(true) => "not allowed with host net enabled",
            Some("kernel") if spec.host_ipc == Some(true) => "not allowed with host ipc enabled",
            _ if !SAFE.contains(&name.as_str()) => "not allowlisted",
            _ => return None,
        };
        let message = format!("forbidden sysctl: {:?} {why}", sysctl.name);
        Some(("SysctlForbidden", message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_the_pods_own_may_be_set() {
        let refused = |names: &[&str], spec: serde_json::Value| {
            let sysctls: Vec<_> = names
                .iter()
                .map(|name| json!({"name": name, "value": "1"}))
                .collect();
            let mut spec = spec;
            spec["containers"] = json!([]);
            spec["securityContext"] = json!({"sysctls": sysctls});
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
            refusal(&pod).map(|(_, message)| message)
        };
        let safe = "net.ipv4.ip_unprivileged_port_start";
        assert_eq!(refused(&[], json!({})), None);
        assert_eq!(refused(&[safe, "kernel.shm_rmid_forced"], json!({})), None);
        assert_eq!(refused(&["net/ipv4/tcp_rmem"], json!({})), None);
        let unsafe_one = Some("forbidden sysctl: \"kernel.msgmax\" not allowlisted".to_owned());
        assert_eq!(refused(&[safe, "kernel.msgmax"], json!({})), unsafe_one);
        let host = Some(format!(
            "forbidden sysctl: {safe:?} not allowed with host net enabled"
        ));
        assert_eq!(refused(&[safe], json!({"hostNetwork": true})), host);
        let shared =
            "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host ipc enabled";
        let found = refused(&["kernel.shm_rmid_forced"], json!({"hostIPC": true}));
        assert_eq!(found.as_deref(), Some(shared));
    }
}
