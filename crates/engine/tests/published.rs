//! Published ports of a real sandbox.

mod common;

use common::World;
use engine::*;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};

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
