//! The cluster's DNS: answers for services ([`zone`]), forwards everything else ([`forward`]) and
//! remembers what it was told ([`cache`]), on the bridge's address
//! only ([`server`]).

mod answer;
mod cache;
mod forward;
mod server;
mod zone;

pub(crate) use forward::{Forwarder, resolvers, search_domains};
pub(crate) use server::Server;
pub(crate) use zone::{Renewal, SharedZone, Zone, renewal};

/// What the DNS server of a cluster with these services says to a packet, as bytes for UDP; `None`: nothing, or something
/// that only another resolver knows. Pure: this is all that hostile bytes meet before they are forwarded.
pub fn dns_reply(
    config: &crate::Config,
    services: &[crate::Service],
    packet: &[u8],
) -> Option<Vec<u8>> {
    let zone = Zone::new(
        &config.cluster_domain,
        config.dns_ip,
        services.to_vec(),
        config.pod_cidrs(),
        config.service_cidrs(),
    );
    match answer::decide(&zone, packet) {
        answer::Outcome::Reply(message) => answer::udp_bytes(&message, packet),
        _ => None,
    }
}
