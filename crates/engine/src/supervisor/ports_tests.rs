//! Tests of published ports.

use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

fn port(protocol: Protocol, target: SocketAddr) -> PublishedPort {
    PublishedPort {
        host_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host_port: 0,
        target,
        protocol,
    }
}

/// Runs the loop until `done` says so.
fn turn(ports: &mut Ports, done: impl Fn() -> bool) {
    let mut scratch = vec![0; 4096];
    while !done() {
        let watched = ports.watched();
        let mut fds: Vec<_> = watched
            .iter()
            .map(|(_, fd, flags)| rustix::event::PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        let timeout = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 5_000_000,
        };
        rustix::event::poll(&mut fds, Some(&timeout)).expect("poll");
        let ready: Vec<_> = watched
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|((token, _, _), fd)| (*token, fd.revents()))
            .collect();
        drop((fds, watched));
        for (token, flags) in ready {
            ports.handle(token, flags, &mut scratch);
        }
    }
}

#[test]
fn tcp_is_carried_and_half_closing_is_kept() {
    let server = TcpListener::bind("127.0.0.1:0").expect("bind");
    let mut ports = Ports::default();
    let published = ports
        .publish(&[port(Protocol::Tcp, server.local_addr().expect("address"))])
        .expect("publish");
    let to = published[0].host_port;
    assert_ne!(to, 0);
    // The whole request, then end of file, and only then the answer: 1 MiB each way.
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().expect("accept");
        let mut request = Vec::new();
        stream.read_to_end(&mut request).expect("request");
        stream.write_all(&request).expect("answer");
    });
    let asking = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", to)).expect("connect");
        let request: Vec<u8> = (0..1 << 20)
            .map(|number: u32| (number % 251) as u8)
            .collect();
        stream.write_all(&request).expect("request");
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("shutdown");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answer");
        assert_eq!(answer, request);
    });
    turn(&mut ports, || {
        asking.is_finished() && answering.is_finished()
    });
    asking.join().expect("asking");
    answering.join().expect("answering");
    assert!(
        ports.connections.is_empty(),
        "a finished connection is forgotten"
    );
}

#[test]
fn udp_answers_come_back_to_each_peer() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let mut ports = Ports::default();
    let published = ports
        .publish(&[port(Protocol::Udp, server.local_addr().expect("address"))])
        .expect("publish");
    let to = published[0].host_port;
    let answering = std::thread::spawn(move || {
        let mut bytes = [0; 64];
        for _ in 0..2 {
            let (count, from) = server.recv_from(&mut bytes).expect("datagram");
            bytes[..count].reverse();
            server.send_to(&bytes[..count], from).expect("answer");
        }
    });
    let ask = move |text: &'static [u8], expected: &'static [u8]| {
        std::thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
            socket
                .set_read_timeout(Some(Duration::from_secs(20)))
                .expect("timeout");
            socket.send_to(text, ("127.0.0.1", to)).expect("send");
            let mut bytes = [0; 64];
            let count = socket.recv(&mut bytes).expect("answer");
            assert_eq!(&bytes[..count], expected);
        })
    };
    let asking = [ask(b"abc", b"cba"), ask(b"xyz", b"zyx")];
    turn(&mut ports, || {
        answering.is_finished() && asking.iter().all(|thread| thread.is_finished())
    });
    for thread in asking {
        thread.join().expect("asking");
    }
    answering.join().expect("answering");
}

#[test]
fn a_taken_port_is_refused_and_nothing_changes() {
    let other = TcpListener::bind("127.0.0.1:0").expect("bind");
    let taken = other.local_addr().expect("address").port();
    let mut ports = Ports::default();
    let target = SocketAddr::from(([127, 0, 0, 1], 9));
    let first = ports
        .publish(&[port(Protocol::Tcp, target)])
        .expect("publish");
    let refused = PublishedPort {
        host_port: taken,
        ..port(Protocol::Tcp, target)
    };
    let failure = ports
        .publish(&[port(Protocol::Tcp, target), refused])
        .expect_err("taken");
    assert_eq!(failure.kind, FailureKind::Port);
    assert!(
        failure.reason.ends_with("address already in use"),
        "{}",
        failure.reason
    );
    assert_eq!(ports.published(), first);
    ports.publish(&[]).expect("none");
    TcpListener::bind(("127.0.0.1", first[0].host_port)).expect("free again");
}

