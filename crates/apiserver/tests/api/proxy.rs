//! Proxying to pods, Services and nodes, over pretended pods that are pairs of pipes.

use std::sync::{Arc, Mutex};

use apiserver::{Identity, NodeDialer, NodeStream, pki};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::server::{Answer, PODS, SERVICES, Server, pod};
use crate::tls::{exchange, listen_with};

/// Pods that answer every request alike, and remember who was asked what. Port 9 refuses.
struct Pretended {
    answer: String,
    tls: Option<Arc<rustls::ServerConfig>>,
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait::async_trait]
impl NodeDialer for Pretended {
    async fn dial(&self, address: &str, port: u16) -> std::io::Result<Box<dyn NodeStream>> {
        if port == 9 {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let to = format!("{address}:{port} ");
        let (asked, answer, tls) = (self.asked.clone(), self.answer.clone(), self.tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(theirs, to, &asked, &answer).await,
                Some(tls) => {
                    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
                    serve(acceptor.accept(theirs).await?, to, &asked, &answer).await
                }
            }
        });
        Ok(Box::new(ours))
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    to: String,
    asked: &Mutex<Vec<String>>,
    answer: &str,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    stream.read_exact(&mut body).await?;
    request.extend(body);
    let text = to + &String::from_utf8_lossy(&request);
    asked.lock().expect("not poisoned").push(text);
    stream.write_all(answer.as_bytes()).await?;
    if answer.starts_with("HTTP/1.1 101") {
        while let Ok(byte) = stream.read_u8().await {
            stream.write_u8(byte.to_ascii_uppercase()).await?;
        }
    }
    Ok(())
}

fn ok(headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

struct Pods {
    server: Server,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Pods {
    async fn answering(answer: String) -> Self {
        Self::over(Server::new().await, answer, None).await
    }

    async fn over(server: Server, answer: String, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let asked = prepare(&server, answer, tls).await;
        Self { server, asked }
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("not poisoned"))
    }

    async fn get(&self, path: &str) -> Answer {
        self.server.get(path).await
    }
}

/// A node, a pod `web` on it with two named ports and another that is not ready; a Service of both. What is asked of them.
async fn prepare(
    server: &Server,
    answer: String,
    tls: Option<Arc<rustls::ServerConfig>>,
) -> Arc<Mutex<Vec<String>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let dialer = |answer: &str| {
        Arc::new(Pretended {
            answer: answer.to_owned(),
            tls: tls.clone(),
            asked: asked.clone(),
        })
    };
    server.api.set_backend_dialer(dialer(&answer));
    server
        .api
        .set_node_dialer(dialer(&ok("x-kubelet: yes\r\n", "")));
    let node = json!({"metadata": {"name": "n"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "10.1.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}});
    server.post("/api/v1/nodes", &node).await.expect(201);
    for (name, ip) in [
        ("web", "10.1.0.2"),
        ("slow", "10.1.0.3"),
        ("host", "127.0.0.1"),
        ("group", "239.1.1.1"),
    ] {
        let mut object = pod(name);
        object["spec"]["containers"][0]["ports"] = json!([{"containerPort": 8080}]);
        server.post(PODS, &object).await.expect(201);
        let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
        let path = format!("{PODS}/{name}/status");
        server.patch(&path, "merge", &status).await.expect(200);
    }
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [
        {"name": "http", "port": 80, "targetPort": 8080}, {"name": "admin", "port": 81}]}});
    server.post(SERVICES, &service).await.expect(201);
    let subsets = json!([{
        "addresses": [target("10.1.0.2", "web")], "notReadyAddresses": [target("10.1.0.3", "slow")],
        "ports": [{"name": "http", "port": 8080}],
    }]);
    endpoints(server, subsets).await;
    asked
}

async fn endpoints(server: &Server, subsets: Value) {
    const PATH: &str = "/api/v1/namespaces/default/endpoints";
    server.delete(&format!("{PATH}/web"), &Value::Null).await;
    let object = json!({"metadata": {"name": "web"}, "subsets": subsets});
    server.post(PATH, &object).await.expect(201);
}

fn target(ip: &str, pod: &str) -> Value {
    json!({"ip": ip, "targetRef": {"kind": "Pod", "namespace": "default", "name": pod}})
}

