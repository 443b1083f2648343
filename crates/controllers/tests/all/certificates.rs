//! A certificate request from its making to a connection that is believed.

use std::sync::Arc;
use std::time::Duration;

use apiserver::pki::{Pair, Pki};
use apiserver::{ApiServer, Identity};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::{CancellationToken, DropGuard};

struct Signing {
    server: ApiServer,
    client: Client,
    keys: Arc<Pki>,
    stop: CancellationToken,
    _stop: DropGuard,
    _data: tempfile::TempDir,
}

async fn start() -> Signing {
    let data = tempfile::Builder::new()
        .prefix("plimsoll-signing-")
        .tempdir()
        .unwrap();
    let store = Arc::new(store::EmbeddedStore::in_memory().unwrap());
    let server = ApiServer::open(apiserver::Config::new(data.path()), store)
        .await
        .unwrap();
    let keys = Arc::new(Pki::open(&data.path().join("pki")).unwrap());
    let stop = CancellationToken::new();
    let signing = keys.clone();
    let config = controllers::Config {
        signer: Some(controllers::Signer::new(move |order| {
            signing
                .authority()
                .sign(order.request, order.usages, order.from, order.until)
                .map_err(|error| error.to_string())
        })),
        ..Default::default()
    };
    let own = server.in_process_client(Identity::new("system:kube-controller-manager", &[]));
    tokio::spawn(controllers::run(own, config, stop.clone()));
    Signing {
        client: server.in_process_client(Identity::admin()),
        server,
        keys,
        stop: stop.clone(),
        _stop: stop.drop_guard(),
        _data: data,
    }
}

/// A request, and its key.
fn request(name: &str, signer: &str, common_name: &str, organisation: &str) -> (Value, String) {
    use base64::Engine as _;
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, organisation);
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let request = base64::engine::general_purpose::STANDARD.encode(pem);
    let object = json!({"metadata": {"name": name}, "spec": {
        "request": request, "signerName": signer, "usages": ["digital signature", "client auth"], "expirationSeconds": 3600}});
    (object, key.serialize_pem())
}

impl Signing {
    async fn approve(&self, object: Value) -> CertificateSigningRequest {
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let object: CertificateSigningRequest = serde_json::from_value(object).unwrap();
        let made = api.create(&PostParams::default(), &object).await.unwrap();
        let name = made.metadata.name.clone().unwrap();
        let approved = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "Test", "message": "yes"}]}});
        api.patch_approval(&name, &PatchParams::default(), &Patch::Merge(&approved))
            .await
            .unwrap();
        for _ in 0..2000 {
            let now = api.get(&name).await.unwrap();
            let status = now.status.clone().unwrap_or_default();
            let decided = status.conditions.unwrap_or_default().len() > 1;
            if status.certificate.is_some() || decided {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} was not answered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_certificate_is_believed() {
    let signing = start().await;
    let (object, key) = request(
        "jane",
        "kubernetes.io/kube-apiserver-client",
        "jane",
        "people",
    );
    let signed = signing.approve(object).await;
    let certificate = signed.status.unwrap().certificate.unwrap();
    let certificate = String::from_utf8(certificate.0).unwrap();

    let names = ["127.0.0.1".to_owned()];
    let keys = &signing.keys;
    let tls = keys
        .server_tls(&keys.server(&names).unwrap(), &[b"http/1.1"])
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (server, stop) = (signing.server.clone(), signing.stop.clone());
    tokio::spawn(async move { server.serve(listener, tls, stop).await });
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let tls = keys.client_tls(&Pair { certificate, key }).unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let connector = tokio_rustls::TlsConnector::from(tls);
    let mut stream = connector.connect(name, tcp).await.unwrap();
    let body = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
    let head = format!(
        "POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(answer.contains(r#""username":"jane""#), "{answer}");
    assert!(answer.contains(r#""people""#), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_signer_does_not_take_fails_for_good() {
    let signing = start().await;
    let kubelet = "kubernetes.io/kube-apiserver-client-kubelet";
    let (object, _) = request("jane", kubelet, "jane", "people");
    let failed = signing.approve(object).await;
    let conditions = failed.status.unwrap().conditions.unwrap();
    let failed = conditions.iter().find(|one| one.type_ == "Failed").unwrap();
    assert_eq!(failed.reason.as_deref(), Some("SignerValidationFailure"));
    assert_eq!(
        failed.message.as_deref(),
        Some("subject organization is not system:nodes")
    );
    let (object, _) = request("node", kubelet, "system:node:one", "system:nodes");
    let signed = signing.approve(object).await;
    assert!(signed.status.unwrap().certificate.is_some());
}