/// A client that only takes answers from where it has asked, on another address than the one that a route back suggests.
#[test]
fn udp_answers_come_from_the_address_that_was_asked() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let target = server.local_addr().expect("address");
    let any = |ip: IpAddr| PublishedPort {
        host_ip: Some(ip),
        ..port(Protocol::Udp, target)
    };
    let mut ports = Ports::default();
    let mut asked = vec![(
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "127.0.0.9",
        "127.0.0.1:0",
    )];
    if std::fs::exists("/proc/net/if_inet6").unwrap_or(false) {
        asked.push((IpAddr::V6(Ipv6Addr::UNSPECIFIED), "::1", "[::1]:0"));
    }
    let wanted: Vec<_> = asked.iter().map(|(ip, _, _)| any(*ip)).collect();
    let published = ports.publish(&wanted).expect("publish");
    let count = asked.len();
    let answering = std::thread::spawn(move || {
        let mut bytes = [0; 64];
        for _ in 0..count {
            let (count, from) = server.recv_from(&mut bytes).expect("datagram");
            server.send_to(&bytes[..count], from).expect("answer");
        }
    });
    let asking: Vec<_> = asked
        .into_iter()
        .zip(published)
        .map(|((_, to, from), published)| {
            std::thread::spawn(move || {
                let socket = UdpSocket::bind(from).expect("bind");
                let to: IpAddr = to.parse().expect("address");
                socket.connect((to, published.host_port)).expect("connect");
                socket
                    .set_read_timeout(Some(Duration::from_secs(20)))
                    .expect("timeout");
                socket.send(b"abc").expect("send");
                let mut bytes = [0; 64];
                let count = socket.recv(&mut bytes).expect("answer");
                assert_eq!(&bytes[..count], b"abc");
            })
        })
        .collect();
    turn(&mut ports, || {
        answering.is_finished() && asking.iter().all(|thread| thread.is_finished())
    });
    for thread in asking {
        thread.join().expect("asking");
    }
    answering.join().expect("answering");
}

#[test]
fn each_address_family_is_taken_by_itself() {
    if !std::fs::exists("/proc/net/if_inet6").unwrap_or(false) {
        return;
    }
    let server = TcpListener::bind("127.0.0.1:0").expect("bind");
    let target = server.local_addr().expect("address");
    let at = |ip: &str, host_port| PublishedPort {
        host_ip: Some(ip.parse().expect("address")),
        host_port,
        ..port(Protocol::Tcp, target)
    };
    let mut ports = Ports::default();
    // ::1 alone leaves 127.0.0.1 free, and the other way about.
    let free = TcpListener::bind("[::1]:0").expect("bind");
    let six = free.local_addr().expect("address").port();
    drop(free);
    ports.publish(&[at("::1", six)]).expect("publish");
    let four = TcpListener::bind(("127.0.0.1", six)).expect("free");
    let both = vec![at("::1", six), at("127.0.0.1", six)];
    let failure = ports.publish(&both).expect_err("taken");
    assert!(
        failure
            .reason
            .contains(&format!("127.0.0.1:{six}/tcp: address already in use")),
        "{}",
        failure.reason
    );
    drop(four);
    assert_eq!(ports.publish(&both).expect("publish").len(), 2);
    let refused = TcpListener::bind(("::1", six)).expect_err("held");
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    // All addresses of both families are one port, held at once.
    let all = PublishedPort {
        host_ip: None,
        host_port: 0,
        ..port(Protocol::Tcp, target)
    };
    let all = ports.publish(&[all]).expect("publish")[0].host_port;
    for taken in ["127.0.0.1", "::1", "0.0.0.0", "::"] {
        let taken: IpAddr = taken.parse().expect("address");
        let refused = TcpListener::bind((taken, all)).expect_err("held");
        assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    }
}
