//! Where etcd is, who this program is to it, and the limits.

use std::fmt;
use std::time::Duration;

use crate::Error;
use crate::memory::Limits;

/// How etcd is reached, and how much of it is kept in memory.
#[derive(Clone, Debug)]
pub struct Options {
    /// The members, each `host:port` (IPv6 in brackets). Tried in turn.
    pub endpoints: Vec<String>,
    /// TLS; without it connections are in the clear.
    pub tls: Option<Tls>,
    /// Whom to log in as, when etcd has authentication switched on.
    pub user: Option<User>,
    /// Only keys that start with this are kept in memory and can be read; the others count for
    /// nothing but their revisions. Empty: all keys.
    pub prefix: String,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long etcd may take to answer. A write that takes longer is
    /// [`Error::Undecided`].
    pub request_timeout: Duration,
    /// How long opening the store may take, with all reading and retrying.
    pub open_timeout: Duration,
    /// The longest pause between two attempts to connect again.
    pub backoff_max: Duration,
    /// The largest message that is taken from etcd.
    pub message_bytes_max: usize,
    /// How many recent changes are retained in memory.
    pub history_changes_max: usize,
    /// How many bytes of overwritten and deleted values are retained in memory.
    pub history_bytes_max: usize,
    /// How many changes one [`WatchItem::Changes`](crate::WatchItem) holds at most.
    pub watch_batch_changes_max: usize,
    /// How often a quiet watch reports progress, if other keys changed.
    pub progress_interval: Duration,
    /// How long etcd keeps old revisions; `None`: somebody else compacts. Upstream's API server
    /// has five minutes.
    pub compaction_interval: Option<Duration>,
}

/// Certificates, in PEM.
#[derive(Clone)]
pub struct Tls {
    /// Whose certificates etcd's members have.
    pub authority: Vec<u8>,
    /// This program's certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that the members' certificates carry, when it is not the host of the endpoint.
    pub server_name: Option<String>,
}

/// A user of etcd.
#[derive(Clone)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// The defaults, for these members.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            tls: None,
            user: None,
            prefix: String::new(),
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            open_timeout: Duration::from_secs(60),
            backoff_max: Duration::from_secs(2),
            message_bytes_max: 64 * 1024 * 1024,
            history_changes_max: 10_000,
            history_bytes_max: 8 * 1024 * 1024,
            watch_batch_changes_max: 256,
            progress_interval: Duration::from_secs(5),
            compaction_interval: None,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            history_changes_max: self.history_changes_max.max(1),
            history_bytes_max: self.history_bytes_max,
            watch_batch_changes_max: self.watch_batch_changes_max,
            progress_interval: self.progress_interval,
        }
    }
}

/// The endpoints of `etcd://HOST:PORT[,HOST:PORT]...` (in the clear unless TLS is set otherwise) or
/// `etcds://...`, and whether TLS is demanded. The port may be left out: it is 2379.
///
/// [`Error::Refused`] with what is wrong in it.
pub fn parse_url(url: &str) -> Result<(Vec<String>, bool), Error> {
    let wrong = |reason: String| Error::Refused {
        attempted: format!("read the store {url:?}"),
        reason: format!("{reason}; write etcd://HOST:PORT[,HOST:PORT]..."),
    };
    let (hosts, tls) = if let Some(hosts) = url.strip_prefix("etcds://") {
        (hosts, true)
    } else if let Some(hosts) = url.strip_prefix("etcd://") {
        (hosts, false)
    } else {
        return Err(wrong("it does not begin with etcd:// or etcds://".into()));
    };
    let endpoints = hosts
        .trim_end_matches('/')
        .split(',')
        .map(|host| endpoint(host).map_err(&wrong))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((endpoints, tls))
}

fn endpoint(host: &str) -> Result<String, String> {
    const PORT: u16 = 2379;
    if host.is_empty() {
        return Err("a host is missing".into());
    }
    if host.contains(['/', '@', '?', '#', ' ']) {
        return Err(format!("{host:?} is not a host with a port"));
    }
    let after_brackets = host.rfind(']').map_or(0, |end| end + 1);
    match host[after_brackets..].rsplit_once(':') {
        None => Ok(format!("{host}:{PORT}")),
        Some((name, _)) if name.contains(':') => {
            Err(format!("the IPv6 address {host:?} must be in brackets"))
        }
        Some((name, port)) => {
            if name.is_empty() && after_brackets == 0 {
                return Err("a host is missing".into());
            }
            match port.parse::<u16>() {
                Ok(1..) => Ok(host.to_string()),
                _ => Err(format!("{port:?} is not a port")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_members() {
        let cases: [(&str, Result<(&[&str], bool), &str>); 12] = [
            ("etcd://a:1", Ok((&["a:1"], false))),
            ("etcd://a", Ok((&["a:2379"], false))),
            ("etcds://a:1,b:2,c", Ok((&["a:1", "b:2", "c:2379"], true))),
            ("etcd://[::1]:9/", Ok((&["[::1]:9"], false))),
            ("etcd://[::1]", Ok((&["[::1]:2379"], false))),
            ("etcd://", Err("a host is missing")),
            ("etcd://a:1,,b", Err("a host is missing")),
            ("etcd://:1", Err("a host is missing")),
            ("etcd://::1", Err("must be in brackets")),
            ("etcd://a:0", Err("\"0\" is not a port")),
            ("etcd://user@a:1", Err("is not a host with a port")),
            ("http://a:1", Err("does not begin with etcd://")),
        ];
        for (url, expected) in cases {
            match (parse_url(url), expected) {
                (Ok((endpoints, tls)), Ok((hosts, secure))) => {
                    assert_eq!(
                        (&endpoints[..], tls),
                        (
                            &hosts.iter().map(|h| h.to_string()).collect::<Vec<_>>()[..],
                            secure
                        ),
                        "{url}"
                    );
                }
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{url}: {error}");
                }
                (found, _) => panic!("{url}: {found:?}"),
            }
        }
    }
}
