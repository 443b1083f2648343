//! Node ports on 127.0.0.1, as kube-proxy's iptables mode has them and people's habits expect.
//!
//! The kernel sends a packet from 127.0.0.1 to the bridge only if `route_localnet` is on there. It is a setting of our own
//! bridge and goes with it. What it would open, loopback of this machine to the pods, the rules close again (the chain
//! `guard`), before anything else looks at a packet.

/// Lets connections to loopback's node ports leave through `bridge`. Where the machine forbids it, node ports do
/// not answer on 127.0.0.1, and all else works.
pub(crate) fn open(bridge: &str) {
    let path = format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet");
    if let Err(error) = std::fs::write(&path, "1") {
        tracing::warn!(%error, path, "node ports will not answer on 127.0.0.1");
    }
}
