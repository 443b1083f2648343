//! Published ports of a real sandbox.

mod common;

use common::World;
use engine::*;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

#[test]
fn published_ports_are_bound_at_once_and_given_back() {
    World::run(async |world| {
        let taken = TcpListener::bind("0.0.0.0:0").expect("bind");
        let server = TcpListener::bind("127.0.0.1:0").expect("bind");
        let published = |host_port, target| {
            vec![PublishedPort {
                host_port,
                target,
                ..PublishedPort::default()
            }]
        };
        let unknown = SocketAddr::from(([0, 0, 0, 0], 80));
        let taken_port = taken.local_addr().expect("address").port();
        let spec = SandboxSpec {
            id: "plim-s".into(),
            published: published(taken_port, unknown),
            ..SandboxSpec::default()
        };
        world.engine.create_sandbox(spec).await.expect("create");
        let error = world
            .engine
            .start_sandbox("plim-s")
            .await
            .expect_err("taken");
        assert!(
            matches!(error, Error::PortTaken { .. })
                && error.to_string().contains("address already in use"),
            "{error}"
        );
        assert_eq!(
            world
                .engine
                .sandbox("plim-s")
                .await
                .map(|status| status.state),
            Some(SandboxState::Created)
        );
        drop(taken);
        let status = world
            .engine
            .start_sandbox("plim-s")
            .await
            .expect("free now");
        assert_eq!(status.published[0].host_port, taken_port);

        let update = SandboxUpdate {
            published: Some(published(taken_port, server.local_addr().expect("address"))),
            ..SandboxUpdate::default()
        };
        world
            .engine
            .update_sandbox("plim-s", update)
            .await
            .expect("update");
        tokio::task::spawn_blocking(move || {
            use std::io::{Read, Write};
            for address in [
                format!("127.0.0.1:{taken_port}"),
                format!("[::1]:{taken_port}"),
            ] {
                let mut asking = match TcpStream::connect(&address) {
                    Ok(stream) => stream,
                    Err(error)
                        if address.starts_with('[')
                            && !fs::exists("/proc/net/if_inet6").unwrap_or(false) =>
                    {
                        println!("no IPv6 here: {error}");
                        continue;
                    }
                    Err(error) => panic!("{address}: {error}"),
                };
                let (mut answering, _) = server.accept().expect("accept");
                asking.write_all(b"ping").expect("write");
                asking
                    .shutdown(std::net::Shutdown::Write)
                    .expect("shutdown");
                let mut text = String::new();
                answering.read_to_string(&mut text).expect("read");
                answering
                    .write_all(text.to_uppercase().as_bytes())
                    .expect("write");
                drop(answering);
                text.clear();
                asking.read_to_string(&mut text).expect("read");
                assert_eq!(text, "PING", "{address}");
            }
        })
        .await
        .expect("proxy");
        world.engine.stop_sandbox("plim-s").await.expect("stop");
        TcpListener::bind(("0.0.0.0", taken_port)).expect("given back");
    });
}

/// The port is the supervising process's: it answers, and is held, while there is no daemon.
#[test]
fn published_ports_outlive_the_daemon() {
    World::run(async |world| {
        let server = TcpListener::bind("127.0.0.1:0").expect("bind");
        let free = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = free.local_addr().expect("address").port();
        drop(free);
        let addresses: Vec<IpAddr> = loopback_and_global();
        let published: Vec<PublishedPort> = addresses
            .iter()
            .map(|ip| PublishedPort {
                host_ip: Some(*ip),
                host_port: port,
                target: server.local_addr().expect("address"),
                ..PublishedPort::default()
            })
            .collect();
        let spec = |id: &str| SandboxSpec {
            id: id.into(),
            published: published.clone(),
            ..SandboxSpec::default()
        };
        let before = world.sandbox_with(spec("plim-s")).await;
        let common::Session { engine, config, .. } = world;
        drop(engine);
        std::thread::spawn(move || {
            use std::io::Write;
            for stream in server.incoming() {
                let _ = stream.and_then(|mut stream| stream.write_all(b"here"));
            }
        });
        for ip in &addresses {
            let (ip, mut text) = (*ip, String::new());
            let text = tokio::task::spawn_blocking(move || {
                let mut stream = TcpStream::connect((ip, port)).expect("connect");
                std::io::Read::read_to_string(&mut stream, &mut text).expect("read");
                text
            });
            assert_eq!(text.await.expect("asked"), "here", "{ip}");
            TcpListener::bind((ip, port)).expect_err("held");
        }

        let engine = Engine::open(config).await.expect("open again");
        let again = engine.sandbox("plim-s").await.expect("known");
        assert_eq!(again.published, before.published);
        engine.create_sandbox(spec("plim-t")).await.expect("create");
        let error = engine.start_sandbox("plim-t").await.expect_err("taken");
        assert!(matches!(error, Error::PortTaken { .. }), "{error}");
        engine.stop_sandbox("plim-s").await.expect("stop");
        engine.start_sandbox("plim-t").await.expect("free now");
    });
}

/// 127.0.0.1, ::1 and an IPv6 address that other machines would use, as far as this machine has them.
fn loopback_and_global() -> Vec<IpAddr> {
    let mut list: Vec<IpAddr> = vec![std::net::Ipv4Addr::LOCALHOST.into()];
    // Connecting a UDP socket sends nothing and tells the address that would be used.
    for to in ["::1", "2001:db8::1"] {
        let asked = UdpSocket::bind("[::]:0").and_then(|socket| {
            socket.connect((to, 9))?;
            socket.local_addr()
        });
        match asked {
            Ok(address) => list.push(address.ip()),
            Err(error) => println!("no way to {to} here: {error}"),
        }
    }
    list
}
