//! What an API server is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of one API server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The instance's data directory; the PKI lives in `pki/` beneath it.
    pub data_dir: PathBuf,
    /// IPv4 range from which `clusterIP`s come, for example `10.96.0.0/16`. Its first address is the
    /// service `default/kubernetes`.
    pub service_cidr: String,
    /// The same for IPv6, for example `fd00:1::/112`; `None`: services have IPv4 alone.
    pub service_cidr6: Option<String>,
    /// Range of node ports, inclusive.
    pub node_ports: (u16, u16),
    /// DNS domain of the cluster, for example `cluster.local`.
    pub cluster_domain: String,
    /// Largest accepted request body in bytes; more gives 413 `RequestEntityTooLarge`.
    pub max_body_bytes: usize,
    /// Address that `default/kubernetes` points at. `None` leaves its EndpointSlice out.
    pub advertise_address: Option<SocketAddr>,
    /// Another server's address in that service is left as it is: several servers share the store, and this one is not the
    /// one that pods are to use.
    pub advertise_only_if_absent: bool,
    /// How many recent changes of each resource are kept for watchers that resume, for ten minutes at most.
    pub watch_window: usize,
    /// How many bytes of them.
    pub watch_window_bytes: usize,
    /// How long an event is kept after it was last heard of.
    pub event_ttl: Duration,
    /// How many events are kept; of more, those last heard of the longest ago go.
    pub events_max: usize,
    /// What clients may take.
    pub limits: Limits,
}

/// Bounds on what clients can hold of the server, however slow or many they are.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most connections at one time; more are closed at once.
    pub connections_max: usize,
    /// Most requests that read at one time, of the administrators, nodes and control plane, and as many of everybody
    /// else; of one user half as many. More wait their turn for 15 s at most, then get 429.
    pub reads_max: usize,
    /// The same of requests that write.
    pub writes_max: usize,
    /// How long a request may take that is none that lasts; more gets 504. Clients ask for less by `timeout`.
    pub request_timeout: Duration,
    /// Most open watches; more get 429.
    pub watches_max: usize,
    /// Most open watches of one user; more get 429.
    pub watches_per_user_max: usize,
    /// Most logs, exec, attach, port-forward and proxied requests at one time; more get 429.
    pub streams_to_nodes_max: usize,
    /// The same of one user.
    pub streams_to_nodes_per_user_max: usize,
    /// Most bytes of long answers that clients have asked for and not read; more get 429.
    pub unsent_bytes_max: usize,
    /// The same of one user. One answer may be longer than either.
    pub unsent_bytes_per_user_max: usize,
    /// Most requests at one time on one HTTP/2 connection.
    pub streams_max: u32,
    /// Largest head of a request, in bytes.
    pub head_bytes_max: u32,
    /// Longest path, in bytes, without the query; more gets 414.
    pub path_bytes_max: usize,
    /// How long the TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long an HTTP/1.1 connection may take to send a request's head, idling included.
    pub head_timeout: Duration,
    /// How long a request's body may take; more gets 408.
    pub body_timeout: Duration,
    /// How long an HTTP/2 connection may be open without a request; then it is closed.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 8192,
            reads_max: 400,
            writes_max: 200,
            request_timeout: Duration::from_secs(60),
            watches_max: 16384,
            watches_per_user_max: 4096,
            streams_to_nodes_max: 2048,
            streams_to_nodes_per_user_max: 512,
            unsent_bytes_max: 256 * 1024 * 1024,
            unsent_bytes_per_user_max: 64 * 1024 * 1024,
            streams_max: 250,
            head_bytes_max: 128 * 1024,
            path_bytes_max: 4096,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(90),
            body_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(90),
        }
    }
}

impl Config {
    /// The defaults: service range 10.96.0.0/16, domain `cluster.local`, bodies up to 3 MiB (as upstream).
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            service_cidr: "10.96.0.0/16".into(),
            service_cidr6: None,
            node_ports: (30000, 32767),
            cluster_domain: "cluster.local".into(),
            max_body_bytes: 3 * 1024 * 1024,
            advertise_address: None,
            advertise_only_if_absent: false,
            watch_window: 4096,
            watch_window_bytes: 4 * 1024 * 1024,
            event_ttl: Duration::from_secs(3600),
            events_max: 3000,
            limits: Limits::default(),
        }
    }
}
