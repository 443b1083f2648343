//! The DNS server, asked by a stock client (busybox nslookup) and by bare packets.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::{Machine, NOWHERE, Namespace, OUTSIDE_ADDRESS, open, service};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use network::{Network, Service};

const WEB: &str = "web.default.svc.cluster.local";

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

fn ask_udp(server: Ipv4Addr, packet: &[u8]) -> Message {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    socket.connect((server, 53)).unwrap();
    socket.send(packet).unwrap();
    let mut buffer = vec![0; 65535];
    let length = socket.recv(&mut buffer).unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

fn ask_tcp(server: Ipv4Addr, packet: &[u8]) -> Message {
    let mut stream = TcpStream::connect((server, 53)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut framed = (packet.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(packet);
    stream.write_all(&framed).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    Message::from_vec(&answer).unwrap()
}

fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    message
        .answers
        .iter()
        .filter_map(|record| match record.data {
            RData::A(A(address)) => Some(address),
            _ => None,
        })
        .collect()
}

/// A resolver on the machine outside: `big.example` has 60 addresses, which only TCP carries; others have one.
/// Returns how many questions it was asked over UDP.
fn serve_resolver(outside: &Namespace) -> Arc<AtomicU32> {
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    fn reply(packet: &[u8], tcp: bool) -> Vec<u8> {
        let query = Message::from_vec(packet).unwrap();
        let name = query.queries[0].name.clone();
        let mut reply = query.clone().into_response();
        let many = name.to_ascii() == "big.example.";
        if many && !tcp {
            return reply.truncate().to_vec().unwrap();
        }
        if name.to_ascii() == "lost.example." {
            reply.metadata.response_code = ResponseCode::NXDomain;
            let of = |text: &str| Name::from_ascii(text).unwrap();
            let soa = SOA::new(of("ns.example."), of("me.example."), 1, 2, 3, 4, 60);
            reply.add_authority(Record::from_rdata(of("example."), 60, RData::SOA(soa)));
            return reply.to_vec().unwrap();
        }
        for n in 0..if many { 60 } else { 1 } {
            let data = RData::A(A(Ipv4Addr::new(203, 0, 113, n)));
            let ttl = if name.to_ascii() == "brief.example." {
                0
            } else {
                60
            };
            reply.add_answer(Record::from_rdata(name.clone(), ttl, data));
        }
        reply.to_vec().unwrap()
    }
    let udp = outside.within(|| UdpSocket::bind((OUTSIDE_ADDRESS, 53)).unwrap());
    std::thread::spawn(move || {
        let mut buffer = vec![0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::SeqCst);
            let mut answer = reply(&buffer[..length], false);
            // First a forged answer with another id: it must not be taken.
            answer[0] ^= 0xff;
            let _ = udp.send_to(&answer, from);
            answer[0] ^= 0xff;
            let _ = udp.send_to(&answer, from);
        }
    });
    let tcp = outside.within(|| TcpListener::bind((OUTSIDE_ADDRESS, 53)).unwrap());
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut packet).unwrap();
            let answer = reply(&packet, true);
            let _ = stream.write_all(&(answer.len() as u16).to_be_bytes());
            let _ = stream.write_all(&answer);
        }
    });
    asked
}

/// Opens the network with one service and hands it on together with an attached pod.
fn with<F, Fut>(machine: &Machine, pod: &Namespace, work: F)
where
    F: FnOnce(Network) -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    let (config, options, path) = (machine.config(1), machine.options(), pod.path());
    machine.run(move || async move {
        let network = open(config, options).await;
        network.attach(&path, "pod").await.expect("attached");
        let mut services = vec![service("web", Ipv4Addr::new(10, 112, 1, 20), 80, NOWHERE)];
        services.push(Service {
            namespace: "default".into(),
            name: "outer".into(),
            external_name: Some("www.example".into()),
            ..Service::default()
        });
        network.set_services(services).await.expect("applied");
        work(network).await;
    });
}

/// Like [`Namespace::within`], but leaves the runtime free to serve meanwhile.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("the work panicked")
}

#[test]
fn a_stock_client_in_a_pod_resolves_services() {
    let (machine, pod) = (Machine::new(), Namespace::new());
    let name = pod.name.clone();
    with(&machine, &pod, |network| async move {
        let gateway = network.gateway().to_string();
        let dns_ip = network.config().dns_ip.to_string();
        for server in [gateway.clone(), dns_ip] {
            let pod = std::mem::ManuallyDrop::new(Namespace { name: name.clone() });
            blocking(move || {
                let text = pod.text(&["busybox", "nslookup", "-type=a", WEB, &server]);
                assert!(text.contains("Address: 10.112.1.20"), "{text}");
                let missing = pod.command(&[
                    "busybox",
                    "nslookup",
                    "no.default.svc.cluster.local",
                    &server,
                ]);
                let text = String::from_utf8_lossy(&missing.stdout).into_owned();
                assert!(
                    !missing.status.success() && text.contains("NXDOMAIN"),
                    "{text}"
                );
                let reverse = pod.text(&["busybox", "nslookup", "10.112.1.20", &server]);
                assert!(reverse.contains(WEB), "{reverse}");
            })
            .await;
        }
        assert_eq!(
            network.resolv_conf(Some("shop")),
            format!(
                "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver {gateway}\noptions ndots:5\n"
            )
        );
        assert_eq!(network.resolv_conf(None), format!("nameserver {gateway}\n"));
    });
}

