//! CertificateSigningRequests: who asks, who approves, who signs.

use apiserver::Identity;
use base64::Engine as _;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};

use crate::server::Server;

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

fn request(name: &str, signer: &str, organisation: &str) -> Value {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "jane");
    params
        .distinguished_name
        .push(DnType::OrganizationName, organisation);
    let pem = params
        .serialize_request(&key)
        .expect("a request")
        .pem()
        .expect("PEM");
    let request = base64::engine::general_purpose::STANDARD.encode(pem);
    json!({"metadata": {"name": name}, "spec": {"request": request, "signerName": signer, "usages": ["client auth"], "username": "forged"}})
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "Test", "message": "said so"})
}

async fn write(
    server: &Server,
    name: &str,
    subresource: &str,
    status: Value,
) -> crate::server::Answer {
    let path = format!("{REQUESTS}/{name}");
    let mut object = server.get(&path).await.expect(200);
    object["status"] = status;
    server.put(&format!("{path}/{subresource}"), &object).await
}

#[tokio::test]
async fn the_server_says_who_asks_and_approval_is_apart() {
    let mut server = Server::new().await;
    server.identity = Identity {
        uid: "u-1".into(),
        extra: vec![("scopes".into(), vec!["a".into()])],
        ..Identity::new("admin", &["system:masters", "people"])
    };
    let mut asked = request("a", SIGNER, "people");
    asked["status"] = json!({"conditions": [condition("Approved")]});
    let made = server.post(REQUESTS, &asked).await.expect(201);
    assert_eq!(made["spec"]["username"], "admin");
    assert_eq!(made["spec"]["uid"], "u-1");
    assert_eq!(made["spec"]["extra"], json!({"scopes": ["a"]}));
    assert_eq!(
        made["spec"]["groups"],
        json!(["system:masters", "people", "system:authenticated"])
    );
    assert_eq!(
        made["status"],
        json!({}),
        "nobody approves their own by making it"
    );
    let path = format!("{REQUESTS}/a");
    let changed = json!({"spec": {"usages": ["server auth"]}});
    let kept = server.patch(&path, "merge", &changed).await.expect(200);
    assert_eq!(kept["spec"]["usages"], json!(["client auth"]));

    let approved = json!({"conditions": [condition("Approved")], "certificate": "aGVsbG8="});
    let written = write(&server, "a", "approval", approved).await.expect(200);
    assert_eq!(written["status"].get("certificate"), None);
    assert_eq!(written["status"]["conditions"][0]["type"], "Approved");
    assert!(written["status"]["conditions"][0]["lastUpdateTime"].is_string());
    let refused = write(&server, "a", "approval", json!({"conditions": []})).await;
    assert!(
        refused
            .refusal(422)
            .contains("updates may not remove a condition of type \"Approved\"")
    );
    let both = json!({"conditions": [condition("Approved"), condition("Denied")]});
    let refused = write(&server, "a", "approval", both).await;
    assert!(
        refused
            .refusal(422)
            .contains("Approved and Denied conditions are mutually exclusive")
    );
    let denied = write(
        &server,
        "a",
        "status",
        json!({"conditions": [condition("Denied")]}),
    )
    .await;
    assert_eq!(
        denied.expect(200)["status"]["conditions"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    let refused = write(&server, "a", "status", json!({"certificate": "aGVsbG8="})).await;
    assert!(refused.refusal(422).contains("status.certificate"));
    let selected = server
        .get(&format!(
            "{REQUESTS}?fieldSelector=spec.signerName%3Dother.io%2Fx"
        ))
        .await;
    assert_eq!(selected.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn approving_and_signing_are_rights_of_their_own() {
    let mut server = Server::new().await;
    server
        .post(REQUESTS, &request("a", SIGNER, "people"))
        .await
        .expect(201);
    server
        .post(REQUESTS, &request("b", "example.com/own", "people"))
        .await
        .expect(201);
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let role = json!({"metadata": {"name": "approver"}, "rules": [
        {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests", "certificatesigningrequests/approval", "certificatesigningrequests/status"], "verbs": ["get", "update"]},
        {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["example.com/*"], "verbs": ["approve", "sign"]}]});
    server.post(roles, &role).await.expect(201);
    let binding = json!({"metadata": {"name": "approver"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "approver"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    server.post(bindings, &binding).await.expect(201);
    server.identity = Identity::new("jane", &[]);
    let known = async || server.get(&format!("{REQUESTS}/a")).await.code == 200;
    for _ in 0..200 {
        if known().await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let approved = json!({"conditions": [condition("Approved")]});
    assert_eq!(
        write(&server, "a", "approval", approved.clone())
            .await
            .refusal(403),
        "certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""
    );
    write(&server, "b", "approval", approved).await.expect(200);
    let failed = json!({"conditions": [condition("Failed")]});
    let refused = write(&server, "a", "status", failed.clone())
        .await
        .refusal(403);
    assert!(
        refused.contains("user not permitted to sign requests"),
        "{refused}"
    );
    write(&server, "b", "status", failed).await.expect(200);
}

#[tokio::test]
async fn nobody_becomes_a_master_by_a_request() {
    let server = Server::new().await;
    let refused = server
        .post(REQUESTS, &request("a", SIGNER, "system:masters"))
        .await;
    assert_eq!(
        refused.refusal(403),
        "certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    );
    let mut short = request("b", SIGNER, "people");
    short["spec"]["expirationSeconds"] = 1.into();
    let refused = server.post(REQUESTS, &short).await.refusal(422);
    assert!(refused.contains("may not specify a duration less than 600 seconds (10 minutes)"));
}
