//! The listening side: certificates in and out, and a WebSocket-like upgrade through to a kubelet.

use std::sync::Arc;

use apiserver::{NodeDialer, NodeStream, pki};
use base64::Engine as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::server::{PODS, Server, pod};
use crate::tokens::ACCOUNTS;

pub struct Listening {
    pub server: Server,
    pub keys: pki::Pki,
    pub address: std::net::SocketAddr,
    pub shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    dir: tempfile::TempDir,
}

async fn listen() -> Listening {
    listen_with(|_| {}).await
}

pub async fn listen_with(change: impl FnOnce(&mut apiserver::Config)) -> Listening {
    let server = Server::with(change).await;
    let dir = tempfile::Builder::new()
        .prefix("plimsoll-pki-")
        .tempdir()
        .expect("a directory");
    let keys = pki::Pki::open(&dir.path().join("pki")).expect("keys");
    let pair = keys
        .server(&["localhost".into(), "127.0.0.1".into()])
        .expect("a certificate");
    let tls = keys.server_tls(&pair, &[b"h2", b"http/1.1"]).expect("TLS");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a listener");
    let address = listener.local_addr().expect("an address");
    let shutdown = CancellationToken::new();
    let (api, stop) = (server.api.clone(), shutdown.clone());
    let task = tokio::spawn(async move { api.serve(listener, tls, stop).await });
    Listening {
        server,
        keys,
        address,
        shutdown,
        task,
        dir,
    }
}

/// One HTTP/1.1 exchange on a fresh connection; the connection stays open.
pub async fn exchange(
    listening: &Listening,
    tls: Arc<rustls::ClientConfig>,
    head: &str,
) -> (
    String,
    tokio_rustls::client::TlsStream<tokio::net::TcpStream>,
) {
    let tcp = tokio::net::TcpStream::connect(listening.address)
        .await
        .expect("connected");
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").expect("a name");
    let mut stream = TlsConnector::from(tls)
        .connect(name, tcp)
        .await
        .expect("TLS");
    stream
        .write_all(format!("{head}\r\nhost: x\r\n\r\n").as_bytes())
        .await
        .expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("an answer"));
    }
    (String::from_utf8(answer).expect("text"), stream)
}

pub fn anonymous(keys: &pki::Pki) -> Arc<rustls::ClientConfig> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(
            rustls::pki_types::CertificateDer::from_pem_slice(keys.ca_certificate().as_bytes())
                .expect("a certificate"),
        )
        .expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

