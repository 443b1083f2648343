//! The collector and the API against a mock of the API server.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use kube::client::Body;
use metrics::{Config, Server};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// What the mock's node answers next.
#[derive(Clone)]
enum Page {
    Text(String),
    Refusal,
    Hang,
    Endless,
}

#[derive(Clone)]
struct Mock {
    page: Arc<Mutex<Page>>,
    scrapes: Arc<AtomicUsize>,
}

impl Mock {
    fn client(&self) -> kube::Client {
        let mock = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let mock = mock.clone();
            async move { Ok::<_, Infallible>(mock.answer(request.uri().clone()).await) }
        });
        kube::Client::new(service, "default")
    }

    async fn answer(&self, uri: http::Uri) -> Response<Body> {
        let query = uri.query().unwrap_or_default().to_owned();
        if query.contains("watch=true") {
            std::future::pending::<()>().await;
        }
        match uri.path() {
            "/api/v1/nodes" => json_response(
                StatusCode::OK,
                &list(&[json!({"name": "n1", "labels": {"zone": "a"}})]),
            ),
            "/api/v1/pods" => json_response(
                StatusCode::OK,
                &list(&[
                    json!({"name": "web-0", "namespace": "default", "labels": {"app": "web"}}),
                    json!({"name": "db-0", "namespace": "default", "labels": {"app": "db"}}),
                ]),
            ),
            "/api/v1/services" => json_response(StatusCode::OK, &list(&[])),
            "/api/v1/nodes/n1/proxy/metrics/resource" => {
                self.scrapes.fetch_add(1, Ordering::SeqCst);
                let page = self.page.lock().clone();
                match page {
                    Page::Text(text) => Response::new(Body::from(text.into_bytes())),
                    Page::Refusal => {
                        json_response(StatusCode::BAD_GATEWAY, &json!({"kind": "Status"}))
                    }
                    Page::Hang => std::future::pending().await,
                    Page::Endless => Response::new(Body::from(vec![b'#'; 10_000_000])),
                }
            }
            other => panic!("unexpected request for {other}"),
        }
    }

    /// A page after `cpu_seconds` of use, measured now.
    fn show(&self, cpu_seconds: f64) {
        let now = jiff::Timestamp::now().as_millisecond();
        let mut text = format!(
            "node_cpu_usage_seconds_total {cpu_seconds} {now}\nnode_memory_working_set_bytes 4096 {now}\n"
        );
        for (pod, container) in [("web-0", "web"), ("db-0", "db"), ("ghost-0", "ghost")] {
            let labels =
                format!("{{container=\"{container}\",namespace=\"default\",pod=\"{pod}\"}}");
            text.push_str(&format!(
                "container_cpu_usage_seconds_total{labels} {cpu_seconds} {now}\n"
            ));
            text.push_str(&format!(
                "container_memory_working_set_bytes{labels} 67108864 {now}\n"
            ));
        }
        *self.page.lock() = Page::Text(text);
    }

    async fn scraped(&self) {
        let before = self.scrapes.load(Ordering::SeqCst);
        while self.scrapes.load(Ordering::SeqCst) < before + 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn list(metadata: &[Value]) -> Value {
    let items: Vec<Value> = metadata
        .iter()
        .map(|metadata| json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}))
        .collect();
    json!({
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": "1"},
        "items": items,
    })
}

fn json_response(code: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string().into_bytes()));
    *response.status_mut() = code;
    response
}