#[tokio::test]
async fn requests_reach_what_they_name() {
    let pods = Pods::answering(ok("", "hi")).await;
    for (path, to) in [
        (format!("{PODS}/web/proxy/"), "10.1.0.2:8080 GET / "),
        (
            format!("{PODS}/web:81/proxy/a//b%20c/?d=e"),
            "10.1.0.2:81 GET /a//b%20c/?d=e ",
        ),
        (format!("{PODS}/http:web:/proxy/a"), "10.1.0.2:8080 GET /a "),
        (format!("{SERVICES}/web:80/proxy/"), "10.1.0.2:8080 GET / "),
        (
            format!("{SERVICES}/web:http/proxy/x"),
            "10.1.0.2:8080 GET /x ",
        ),
        (
            format!("{SERVICES}/http:web:http/proxy/x"),
            "10.1.0.2:8080 GET /x ",
        ),
        (
            "/api/v1/nodes/n:9100/proxy/metrics".into(),
            "10.1.0.1:9100 GET /metrics ",
        ),
    ] {
        let answer = pods.get(&path).await;
        assert_eq!((answer.code, &answer.raw[..]), (200, &b"hi"[..]), "{path}");
        let asked = pods.asked().remove(0);
        assert!(asked.starts_with(to), "{path}: {asked}");
    }
    for path in [
        "/api/v1/nodes/n/proxy/x/",
        "/api/v1/nodes/https:n:10250/proxy/x/",
    ] {
        let answer = pods.get(path).await;
        assert_eq!(
            (answer.code, &answer.headers["x-kubelet"]),
            (200, &"yes".parse().unwrap())
        );
        let asked = pods.asked().remove(0);
        assert!(asked.starts_with("10.1.0.1:10250 GET /x/ "), "{asked}");
    }
}

#[tokio::test]
async fn methods_bodies_and_headers_go_through() {
    let pods = Pods::answering(ok("x-own: a\r\naccess-control-allow-origin: *\r\n", "")).await;
    let path = format!("{PODS}/web/proxy/x");
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let headers = [
            ("authorization", "Bearer secret"),
            ("accept-encoding", "gzip"),
            ("host", "localhost:8001"),
            ("x-own", "b"),
            ("cookie", "c=d"),
            ("te", "trailers"),
        ];
        let body = if method == "POST" { "a body" } else { "" };
        let answer = pods.server.ask(method, &path, &headers, body).await;
        assert_eq!(
            (answer.code, &answer.headers["x-own"]),
            (200, &"a".parse().unwrap())
        );
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
        let asked = pods.asked().remove(0);
        assert!(
            asked.starts_with(&format!("10.1.0.2:8080 {method} /x HTTP/1.1")),
            "{asked}"
        );
        for kept in [
            "x-own: b",
            "cookie: c=d",
            "host: localhost:8001",
            &format!("x-forwarded-uri: {path}"),
        ] {
            assert!(asked.contains(kept), "{kept}: {asked}");
        }
        for dropped in ["secret", "gzip", "trailers"] {
            assert!(!asked.contains(dropped), "{dropped}: {asked}");
        }
        assert!(asked.ends_with(&format!("\r\n\r\n{body}")), "{asked}");
    }
    let answer = pods.server.ask("TRACE", &path, &[], "").await;
    answer.refusal(405);
}

#[tokio::test]
async fn refusals_are_upstreams() {
    let pods = Pods::answering(ok("", "hi")).await;
    let none = "no endpoints available for service";
    for (path, code, words) in [
        (
            format!("{SERVICES}/web:79/proxy/"),
            503,
            "no service port 79 found for service \"web\"".to_owned(),
        ),
        (
            format!("{SERVICES}/web:81/proxy/"),
            503,
            format!("{none} \"web:81\""),
        ),
        (
            format!("{SERVICES}/web/proxy/"),
            503,
            format!("{none} \"web\""),
        ),
        (
            format!("{SERVICES}/ftp:web:80/proxy/"),
            400,
            "invalid service request \"ftp:web:80\"".to_owned(),
        ),
        (
            format!("{SERVICES}/none:80/proxy/"),
            404,
            "services \"none\" not found".to_owned(),
        ),
        (
            format!("{PODS}/a:b:c:d/proxy/"),
            400,
            "invalid pod request \"a:b:c:d\"".to_owned(),
        ),
        (
            format!("{PODS}/none/proxy/"),
            404,
            "pods \"none\" not found".to_owned(),
        ),
        (
            format!("{PODS}/host:80/proxy/"),
            400,
            "address not allowed".to_owned(),
        ),
        (
            format!("{PODS}/web:9/proxy/"),
            503,
            "error trying to reach service: dial tcp 10.1.0.2:9: connect: connection refused"
                .to_owned(),
        ),
    ] {
        assert_eq!(pods.get(&path).await.refusal(code), words, "{path}");
    }
    let ports = json!([{"name": "http", "port": 8080}]);
    let path = format!("{SERVICES}/web:80/proxy/");
    for (what, subsets) in [
        ("none", json!([])),
        (
            "not ready",
            json!([{"notReadyAddresses": [target("10.1.0.2", "web")], "ports": ports}]),
        ),
        (
            "no pod's",
            json!([{"addresses": [{"ip": "10.9.9.9"}], "ports": ports}]),
        ),
        (
            "another's",
            json!([{"addresses": [target("10.9.9.9", "web")], "ports": ports}]),
        ),
        (
            "of another namespace",
            json!([{"addresses": [{"ip": "10.1.0.2", "targetRef": {
            "kind": "Pod", "namespace": "other", "name": "web"}}], "ports": ports}]),
        ),
    ] {
        endpoints(&pods.server, subsets).await;
        let words = pods.get(&path).await.refusal(503);
        assert!(words.starts_with(none), "{what}: {words}");
    }
    endpoints(
        &pods.server,
        json!([{"addresses": [target("239.1.1.1", "group")], "ports": ports}]),
    )
    .await;
    assert_eq!(pods.get(&path).await.refusal(400), "address not allowed");
    assert_eq!(pods.asked(), [""; 0], "nobody was asked");
}

