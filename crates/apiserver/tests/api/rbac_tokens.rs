//! Hostile tokens, reviews of tokens, and what the issuer says of itself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::server::{PODS, Server, pod};
use crate::tls::listen_with;
use crate::tokens::{ACCOUNTS, ask, code};

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// A token of the account `robot` by this TokenRequest.
async fn issue(server: &Server, spec: Value) -> String {
    let body = json!({"spec": spec});
    let answer = server
        .post(&format!("{ACCOUNTS}/robot/token"), &body)
        .await
        .expect(201);
    answer["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

async fn with_robot(server: &Server) {
    let robot = json!({"metadata": {"name": "robot"}});
    server.post(ACCOUNTS, &robot).await.expect(201);
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn read(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
}

#[tokio::test]
async fn hostile_tokens_open_nothing() {
    let listening = listen_with(|_| {}).await;
    let server = &listening.server;
    with_robot(server).await;
    let token = issue(server, json!({})).await;
    assert_eq!(code(&ask(&listening, &token, "/version").await), "200");
    let parts: Vec<&str> = token.split('.').collect();
    let (header, claims, signature) = (read(parts[0]), read(parts[1]), parts[2]);
    let changed = |key: &str, value: Value| {
        let mut claims = claims.clone();
        claims[key] = value;
        format!("{}.{}.{signature}", parts[0], part(&claims))
    };
    let with_header = |header: Value| format!("{}.{}.{signature}", part(&header), parts[1]);
    // another instance, the same name of everything
    let other = Server::new().await;
    with_robot(&other).await;
    let foreign = issue(&other, json!({})).await;
    let mut twisted = signature.chars().rev().collect::<String>();
    twisted.insert(0, 'A');
    let zero = URL_SAFE_NO_PAD.encode([0u8; 64]);
    let hostile = [
        foreign,
        issue(server, json!({"audiences": ["vault"]})).await,
        changed("exp", json!(1i64 << 40)),
        changed("iss", json!("https://elsewhere")),
        changed("sub", json!("system:serviceaccount:kube-system:default")),
        changed("aud", json!(["a"])),
        with_header(json!({"alg": "none", "kid": header["kid"]})),
        with_header(json!({"alg": "HS256", "kid": header["kid"]})),
        with_header(json!({"alg": "ES256", "kid": "other"})),
        with_header(json!({"alg": "ES256", "kid": header["kid"], "jwk": {"kty": "EC"}})),
        format!("{}.{}.", part(&json!({"alg": "none"})), parts[1]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.{twisted}", parts[0], parts[1]),
        format!("{}.{}.{zero}", parts[0], parts[1]),
        format!("{token}.{}", parts[2]),
        token[..token.len() - 1].to_owned(),
        token[1..].to_owned(),
        token.replace('.', ""),
        "...".to_owned(),
        "a".repeat(100_000),
        format!("{}.{}.{signature}", parts[0], "A".repeat(90_000)),
    ];
    for one in &hostile {
        let said = ask(&listening, one, "/version").await;
        let shown = &one[..one.len().min(60)];
        assert!(matches!(code(&said), "401" | "431"), "{shown} {said}");
    }
    // the good one still is
    assert_eq!(code(&ask(&listening, &token, "/version").await), "200");
    // a token in place of another scheme's secret is none
    let basic = format!("x\r\nAuthorization: Basic {token}");
    assert_eq!(code(&ask(&listening, &basic, "/version").await), "401");
}

#[tokio::test]
async fn tokens_are_reviewed_for_their_audience() {
    let mut server = Server::new().await;
    with_robot(&server).await;
    let account = server.get(&format!("{ACCOUNTS}/robot")).await.expect(200);
    let mut own = pod("p");
    own["spec"]["serviceAccountName"] = "robot".into();
    server.post(PODS, &own).await.expect(201);
    let of_pod = json!({"kind": "Pod", "name": "p"});
    let token = issue(&server, json!({"boundObjectRef": of_pod})).await;
    let review = async |server: &Server, token: &str, audiences: Value| {
        let body = json!({"spec": {"token": token, "audiences": audiences}});
        server.post(REVIEWS, &body).await.expect(201)["status"].clone()
    };
    let status = review(&server, &token, Value::Null).await;
    assert_eq!(status["authenticated"], true, "{status}");
    let user = &status["user"];
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert_eq!(user["uid"], account["metadata"]["uid"]);
    assert_eq!(
        user["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    let extra = &user["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert!(
        extra["authentication.kubernetes.io/credential-id"][0]
            .as_str()
            .is_some_and(|id| id.starts_with("JTI=")),
        "{extra}"
    );
    let vault = issue(&server, json!({"audiences": ["vault", "safe"]})).await;
    let refused = json!({"user": {}, "error": "invalid bearer token"});
    assert_eq!(review(&server, &vault, Value::Null).await, refused);
    assert_eq!(review(&server, &token, json!(["vault"])).await, refused);
    let status = review(&server, &vault, json!(["other", "vault"])).await;
    assert_eq!(status["audiences"], json!(["vault"]), "{status}");
    assert_eq!(review(&server, "nonsense", Value::Null).await, refused);
    server
        .post(REVIEWS, &json!({"spec": {}}))
        .await
        .refusal(400);
    server
        .delete(&format!("{PODS}/p"), &json!({"gracePeriodSeconds": 0}))
        .await
        .expect(200);
    assert_eq!(
        review(&server, &token, Value::Null).await,
        refused,
        "its pod has gone"
    );
    server.turn("jane", &[]);
    let body = json!({"spec": {"token": token}});
    server.post(REVIEWS, &body).await.refusal(403);
}

#[tokio::test]
async fn the_issuer_is_told_to_accounts() {
    let address = "10.1.2.3:6443".parse().expect("an address");
    let listening = listen_with(|config| config.advertise_address = Some(address)).await;
    with_robot(&listening.server).await;
    let token = issue(&listening.server, json!({})).await;
    let said = ask(&listening, &token, "/.well-known/openid-configuration").await;
    assert_eq!(code(&said), "200", "{said}");
    let body = said.split("\r\n\r\n").nth(1).expect("a body");
    let document: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(
        document["issuer"],
        "https://kubernetes.default.svc.cluster.local"
    );
    assert_eq!(document["jwks_uri"], "https://10.1.2.3:6443/openid/v1/jwks");
    let said = ask(&listening, &token, "/openid/v1/jwks").await;
    assert!(
        said.to_lowercase()
            .contains("content-type: application/jwk-set+json"),
        "{said}"
    );
    let body = said.split("\r\n\r\n").nth(1).expect("a body");
    let keys: Value = serde_json::from_str(body).expect("JSON");
    let header = read(token.split('.').next().expect("a header"));
    assert_eq!(keys["keys"][0]["kid"], header["kid"]);
    // the issuer of a token is who says so
    let claims = read(token.split('.').nth(1).expect("claims"));
    assert_eq!(claims["iss"], document["issuer"]);
}

/// A node acts for the pods on it, and for nobody else.
#[tokio::test]
async fn nodes_get_tokens_of_their_pods_only() {
    let mut server = Server::new().await;
    with_robot(&server).await;
    let node = json!({"metadata": {"name": "here"}});
    server.post("/api/v1/nodes", &node).await.expect(201);
    let mut uids = Vec::new();
    for (name, node) in [("mine", "here"), ("other", "there")] {
        let mut pod = pod(name);
        pod["spec"]["serviceAccountName"] = "robot".into();
        pod["spec"]["nodeName"] = node.into();
        let made = server.post(PODS, &pod).await.expect(201);
        uids.push(made["metadata"]["uid"].clone());
    }
    let bound = |name: &str, uid: &Value| json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}}});
    let path = format!("{ACCOUNTS}/robot/token");
    for (who, request, code) in [
        ("system:node:here", json!({"spec": {}}), 403),
        ("system:node:here", bound("mine", &uids[0]), 201),
        ("system:node:here", bound("mine", &Value::Null), 403),
        ("system:node:here", bound("other", &uids[1]), 403),
        ("system:node:there", bound("mine", &uids[0]), 403),
        ("somebody", bound("mine", &uids[0]), 403),
    ] {
        server.turn(who, &["system:nodes"]);
        let answer = server.post(&path, &request).await;
        assert_eq!(answer.code, code, "{who} {request}: {}", answer.body);
    }
}
