//! Tokens of service accounts over the listener: who they are, what they may, when they end.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::server::{PODS, pod};
use crate::tls::{Listening, anonymous, listen_with};

pub const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

/// The head and body of the answer to a GET with this token and no certificate.
pub async fn ask(listening: &Listening, token: &str, path: &str) -> String {
    let tcp = tokio::net::TcpStream::connect(listening.address)
        .await
        .expect("connected");
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").expect("a name");
    let mut stream = tokio_rustls::TlsConnector::from(anonymous(&listening.keys))
        .connect(name, tcp)
        .await
        .expect("TLS");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn code(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn a_token_is_its_account_until_something_ends() {
    let listening = listen_with(|_| {}).await;
    let server = &listening.server;
    server
        .post(ACCOUNTS, &json!({"metadata": {"name": "robot"}}))
        .await
        .expect(201);
    let mut own = pod("p");
    own["spec"]["serviceAccountName"] = "robot".into();
    let made = server.post(PODS, &own).await.expect(201);
    let path = format!("{ACCOUNTS}/robot/token");
    let issue = async |spec: Value| server.post(&path, &json!({"spec": spec})).await;
    let of_pod = json!({"kind": "Pod", "name": "p", "uid": made["metadata"]["uid"]});
    let answer = issue(json!({"audiences": [], "boundObjectRef": of_pod}))
        .await
        .expect(201);
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    let token = answer["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let free = issue(json!({})).await.expect(201)["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    for one in [&token, &free] {
        let said = ask(&listening, one, PODS).await;
        assert_eq!(code(&said), "403", "{said}");
        assert!(
            said.contains(r#"User \"system:serviceaccount:default:robot\" cannot list resource"#),
            "{said}"
        );
        assert_eq!(code(&ask(&listening, one, "/version").await), "200");
    }
    let vault = issue(json!({"audiences": ["vault"]})).await.expect(201)["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    for wrong in ["", "x", "a.b.c", &vault, &format!("{token}x")] {
        let said = ask(&listening, wrong, "/version").await;
        assert_eq!(code(&said), "401", "{wrong} {said}");
    }
    server
        .delete(&format!("{PODS}/p"), &json!({"gracePeriodSeconds": 0}))
        .await
        .expect(200);
    assert_eq!(code(&ask(&listening, &token, "/version").await), "401");
    assert_eq!(code(&ask(&listening, &free, "/version").await), "200");
    server
        .delete(&format!("{ACCOUNTS}/robot"), &Value::Null)
        .await
        .expect(200);
    server
        .post(ACCOUNTS, &json!({"metadata": {"name": "robot"}}))
        .await
        .expect(201);
    assert_eq!(
        code(&ask(&listening, &free, "/version").await),
        "401",
        "another account of the same name"
    );
}

#[tokio::test]
async fn what_is_not_issued() {
    let listening = listen_with(|_| {}).await;
    let server = &listening.server;
    server
        .post(ACCOUNTS, &json!({"metadata": {"name": "robot"}}))
        .await
        .expect(201);
    server.post(PODS, &pod("p")).await.expect(201);
    let path = format!("{ACCOUNTS}/robot/token");
    for (spec, answer, why) in [
        (
            json!({"expirationSeconds": 60}),
            422,
            "may not specify a duration less than 10 minutes",
        ),
        (
            json!({"expirationSeconds": 1i64 << 33}),
            422,
            "may not specify a duration larger than 2^32 seconds",
        ),
        (
            json!({"boundObjectRef": {"kind": "Pod", "name": "none"}}),
            404,
            "pods \"none\" not found",
        ),
        (
            json!({"boundObjectRef": {"kind": "Pod", "name": "p", "uid": "other"}}),
            409,
            "does not match the UID in record",
        ),
        (
            json!({"boundObjectRef": {"kind": "Pod", "name": "p"}}),
            400,
            "running with different serviceaccount name",
        ),
        (
            json!({"boundObjectRef": {"kind": "Service", "name": "p"}}),
            400,
            "cannot bind token",
        ),
    ] {
        let said = server
            .post(&path, &json!({"spec": spec}))
            .await
            .refusal(answer);
        assert!(said.contains(why), "{said}");
    }
    let none = format!("{ACCOUNTS}/none/token");
    server.post(&none, &json!({"spec": {}})).await.expect(404);
}
