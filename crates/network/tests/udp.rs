//! UDP flows of clients that keep their port, which the kernel would keep sending where they once went.

mod common;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use common::{HOST_ADDRESS, Machine, Namespace, open};
use network::{Network, Protocol, Published, Service, ServicePort};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 112, 1, 20), 5000);
const PUBLISHED: SocketAddrV4 = SocketAddrV4::new(HOST_ADDRESS, 8053);

/// A client with one socket for all its questions.
struct Client(UdpSocket);

impl Client {
    fn of(namespace: &Namespace, server: SocketAddrV4) -> Self {
        let socket = namespace.within(|| UdpSocket::bind("0.0.0.0:4000").expect("free"));
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("set");
        socket.connect(server).expect("connected");
        Self(socket)
    }

    /// The answer; a refusal is told by its kind.
    fn ask(&self) -> String {
        let mut buffer = [0; 16];
        let answer = self
            .0
            .send(b"?")
            .and_then(|_| self.0.recv(&mut buffer))
            .map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned());
        answer.unwrap_or_else(|error| error.kind().to_string())
    }
}

fn udp_service(endpoints: &[SocketAddrV4]) -> Service {
    let ends: Vec<SocketAddr> = endpoints.iter().map(|end| (*end).into()).collect();
    Service {
        namespace: "default".into(),
        name: "udp".into(),
        cluster_ips: vec![(*SERVICE.ip()).into()],
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Udp,
            port: SERVICE.port(),
            node_port: None,
            balanced: true,
            endpoints: ends.clone(),
            local_endpoints: ends,
        }],
        ..Service::default()
    }
}

fn published(target: SocketAddrV4) -> Published {
    Published {
        host_ip: None,
        host_port: PUBLISHED.port(),
        target: target.into(),
        protocol: Protocol::Udp,
    }
}

/// Two pods that serve UDP by their name, and a third.
struct Scene {
    machine: Machine,
    a: Namespace,
    b: Namespace,
    c: Namespace,
    ends: [SocketAddrV4; 2],
}

impl Scene {
    fn new() -> Self {
        let (machine, [a, b, c]) = (Machine::new(), std::array::from_fn(|_| Namespace::new()));
        let paths = [a.path(), b.path(), c.path()];
        let (config, options) = (machine.config(1), machine.options());
        let ends = machine.run(move || async move {
            let network = open(config, options).await;
            let mut ends = Vec::new();
            for (path, id) in paths.iter().zip(["a", "b", "c"]) {
                let made = network.attach(path, id).await.expect("attached");
                ends.push(SocketAddrV4::new(made.address, 5000));
            }
            [ends[0], ends[1]]
        });
        a.serve_udp(5000, "a");
        b.serve_udp(5000, "b");
        Self {
            machine,
            a,
            b,
            c,
            ends,
        }
    }

    /// Each call is another process of the instance.
    fn with<Fut: Future<Output = ()>>(&self, work: impl FnOnce(Network) -> Fut + Send + 'static) {
        let (config, options) = (self.machine.config(1), self.machine.options());
        self.machine
            .run(move || async move { work(open(config, options).await).await });
    }
}

#[test]
fn an_endpoint_that_vanishes_while_the_daemon_is_gone_is_left_too() {
    let scene = Scene::new();
    let [a, b] = scene.ends;
    let clients = [
        Client::of(&scene.c, SERVICE),
        Client::of(&scene.machine.host, SERVICE),
        // A pod to itself.
        Client::of(&scene.b, SERVICE),
    ];
    for (endpoints, expected) in [(vec![a], "a"), (vec![b], "b"), (vec![a], "a")] {
        scene.with(move |network| async move {
            let services = vec![udp_service(&endpoints)];
            network.set_services(services).await.expect("applied");
        });
        for client in &clients {
            assert_eq!(client.ask(), expected);
        }
    }
    // Without endpoints it is refused, and afterwards reached again.
    scene.with(move |network| async move {
        let none = vec![udp_service(&[])];
        network.set_services(none).await.expect("applied");
    });
    assert_eq!(
        clients[0].ask(),
        std::io::ErrorKind::ConnectionRefused.to_string()
    );
    scene.with(move |network| async move {
        let services = vec![udp_service(&[b])];
        network.set_services(services).await.expect("applied");
    });
    for client in &clients {
        assert_eq!(client.ask(), "b");
    }
    drop(scene.a);
}

#[test]
fn a_published_port_takes_over_flows_that_began_before_it() {
    let scene = Scene::new();
    let [a, b] = scene.ends;
    // Something on this machine answers until the port is published.
    scene.machine.host.serve_udp(PUBLISHED.port(), "host");
    let client = Client::of(&scene.machine.outside, PUBLISHED);
    assert_eq!(client.ask(), "host");
    scene.with(move |network| async move {
        let ports = vec![published(a)];
        network.set_published("a", ports).await.expect("published");
    });
    assert_eq!(client.ask(), "a");
    // The container goes, and another takes its port.
    scene.with(move |network| async move {
        network.detach("a").await.expect("detached");
        let ports = vec![published(b)];
        network.set_published("b", ports).await.expect("published");
    });
    assert_eq!(client.ask(), "b");
    scene.with(|network| async move {
        network
            .set_published("b", Vec::new())
            .await
            .expect("published");
    });
    assert_eq!(client.ask(), "host");
}
