//! What can go wrong in this room: what was attempted, on what, why it failed, what to do.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// An error of the network room.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot work, whatever the machine looks like.
    #[error("network configuration: {0}")]
    Config(String),
    /// A program or a kernel feature that this room needs is missing.
    #[error("{what} is missing: {hint}")]
    Missing {
        /// What was looked for.
        what: String,
        /// How the user gets it.
        hint: String,
    },
    /// A link, address or route could not be read or changed.
    #[error("{action}: {reason}")]
    Link {
        /// What was attempted, on what.
        action: String,
        /// What the kernel answered.
        reason: String,
    },
    /// A network namespace could not be entered.
    #[error("cannot enter the network namespace {path}: {source}")]
    Namespace {
        /// The file that names the namespace.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// All addresses of the pod range are leased.
    #[error(
        "no free address in the pod range {range} ({leased} leased): remove containers, or make the instance with a larger range"
    )]
    AddressesExhausted {
        /// The pod range.
        range: String,
        /// How many addresses are leased.
        leased: usize,
    },
    /// An object of that name exists and is not ours.
    #[error("{object} exists and belongs to something else: {hint}")]
    Foreign {
        /// The object that is in the way.
        object: String,
        /// What the user can do.
        hint: String,
    },
    /// The packet filter refused a transaction; nothing of it was applied.
    #[error("the rules of table {table} were refused: {reason}")]
    Rules {
        /// The table that was to be changed.
        table: String,
        /// What nft or the kernel said, shortened.
        reason: String,
    },
    /// A file of the state directory, or of /proc, could not be read or written.
    #[error("{action} {path}: {source}")]
    File {
        /// What was attempted: "read", "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A record of the state directory cannot be understood.
    #[error("{path} is damaged ({reason}): move it away to start with an empty one")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The DNS server could not listen.
    #[error("cannot listen for DNS on {address}:53: {source}")]
    DnsListen {
        /// The bridge's address.
        address: Ipv4Addr,
        /// Why it failed.
        source: io::Error,
    },
    /// No free range was found for a new instance.
    #[error("no free address range was found: {0}")]
    NoRange(String),
    /// Something else on this machine has begun to use a range of this instance.
    #[error(
        "the {what} range {range} of this instance is taken: this machine also has a route to {other}. Remove that (`ip route`, `ip address`, or stop the VPN or bridge that made it) and start again, or move the instance: {}",
        match *what {
            "pod" => "`plimsoll down`, write a free range as pod_cidr (of IPv6: pod_cidr6) into instance.json in its data directory, `plimsoll up`",
            _ => "its services have addresses of this range, so make a new one with another data directory",
        }
    )]
    RangeTaken {
        /// "pod" or "service".
        what: &'static str,
        /// The range.
        range: String,
        /// What uses it, and on which interface.
        other: String,
    },
    /// The instance was purged; this handle is of no use any more.
    #[error("the network of this instance was purged")]
    Purged,
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Error::File {
            action,
            path: path.into(),
            source,
        }
    }

    pub(crate) fn link(action: impl Into<String>, reason: impl ToString) -> Self {
        Error::Link {
            action: action.into(),
            reason: reason.to_string(),
        }
    }
}
