//! The roles that can have processes of their own.

use serde::Deserialize;

/// A role beside the API server.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// What makes objects of objects: kube-controller-manager
    Controllers,
    /// What finds a node for each pod: kube-scheduler
    Scheduler,
    /// What runs pods: kubelet, kube-proxy, DNS, and Docker's API
    Node,
}

impl Role {
    /// As in the command line, and in names of files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Controllers => "controllers",
            Self::Scheduler => "scheduler",
            Self::Node => "node",
        }
    }

    /// The user and the group that it is to the API: upstream's.
    pub fn user(self, node_name: &str) -> (String, Option<&'static str>) {
        match self {
            Self::Controllers => ("system:kube-controller-manager".into(), None),
            Self::Scheduler => ("system:kube-scheduler".into(), None),
            Self::Node => (format!("system:node:{node_name}"), Some("system:nodes")),
        }
    }

    /// The Lease in `kube-system` that the working one of several holds: upstream's.
    pub fn lease(self) -> &'static str {
        match self {
            Self::Controllers => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Node => "",
        }
    }
}
