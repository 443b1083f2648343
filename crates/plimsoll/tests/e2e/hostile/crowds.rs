//! Very many clients: watches that all want to know, and connections that say nothing, or say it slowly.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use kube::core::ObjectMeta;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::kube_rs::{soon, with_client};
use crate::support::{Instance, Space, deadline, eventually, holds};

const WATCHES: usize = 400;
const CONNECTIONS: usize = 200;
/// Descriptors that others may have opened meanwhile, or watches.
const OTHERS: usize = 100;

fn descriptors(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    open.count()
}

/// The watches of ConfigMaps that the server counts as open. Other tests open and close as many connections as they like.
fn open_watches(space: &Space) -> usize {
    let page = space.kubectl("get --raw /metrics").ok();
    let series = page.lines().filter(|line| {
        line.starts_with("apiserver_longrunning_requests{")
            && line.contains("verb=\"WATCH\"")
            && line.contains("resource=\"configmaps\"")
    });
    let open = series.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    open.sum()
}

pub fn a_storm_of_watches_ends_with_its_clients() {
    let space = Space::new("hostile-watches");
    let pid = space.instance.daemon_pid();
    let before = descriptors(pid);
    let within = &space;
    with_client(within, "edit", |client| async move {
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let list = maps.list(&ListParams::default()).await.expect("a list");
        let version = list.metadata.resource_version.expect("a version");
        let asked = WatchParams::default().timeout(200);
        let watches: Vec<_> = stream::iter(0..WATCHES)
            .map(|_| maps.watch(&asked, &version))
            .buffer_unordered(20)
            .map(|watch| Box::pin(watch.expect("a watch")))
            .collect()
            .await;
        let open = open_watches(within);
        assert!(open >= WATCHES, "{open} of {WATCHES} are open");
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some("news".to_owned()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        };
        maps.create(&PostParams::default(), &map)
            .await
            .expect("created beside all of them");
        let told = watches.into_iter().map(|mut watch| async move {
            loop {
                match watch.try_next().await.expect("no error") {
                    Some(WatchEvent::Added(map)) if map.name_any() == "news" => break,
                    Some(_) => {}
                    None => panic!("a watch ended before it was told"),
                }
            }
        });
        soon("every watch is told", futures::future::join_all(told)).await;
    });
    eventually("the daemon has let them go", || {
        let (now, open) = (descriptors(pid), open_watches(&space));
        if now < before + OTHERS && open < OTHERS {
            Ok(())
        } else {
            Err(format!(
                "{open} watches, {now} descriptors, {before} before"
            ))
        }
    });
    assert_eq!(space.instance.daemon_pid(), pid, "the same process");
}

fn tcp(instance: &Instance) -> TcpStream {
    let port = u16::try_from(instance.api_port).expect("a port");
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream
        .set_read_timeout(Some(deadline()))
        .expect("a socket's setting");
    stream
}

/// A connection past its handshake, without a certificate.
fn tls(
    instance: &Instance,
    config: &Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let client = ClientConnection::new(config.clone(), name).expect("a client");
    let mut stream = StreamOwned::new(client, tcp(instance));
    stream.flush().expect("the handshake");
    stream
}

fn config(instance: &Instance) -> Arc<ClientConfig> {
    let authority = instance.data_dir.join("pki/ca.crt");
    let authority = CertificateDer::from_pem_file(authority).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(authority).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

pub fn slow_clients_do_not_hinder_others() {
    let space = Space::new("hostile-slow");
    let instance = &space.instance;
    let pid = instance.daemon_pid();
    let config = config(instance);
    // who says nothing; who begins a handshake, a head, a body and does not go on
    let silent: Vec<TcpStream> = (0..CONNECTIONS).map(|_| tcp(instance)).collect();
    let hello: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = tcp(instance);
            stream.write_all(b"\x16\x03\x01\x02\x00\x01").expect("sent");
            stream
        })
        .collect();
    let head = b"GET /api/v1/configmaps HTTP/1.1\r\nhost: x\r\nx-slow: ".as_slice();
    let body = b"POST /api/v1/namespaces/hostile-slow/configmaps HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{";
    let mut slow: Vec<_> = [head, body]
        .into_iter()
        .flat_map(|text| (0..CONNECTIONS / 2).map(move |_| text))
        .map(|text| {
            let mut stream = tls(instance, &config);
            stream.write_all(text).expect("sent");
            stream.flush().expect("sent");
            stream
        })
        .collect();
    // the others are served all the while
    for number in 0..5 {
        space
            .kubectl(&format!("create configmap map-{number}"))
            .ok();
        for stream in &mut slow[..CONNECTIONS / 2] {
            // a letter now and then
            stream.write_all(b"x").expect("still open");
            stream.flush().expect("still open");
        }
    }
    let names = space.kubectl("get configmaps -o name").ok();
    holds(&names, "configmap/map-4");
    // the handshake's time is short: those who have not done it are let go
    for mut stream in silent.into_iter().chain(hello) {
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest) {
            let reset = std::io::ErrorKind::ConnectionReset;
            assert_eq!(error.kind(), reset, "{error}");
        }
    }
    // a request that is none is told so
    let mut bad = tls(instance, &config);
    bad.get_ref()
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a socket's setting");
    bad.write_all(b"GET /api/v1/namespaces/a\0b HTTP/1.1\r\nhost: x\r\n\r\n")
        .expect("sent");
    let mut answer = Vec::new();
    // it may be closed without the last words of TLS
    let _ = bad.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(instance.daemon_pid(), pid, "the same process");
}
