//! Network policies as rules need them: for each pod that some policy selects, what may reach it and what it may reach.

use std::net::IpAddr;

use crate::AddressSet;

/// A pod that policies restrict. One that is not listed is open in both directions.
///
/// Traffic between a pod and its own machine is never restricted, except questions to the cluster's DNS server: those
/// count as traffic to a pod with the server's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPolicy {
    /// The pod's address; a pod with several is listed with each.
    pub address: IpAddr,
    /// What may connect to it; `None`: everything. An empty list: nothing.
    pub ingress: Option<Vec<Allowance>>,
    /// What it may connect to; `None`: everything. An empty list: nothing.
    pub egress: Option<Vec<Allowance>>,
}

/// One permission. Answers of a permitted connection are permitted, and so is a connection that was there before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Allowance {
    /// `NAMESPACE/NAME` of the policy, for people who read the rules.
    pub policy: String,
    /// The other side; `None`: anybody. An empty set: nobody.
    pub peers: Option<AddressSet>,
    /// Destination ports; `None`: all, of every protocol. An empty list: none.
    pub ports: Option<Vec<PortRange>>,
}

/// Ports of one protocol, both ends included. All of them stand for the protocol itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// Transport protocol.
    pub transport: Transport,
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

/// Transport protocols that a policy can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Transport {
    /// As nftables spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        }
    }
}
