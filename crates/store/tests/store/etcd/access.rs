//! Users, certificates and sizes.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use store::etcd::{Options, Tls, User};
use store::{Error, EtcdStore, Expect, Store};

use super::super::suite::put;
use super::server::Etcd;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_logs_in_and_again_when_the_token_has_gone() {
    let mut etcd = Etcd::start();
    etcd.ctl(&["user", "add", "root:secret"]);
    etcd.ctl(&["role", "add", "root"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["user", "add", "weak:pass"]);
    etcd.ctl(&["auth", "enable"]);
    etcd.client_flags = vec!["--user=root:secret".into()];

    let with = |name: &str, password: &str| {
        let mut options = etcd.options();
        options.open_timeout = Duration::from_secs(3);
        options.user = Some(User {
            name: name.into(),
            password: password.into(),
        });
        options
    };
    let store = EtcdStore::open(with("root", "secret")).await.unwrap();
    put(&store, "/a", "1").await;
    let wrong = EtcdStore::open(with("root", "wrong")).await.unwrap_err();
    assert!(matches!(wrong, Error::Refused { .. }), "{wrong}");
    assert!(!format!("{wrong:?}").contains("wrong\""), "{wrong:?}");
    let weak = EtcdStore::open(with("weak", "pass")).await.unwrap_err();
    assert!(weak.to_string().contains("permission denied"), "{weak}");
    let nobody = EtcdStore::open(etcd.options()).await.unwrap_err();
    assert!(matches!(nobody, Error::Refused { .. }), "{nobody}");
    assert!(!format!("{:?}", with("root", "secret")).contains("secret"));

    // etcd keeps its tokens in memory.
    etcd.kill();
    etcd.run();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while let Err(error) = store.put("/a", Bytes::from("2"), Expect::Any).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(&*store.get("/a").await.unwrap().0.unwrap().value, b"2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_show_certificates() {
    let mut etcd = Etcd::prepared("https");
    let authority = authority("etcd's authority");
    let (server_cert, server_key) = issued(&authority, &["127.0.0.1"]);
    let (client_cert, client_key) = issued(&authority, &["client"]);
    let path = etcd.path();
    let write = |name: &str, text: &str| {
        let file = path.join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_string()
    };
    let ca = write("ca.pem", &authority.pem());
    let flags = vec![
        format!("--trusted-ca-file={ca}"),
        format!("--cert-file={}", write("server.pem", &server_cert)),
        format!("--key-file={}", write("server.key", &server_key)),
        "--client-cert-auth".into(),
    ];
    etcd.set_flags(flags);
    etcd.run();

    let tls = |authority: &str, identity: bool| Tls {
        authority: authority.as_bytes().to_vec(),
        identity: identity.then(|| {
            (
                client_cert.as_bytes().to_vec(),
                client_key.as_bytes().to_vec(),
            )
        }),
        server_name: None,
    };
    let open = |tls: Option<Tls>| {
        let options = Options {
            tls,
            open_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(1),
            ..etcd.options()
        };
        EtcdStore::open(options)
    };
    let store = open(Some(tls(&authority.pem(), true))).await.unwrap();
    put(&store, "/a", "1").await;
    assert!(store.get("/a").await.unwrap().0.is_some());
    let stranger = self::authority("a stranger").pem();
    for (what, wrong) in [
        ("in the clear", None),
        ("without a certificate", Some(tls(&authority.pem(), false))),
        ("trusting another authority", Some(tls(&stranger, true))),
    ] {
        let error = open(wrong).await.expect_err(what);
        assert!(
            matches!(error, Error::Unavailable { .. }),
            "{what}: {error}"
        );
    }
    let nonsense = open(Some(tls("no certificate", true))).await;
    assert!(nonsense.is_err());
    assert!(Path::new(&ca).exists());
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issued(authority: &CertifiedIssuer<'static, KeyPair>, names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, authority)
        .unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// etcd's own default is a little below this store's largest value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_etcd_finds_too_large_is_told_as_such() {
    let etcd = Etcd::with(&["--max-request-bytes=1048576"]);
    let store = etcd.store().await;
    let value = Bytes::from(vec![b'v'; 1_200_000]);
    let error = store.put("/big", value, Expect::Any).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooLarge {
                size_bytes: 1_200_004,
                ..
            }
        ),
        "{error}"
    );
    assert!(store.get("/big").await.unwrap().0.is_none());
}