#[tokio::test]
async fn certificates_decide_who_asks() {
    let listening = listen().await;
    let keys = &listening.keys;
    let admin = keys.client_tls(&keys.admin().expect("admin")).expect("TLS");
    let (head, _) = exchange(&listening, admin, "GET /api/v1/namespaces HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (head, _) = exchange(
        &listening,
        anonymous(keys),
        "GET /api/v1/namespaces HTTP/1.1",
    )
    .await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    let (head, _) = exchange(&listening, anonymous(keys), "GET /readyz HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let jane = keys
        .client_tls(&keys.client("jane", "jane", Some("people")).expect("jane"))
        .expect("TLS");
    let (head, _) = exchange(&listening, jane, "GET /api/v1/namespaces HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    // Somebody else's CA is not believed, not even as nobody.
    let other = pki::Pki::open(&listening.dir.path().join("other")).expect("keys");
    let stranger = other.admin().expect("a stranger");
    let trusting = pki::Pki::open(&listening.dir.path().join("pki"))
        .expect("keys")
        .client_tls(&stranger)
        .expect("TLS");
    let tcp = tokio::net::TcpStream::connect(listening.address)
        .await
        .expect("connected");
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").expect("a name");
    let refused = match TlsConnector::from(trusting).connect(name, tcp).await {
        Err(_) => true,
        Ok(mut stream) => stream.read_u8().await.is_err(),
    };
    assert!(refused);
    listening.shutdown.cancel();
    listening.task.await.expect("serve ends");
}

#[tokio::test]
async fn watches_end_when_the_listener_does() {
    let listening = listen().await;
    let keys = &listening.keys;
    let admin = keys.client_tls(&keys.admin().expect("admin")).expect("TLS");
    let (head, mut stream) =
        exchange(&listening, admin, "GET /api/v1/configmaps?watch=1 HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    listening.shutdown.cancel();
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    tokio::time::timeout(std::time::Duration::from_secs(20), end)
        .await
        .expect("the stream ends")
        .expect("cleanly");
    assert!(
        rest.ends_with(b"0\r\n\r\n"),
        "the last chunk is the empty one"
    );
    listening.task.await.expect("serve ends");
}

#[tokio::test]
async fn the_kubeconfig_works() {
    let listening = listen().await;
    let admin = listening.keys.admin().expect("admin");
    let text = pki::kubeconfig(
        "plim-000000",
        &format!("https://{}", listening.address),
        listening.keys.ca_certificate(),
        &admin,
    );
    let config = kube::config::Kubeconfig::from_yaml(&text).expect("a kubeconfig");
    let config =
        kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default())
            .await
            .expect("a configuration");
    let client = kube::Client::try_from(config).expect("a client");
    assert_eq!(
        client.apiserver_version().await.expect("a version").minor,
        "37"
    );
    listening.shutdown.cancel();
}

#[test]
fn keys_are_kept_and_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::Builder::new()
        .prefix("plimsoll-pki-")
        .tempdir()
        .expect("a directory");
    let dir = dir.path().join("pki");
    let keys = pki::Pki::open(&dir).expect("keys");
    let names = ["a".to_owned(), "10.0.0.1".to_owned()];
    let first = keys.server(&names).expect("a certificate");
    let again = pki::Pki::open(&dir).expect("keys again");
    assert_eq!(again.ca_certificate(), keys.ca_certificate());
    assert_eq!(
        again.server(&names[..1]).expect("kept"),
        first,
        "a certificate that covers the names is kept"
    );
    let more = again.server(&["b".to_owned()]).expect("a certificate");
    assert_ne!(more, first, "another name needs another certificate");
    for entry in std::fs::read_dir(&dir).expect("files") {
        let entry = entry.expect("a file");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
    }
    std::fs::write(dir.join("ca.key"), "rubbish").expect("written");
    let error = pki::Pki::open(&dir).err().expect("a broken key is told");
    assert!(error.to_string().contains("the CA's key"), "{error}");
}

/// A kubelet that switches protocols and then echoes in upper case.
struct Upgrading;

#[async_trait::async_trait]
impl NodeDialer for Upgrading {
    async fn dial(&self, _: &str, _: u16) -> std::io::Result<Box<dyn NodeStream>> {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(theirs.read_u8().await?);
            }
            let head = String::from_utf8_lossy(&head).to_lowercase();
            assert!(
                head.contains("sec-websocket-protocol: v5.channel.k8s.io\r\n")
                    && head.contains("upgrade: websocket"),
                "{head}"
            );
            theirs.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n\r\n").await?;
            while let Ok(byte) = theirs.read_u8().await {
                theirs.write_u8(byte.to_ascii_uppercase()).await?;
            }
            std::io::Result::Ok(())
        });
        Ok(Box::new(ours))
    }
}

/// The token of an account that may do everything.
async fn robot_in_charge(server: &Server) -> String {
    let account = json!({"metadata": {"name": "robot"}});
    server.post(ACCOUNTS, &account).await.expect(201);
    let binding = json!({
        "metadata": {"name": "robot"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    server.post(bindings, &binding).await.expect(201);
    let path = format!("{ACCOUNTS}/robot/token");
    let answer = server.post(&path, &json!({})).await.expect(201);
    let token = answer["status"]["token"].as_str();
    token.expect("a token").to_owned()
}

#[tokio::test]
async fn upgrades_are_spliced() {
    let listening = listen().await;
    let server = &listening.server;
    server.api.set_node_dialer(Arc::new(Upgrading));
    let node = json!({"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.1.2.3"}]}});
    server.post("/api/v1/nodes", &node).await.expect(201);
    server.post(PODS, &pod("p")).await.expect(201);
    server
        .post(
            &format!("{PODS}/p/binding"),
            &json!({"target": {"name": "n"}}),
        )
        .await
        .expect(201);
    let admin = listening
        .keys
        .client_tls(&listening.keys.admin().expect("admin"))
        .expect("TLS");
    // by certificate, and as browsers do: without one, the token among the subprotocols
    let token = robot_in_charge(server).await;
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token);
    let token = format!("base64url.bearer.authorization.k8s.io.{token}, ");
    for (client, protocols) in [(admin, ""), (anonymous(&listening.keys), token.as_str())] {
        let head = format!(
            "GET {PODS}/p/exec?command=sh&stdin=true HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: {protocols}v5.channel.k8s.io"
        );
        let (head, mut stream) = exchange(&listening, client, &head).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(
            head.contains("sec-websocket-protocol: v5.channel.k8s.io"),
            "{head}"
        );
        stream.write_all(b"hello").await.expect("sent");
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).await.expect("an echo");
        assert_eq!(&echo, b"HELLO");
    }
    listening.shutdown.cancel();
}