struct Fixture {
    mock: Mock,
    server: Server,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Fixture {
    fn start(config: Config) -> Self {
        let mock = Mock {
            page: Arc::new(Mutex::new(Page::Refusal)),
            scrapes: Arc::default(),
        };
        let server = Server::new(mock.client(), config);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn({
            let (server, shutdown) = (server.clone(), shutdown.clone());
            async move { server.collect(shutdown).await }
        });
        Self {
            mock,
            server,
            shutdown,
            task,
        }
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask(Request::get(path)).await
    }

    async fn ask(&self, request: http::request::Builder) -> (StatusCode, Value) {
        let request = request.body(Bytes::new()).expect("a request");
        let response = self
            .server
            .service()
            .oneshot(request)
            .await
            .expect("the service never fails");
        let body = serde_json::from_slice(response.body()).expect("JSON");
        (response.status(), body)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("the collector ends cleanly");
    }
}

fn quick() -> Config {
    Config {
        interval: Duration::from_millis(20),
        window: Duration::from_millis(200),
        timeout: Duration::from_millis(100),
        ..Config::default()
    }
}

const API: &str = "/apis/metrics.k8s.io/v1beta1";

#[tokio::test]
async fn collects_and_answers() {
    let fixture = Fixture::start(quick());
    for step in 0..20 {
        fixture.mock.show(f64::from(step) * 0.01);
        fixture.mock.scraped().await;
    }
    let (code, pods) = fixture.get(&format!("{API}/namespaces/default/pods")).await;
    assert_eq!(code, StatusCode::OK);
    let names: Vec<&str> = pods["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|pod| pod["metadata"]["name"].as_str())
        .collect();
    assert_eq!(names, ["db-0", "web-0"], "only pods that exist");

    let (_, selected) = fixture
        .get(&format!("{API}/pods?labelSelector=app%3Dweb"))
        .await;
    let web = &selected["items"][0];
    assert_eq!(selected["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(web["metadata"]["labels"]["app"], "web");
    assert_eq!(web["containers"][0]["name"], "web");
    assert_eq!(web["containers"][0]["usage"]["memory"], "64Mi");
    let cpu = web["containers"][0]["usage"]["cpu"]
        .as_str()
        .expect("a quantity");
    assert!(
        autoscale::quantity::Quantity::parse(cpu).is_ok_and(|cpu| cpu.milli_value() > 0),
        "{cpu}"
    );
    assert!(
        web["window"]
            .as_str()
            .is_some_and(|window| window.ends_with('s')),
        "{web}"
    );

    let (code, one) = fixture
        .get(&format!("{API}/namespaces/default/pods/web-0"))
        .await;
    assert_eq!(
        (code, one["kind"].as_str()),
        (StatusCode::OK, Some("PodMetrics"))
    );
    let (code, node) = fixture.get(&format!("{API}/nodes/n1")).await;
    assert_eq!(
        (code, node["metadata"]["labels"]["zone"].as_str()),
        (StatusCode::OK, Some("a"))
    );
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let (_, table) = fixture
        .ask(Request::get(format!("{API}/pods")).header("accept", accept))
        .await;
    assert_eq!(
        (
            table["kind"].as_str(),
            table["rows"].as_array().map(Vec::len)
        ),
        (Some("Table"), Some(2))
    );

    for (path, code, message) in [
        (
            "/namespaces/default/pods/ghost-0",
            404,
            "pods.metrics.k8s.io \"default/ghost-0\" not found",
        ),
        ("/nodes/n2", 404, "nodes.metrics.k8s.io \"n2\" not found"),
        (
            "/services",
            404,
            "the server could not find the requested resource",
        ),
    ] {
        let (status, body) = fixture.get(&format!("{API}{path}")).await;
        assert_eq!(
            (status.as_u16(), body["message"].as_str()),
            (code, Some(message)),
            "{path}"
        );
    }
    let (status, _) = fixture
        .get(&format!("{API}/pods?labelSelector=a%20b"))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, body) = fixture.ask(Request::delete(format!("{API}/pods"))).await;
    assert_eq!(
        (status, body["reason"].as_str()),
        (StatusCode::METHOD_NOT_ALLOWED, Some("MethodNotAllowed"))
    );
    fixture.stop().await;
}

#[tokio::test]
async fn a_node_that_fails_is_left_out_and_comes_back() {
    let fixture = Fixture::start(Config {
        stale: Duration::from_millis(150),
        ..quick()
    });
    let count = async |fixture: &Fixture| {
        let (_, pods) = fixture.get(&format!("{API}/pods")).await;
        pods["items"].as_array().map(Vec::len)
    };
    let until = async |wanted: usize, step: &dyn Fn()| {
        for _ in 0..400 {
            step();
            if count(&fixture).await == Some(wanted) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    };
    let used = std::cell::Cell::new(0.0);
    let show = || {
        used.set(used.get() + 0.001);
        fixture.mock.show(used.get());
    };
    for failure in [Page::Refusal, Page::Hang, Page::Text("<html>\0".to_owned())] {
        assert!(until(2, &show).await, "measurements arrive");
        assert!(
            until(0, &|| *fixture.mock.page.lock() = failure.clone()).await,
            "old measurements are not told"
        );
    }
    fixture.stop().await;
}

#[tokio::test]
async fn a_page_that_does_not_end_is_dropped() {
    let fixture = Fixture::start(Config {
        page_bytes_max: 1_000_000,
        ..quick()
    });
    *fixture.mock.page.lock() = Page::Endless;
    fixture.mock.scraped().await;
    let (status, pods) = fixture.get(&format!("{API}/pods")).await;
    assert_eq!(
        (status, pods["items"].as_array().map(Vec::len)),
        (StatusCode::OK, Some(0))
    );
    fixture.stop().await;
}