#[tokio::test]
async fn pages_and_redirects_lead_through_the_proxy() {
    let prefix = format!("{SERVICES}/web:80/proxy");
    let pods = Pods::answering(ok(
        "content-type: text/html; charset=utf-8\r\n",
        "<a href=\"/x\">",
    ))
    .await;
    let answer = pods.get(&format!("{prefix}/")).await;
    let page = format!("<a href=\"{prefix}/x\">");
    assert_eq!(String::from_utf8_lossy(&answer.raw), page);
    assert_eq!(answer.headers["content-length"], page.len().to_string());
    let answer = pods.get(&format!("{prefix}?a=b")).await;
    assert_eq!(
        (answer.code, &answer.headers["location"]),
        (301, &format!("{prefix}/?a=b").parse().unwrap())
    );

    let moved =
        "HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: http://10.1.0.2:8080/login\r\n\r\n";
    let pods = Pods::answering(moved.into()).await;
    let answer = pods.get(&format!("{prefix}/")).await;
    assert_eq!(
        (answer.code, &answer.headers["location"]),
        (302, &format!("{prefix}/login").parse().unwrap())
    );
}

#[tokio::test]
async fn https_goes_to_whoever_answers() {
    let dir = tempfile::Builder::new()
        .prefix("plimsoll-pki-")
        .tempdir()
        .expect("a directory");
    let keys = pki::Pki::open(&dir.path().join("pki")).expect("keys");
    let pair = keys.server(&["elsewhere".into()]).expect("a certificate");
    let tls = keys.server_tls(&pair, &[]).expect("TLS");
    let pods = Pods::over(Server::new().await, ok("", "hi"), Some(tls)).await;
    for path in [
        format!("{PODS}/https:web:8443/proxy/"),
        format!("{SERVICES}/https:web:80/proxy/"),
    ] {
        let answer = pods.get(&path).await;
        assert_eq!((answer.code, &answer.raw[..]), (200, &b"hi"[..]), "{path}");
    }
    let plain = pods.get(&format!("{PODS}/web/proxy/")).await.refusal(503);
    assert!(
        plain.starts_with("error trying to reach service: "),
        "{plain}"
    );
}

#[tokio::test]
async fn upgrades_go_through() {
    let listening = listen_with(|_| {}).await;
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let asked = prepare(&listening.server, switch.into(), None).await;
    let admin = listening
        .keys
        .client_tls(&listening.keys.admin().expect("admin"))
        .expect("TLS");
    let head = format!(
        "GET {PODS}/web:80/proxy/ws HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=="
    );
    let (head, mut stream) = exchange(&listening, admin, &head).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream.write_all(b"hello").await.expect("sent");
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).await.expect("an echo");
    assert_eq!(&echo, b"HELLO");
    let asked = asked.lock().expect("not poisoned").remove(0);
    assert!(
        asked.contains("upgrade: websocket") && asked.contains("sec-websocket-key"),
        "{asked}"
    );
    listening.shutdown.cancel();
}

#[tokio::test]
async fn who_may_is_a_question_of_the_method() {
    let mut pods = Pods::answering(ok("", "hi")).await;
    let role = json!({"metadata": {"name": "reader"}, "rules": [
        {"apiGroups": [""], "resources": ["pods/proxy", "services/proxy"], "verbs": ["get"]}]});
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    pods.server
        .post(&format!("{RBAC}/roles"), &role)
        .await
        .expect(201);
    let binding = json!({"metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}]});
    pods.server
        .post(&format!("{RBAC}/rolebindings"), &binding)
        .await
        .expect(201);
    pods.server.identity = Identity::new("ann", &[]);
    let path = format!("{SERVICES}/web:80/proxy/");
    while pods.get(&path).await.code == 403 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(pods.get(&path).await.code, 200);
    let refused = pods.server.ask("POST", &path, &[], "").await.refusal(403);
    assert!(
        refused.contains("cannot create resource \"services/proxy\""),
        "{refused}"
    );
    pods.get("/api/v1/nodes/n/proxy/x").await.refusal(403);
}