#[test]
fn other_names_are_forwarded_with_truncation_tcp_and_failure() {
    let (machine, pod) = (Machine::new(), Namespace::new());
    serve_resolver(&machine.outside);
    let resolv_conf = machine.directory.path().join("resolv.conf");
    with(&machine, &pod, |network| async move {
        let gateway = network.gateway();
        blocking(move || {
            let one = [Ipv4Addr::new(203, 0, 113, 0)];
            let packet = query("www.example.");
            for reply in [ask_udp(gateway, &packet), ask_tcp(gateway, &packet)] {
                assert_eq!(addresses(&reply), one);
                assert_eq!(reply.metadata.id.to_be_bytes(), packet[..2]);
            }
            let packet = query("big.example.");
            assert!(ask_udp(gateway, &packet).metadata.truncation);
            assert_eq!(addresses(&ask_tcp(gateway, &packet)).len(), 60);
            // The alias of an ExternalName service comes with what it leads to.
            let packet = query("outer.default.svc.cluster.local.");
            assert_eq!(addresses(&ask_udp(gateway, &packet)), one);
            // Only ourselves to ask, then nobody: a failure at once, no loop.
            for text in [
                format!("nameserver {gateway}\nnameserver 10.112.1.10\n"),
                String::new(),
            ] {
                std::fs::write(&resolv_conf, text).unwrap();
                let reply = ask_udp(gateway, &query("new.example."));
                assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
            }
            // A resolver that refuses and one that answers: the second counts.
            let both = format!("nameserver 127.0.0.9\nnameserver {OUTSIDE_ADDRESS}\n");
            std::fs::write(&resolv_conf, both).unwrap();
            assert_eq!(addresses(&ask_udp(gateway, &query("new.example."))), one);
        })
        .await;
    });
}

#[test]
fn answers_of_others_are_kept_as_long_as_they_allow() {
    let (machine, pod) = (Machine::new(), Namespace::new());
    let asked = serve_resolver(&machine.outside);
    with(&machine, &pod, |network| async move {
        let gateway = network.gateway();
        blocking(move || {
            let times = |name: &str, count: u32| {
                let before = asked.load(Ordering::SeqCst);
                let replies: Vec<Message> =
                    (0..count).map(|_| ask_udp(gateway, &query(name))).collect();
                (asked.load(Ordering::SeqCst) - before, replies)
            };
            let (asked_once, replies) = times("www.example.", 5);
            assert_eq!(asked_once, 1);
            for reply in &replies {
                assert_eq!(addresses(reply), [Ipv4Addr::new(203, 0, 113, 0)]);
            }
            // In the asker's spelling, and under its id.
            let packet = query("WWW.Example.");
            let reply = ask_udp(gateway, &packet);
            assert_eq!(reply.queries[0].name.to_ascii(), "WWW.Example.");
            assert_eq!(reply.metadata.id.to_be_bytes(), packet[..2]);
            let (asked_once, replies) = times("lost.example.", 5);
            assert_eq!(asked_once, 1, "a denial too");
            for reply in replies {
                assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
            }
            assert_eq!(times("brief.example.", 5).0, 5, "not what may not be kept");
            // An answer that came by TCP is cut for those who ask by UDP.
            assert_eq!(
                addresses(&ask_tcp(gateway, &query("big.example."))).len(),
                60
            );
            assert!(ask_udp(gateway, &query("big.example.")).metadata.truncation);
        })
        .await;
    });
}

#[test]
fn it_is_not_served_to_other_networks_and_survives_garbage() {
    let (machine, pod) = (Machine::new(), Namespace::new());
    machine
        .outside
        .text(&["ip", "route", "add", "10.64.1.0/24", "via", "198.51.100.1"]);
    let outside = machine.outside.name.clone();
    with(&machine, &pod, |network| async move {
        let gateway = network.gateway();
        let outside = std::mem::ManuallyDrop::new(Namespace { name: outside });
        blocking(move || {
            let to = SocketAddrV4::new(gateway, 53);
            let refused = outside.fetch(to).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(to).unwrap();
            for length in [0, 1, 11, 12, 13, 512, 4097, 60_000] {
                socket.send(&vec![0; length]).unwrap();
                socket.send(&vec![0xc0; length]).unwrap();
            }
            let mut stream = TcpStream::connect(to).unwrap();
            stream.write_all(&[0xff; 70_000]).unwrap();
            let mut short = TcpStream::connect(to).unwrap();
            short.write_all(&[0, 3, 1, 2, 3]).unwrap();
            let reply = ask_udp(gateway, &query(&format!("{WEB}.")));
            assert_eq!(addresses(&reply), [Ipv4Addr::new(10, 112, 1, 20)]);
            let reply = ask_tcp(gateway, &query(&format!("{WEB}.")));
            assert_eq!(addresses(&reply), [Ipv4Addr::new(10, 112, 1, 20)]);
        })
        .await;
    });
}

#[test]
fn a_server_on_port_53_of_all_addresses_is_no_obstacle() {
    let (machine, pod) = (Machine::new(), Namespace::new());
    let other = machine.host.within(|| {
        (
            UdpSocket::bind("0.0.0.0:53").unwrap(),
            TcpListener::bind("0.0.0.0:53").unwrap(),
        )
    });
    let name = pod.name.clone();
    with(&machine, &pod, |network| async move {
        for server in [
            network.gateway().to_string(),
            network.config().dns_ip.to_string(),
        ] {
            let pod = std::mem::ManuallyDrop::new(Namespace { name: name.clone() });
            blocking(move || {
                let text = pod.text(&["busybox", "nslookup", "-type=a", WEB, &server]);
                assert!(text.contains("Address: 10.112.1.20"), "{text}");
            })
            .await;
        }
    });
    drop(other);
}
