//! The network of one instance on one machine: a bridge with an address for every pod and container, service
//! addresses that balance over endpoints (nftables), published ports, and the cluster's DNS.
//!
//! It is given desired state and makes the kernel agree; it watches nothing. Everything it creates carries the
//! instance's name, survives the process, is found again by [`Network::open`], and goes with [`Network::purge`].

#![forbid(unsafe_code)]

mod addresses;
mod attach;
mod bridge;
mod conntrack;
mod dial;
mod dns;
mod error;
mod families;
mod family;
mod files;
mod foreign;
mod heal;
mod leases;
mod link;
mod loopback;
mod names;
mod netfilter;
mod netns;
mod network;
mod policy;
mod ranges;
mod rules;
mod system;
mod types;

pub use addresses::AddressSet;
pub use dial::dial_loopback;
pub use dns::dns_reply;
pub use error::Error;
pub use family::Family;
pub use network::{Network, Options};
pub use policy::{Allowance, PodPolicy, PortRange, Transport};
pub use ranges::{choose_ipv6_ranges, choose_ranges, machine_addresses, taken_ranges};
pub use system::has_ipv6;
pub use types::{
    Attachment, Config, Ipv6Attachment, Ipv6Ranges, Protocol, Published, Service, ServiceHost,
    ServicePort,
};
