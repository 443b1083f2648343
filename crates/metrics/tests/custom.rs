//! Custom and external metrics against the real API server in process, of pods that this process pretends to be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use apiserver::{AggregatedResource, ApiServer, Identity};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use metrics::{Config, Limits, Server, ServiceSource, ServiceValue};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const INTERVAL: Duration = Duration::from_millis(200);

/// How a pod answers.
#[derive(Clone)]
enum Answer {
    Page(String),
    /// `{}` is replaced by a number that grows with each scrape.
    Counting(&'static str),
    Hang,
    HangInBody,
    Endless,
    Status(&'static str),
    Nonsense,
}

#[derive(Clone)]
struct FakePod {
    answer: Arc<Mutex<Answer>>,
    scrapes: Arc<AtomicUsize>,
    at_once: Arc<AtomicUsize>,
    at_once_max: Arc<AtomicUsize>,
    port: u16,
}

impl FakePod {
    async fn start(answer: Answer) -> Self {
        Self::start_with(answer, None).await
    }

    /// One that speaks TLS, if there is something to speak it with.
    async fn start_with(answer: Answer, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let pod = Self {
            answer: Arc::new(Mutex::new(answer)),
            scrapes: Arc::default(),
            at_once: Arc::default(),
            at_once_max: Arc::default(),
            port: listener.local_addr().expect("an address").port(),
        };
        let server = pod.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (pod, tls) = (server.clone(), tls.clone());
                tokio::spawn(async move {
                    let now = pod.at_once.fetch_add(1, Ordering::SeqCst) + 1;
                    pod.at_once_max.fetch_max(now, Ordering::SeqCst);
                    // the other side going away is its right
                    match tls {
                        None => drop(pod.serve(stream).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                let _ = pod.serve(stream).await;
                            }
                        }
                    }
                    pod.at_once.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        pod
    }

    async fn serve(
        &self,
        mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    ) -> std::io::Result<()> {
        let number = self.scrapes.fetch_add(1, Ordering::SeqCst);
        let mut request = [0; 1024];
        let read = stream.read(&mut request).await?;
        if read == 0 {
            // gone before it was heard: this machine is busy
            return Ok(());
        }
        assert!(request[..read].starts_with(b"GET /metrics HTTP/1.1\r\n"));
        let answer = self.answer.lock().clone();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n";
        match answer {
            Answer::Page(text) => {
                stream
                    .write_all(format!("{head}\r\n{text}").as_bytes())
                    .await?;
            }
            Answer::Counting(text) => {
                let text = text.replace("{}", &number.to_string());
                stream
                    .write_all(format!("{head}\r\n{text}").as_bytes())
                    .await?;
            }
            Answer::Hang => {
                // until the other side goes
                let more = stream.read(&mut request).await?;
                assert_eq!(more, 0);
            }
            Answer::HangInBody => {
                stream
                    .write_all(format!("{head}\r\ngood 1\n").as_bytes())
                    .await?;
                // until the other side goes
                let more = stream.read(&mut request).await?;
                assert_eq!(more, 0);
            }
            Answer::Endless => {
                stream.write_all(format!("{head}\r\n").as_bytes()).await?;
                let mut n = 0u64;
                loop {
                    n += 1;
                    let line = format!("endless{{n=\"{n}\"}} 1\n");
                    stream.write_all(line.as_bytes()).await?;
                }
            }
            Answer::Status(status) => {
                let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(text.as_bytes()).await?;
            }
            Answer::Nonsense => stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").await?,
        }
        // by TLS, an end that is not announced is an answer that was cut off
        stream.shutdown().await
    }
}

struct Fixture {
    client: Client,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _data: tempfile::TempDir,
    server: ApiServer,
}

/// A gateway of a later day.
struct Gateway;

impl ServiceSource for Gateway {
    fn value(
        &self,
        _: &str,
        service: &str,
        metric: &str,
        _: Option<&autoscale::selector::Selector>,
    ) -> Option<ServiceValue> {
        (service == "front" && metric == "gateway_requests").then_some(ServiceValue {
            value: 12.5,
            window: Duration::from_secs(3),
            age: Duration::ZERO,
        })
    }

    fn metrics(&self) -> Vec<String> {
        vec!["gateway_requests".to_owned()]
    }
}

impl Fixture {
    async fn new(limits: Limits) -> Self {
        let data = tempfile::Builder::new()
            .prefix("plimsoll-metrics-")
            .tempdir()
            .expect("a directory");
        let store = Arc::new(store::EmbeddedStore::in_memory().expect("a store"));
        let server = ApiServer::open(apiserver::Config::new(data.path()), store)
            .await
            .expect("an API server");
        let client = server.in_process_client(Identity::admin());
        let config = Config {
            custom: limits,
            ..Config::default()
        };
        let own = Identity::new("system:serviceaccount:kube-system:metrics-server", &[]);
        let collector = Server::new(server.in_process_client(own), config)
            .with_service_source(Arc::new(Gateway));
        for api in collector.group_versions() {
            let list = api.resources;
            let resources = move || list().iter().map(aggregated).collect();
            server.aggregate_listed(api.group, api.version, Arc::new(resources), api.service);
        }
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { collector.collect(stop).await });
        Self {
            client,
            shutdown,
            task,
            _data: data,
            server,
        }
    }

    /// A running pod that is scraped; returns what it is.
    async fn pod(&self, name: &str, app: &str, answer: Answer) -> FakePod {
        let fake = FakePod::start(answer).await;
        let annotations =
            json!({"prometheus.io/scrape": "true", "prometheus.io/port": fake.port.to_string()});
        self.object(name, app, annotations).await;
        fake
    }

    async fn object(&self, name: &str, app: &str, annotations: Value) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": app}, "annotations": annotations},
            "spec": {"containers": [{"name": "web", "image": "web"}]},
        });
        let pod = serde_json::from_value(pod).expect("a pod");
        pods.create(&PostParams::default(), &pod)
            .await
            .expect("created");
        let status = json!({"status": {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .expect("running");
    }

    async fn service(&self, name: &str, app: &str) {
        let services: Api<Service> = Api::namespaced(self.client.clone(), "default");
        let service = json!({
            "metadata": {"name": name, "labels": {"of": app}},
            "spec": {"selector": {"app": app}, "ports": [{"port": 80}]},
        });
        let service = serde_json::from_value(service).expect("a service");
        services
            .create(&PostParams::default(), &service)
            .await
            .expect("created");
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        let request = http::Request::get(path)
            .body(Vec::new())
            .expect("a request");
        match self.client.request::<Value>(request).await {
            Ok(value) => Ok(value),
            Err(kube::Error::Api(status)) => Err(format!(
                "{} {}: {}",
                status.code, status.reason, status.message
            )),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    async fn custom(&self, path: &str) -> Result<Value, String> {
        let group = "/apis/custom.metrics.k8s.io/v1beta2";
        self.get(&format!("{group}/namespaces/default/{path}"))
            .await
    }

    async fn external(&self, path: &str) -> Result<Value, String> {
        let group = "/apis/external.metrics.k8s.io/v1beta1";
        self.get(&format!("{group}/namespaces/default/{path}"))
            .await
    }

    /// Values of a custom metric by the names of their objects, as soon as there are so many.
    async fn until(&self, path: &str, count: usize) -> BTreeMap<String, String> {
        let mut last = String::new();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            match self.custom(path).await {
                Ok(list) => {
                    let values = values(&list);
                    if values.len() == count {
                        return values;
                    }
                    last = list.to_string();
                }
                Err(error) => last = error,
            }
            tokio::time::sleep(INTERVAL).await;
        }
        panic!("{path} never had {count} values; at last: {last}");
    }

    /// Waits until a list of an external metric has an item.
    async fn until_external(&self, path: &str, wanted: (&str, &str, &str)) {
        let mut last = String::new();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            match self.external(path).await {
                Ok(list) => {
                    let has = |item: &Value| {
                        let labels = &item["metricLabels"];
                        (
                            labels["pod"].as_str(),
                            labels["reason"].as_str(),
                            item["value"].as_str(),
                        ) == (Some(wanted.0), Some(wanted.1), Some(wanted.2))
                    };
                    if list["items"].as_array().expect("items").iter().any(has) {
                        return;
                    }
                    last = list.to_string();
                }
                Err(error) => last = error,
            }
            tokio::time::sleep(INTERVAL).await;
        }
        panic!("{path} never had {wanted:?}; at last: {last}");
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.task.await.expect("the collector ends cleanly");
        self.server.stop();
    }
}

fn values(list: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let items = list["items"].as_array().expect("items").iter();
    items
        .map(|item| (text(&item["describedObject"]["name"]), text(&item["value"])))
        .collect()
}

fn aggregated(resource: &metrics::Resource) -> AggregatedResource {
    AggregatedResource {
        name: resource.name.to_string(),
        singular: resource.singular.to_owned(),
        kind: resource.kind.to_owned(),
        namespaced: resource.namespaced,
        verbs: resource
            .verbs
            .iter()
            .map(|verb| (*verb).to_owned())
            .collect(),
        short_names: Vec::new(),
    }
}

fn limits() -> Limits {
    Limits {
        interval: INTERVAL,
        timeout: Duration::from_millis(150),
        backoff_max: INTERVAL * 2,
        page_bytes_max: 100_000,
        series_per_pod_max: 20,
        ..Limits::default()
    }
}

fn page(text: &str) -> Answer {
    Answer::Page(text.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_pods_expose_is_told_of_every_object_in_upstreams_shapes() {
    let fixture = Fixture::new(limits()).await;
    fixture.service("web", "web").await;
    fixture.service("front", "none").await;
    let web = "queue{kind=\"a\",ingress=\"main\"} 2\nqueue{kind=\"b\"} 1.5\n\
        latency_seconds_bucket{le=\"0.1\"} {}\nlatency_seconds_bucket{le=\"1\"} {}\nlatency_seconds_bucket{le=\"+Inf\"} {}\n\
        latency_seconds_sum {}\nlatency_seconds_count {}\njobs_total {}\ncpu_seconds_total {}\n";
    fixture.pod("web-0", "web", Answer::Counting(web)).await;
    fixture
        .pod("web-1", "web", page("queue{kind=\"a\"} 0.0015\n"))
        .await;
    fixture.pod("db-0", "db", page("queue 100\n")).await;

    let told = fixture.until("pods/*/queue", 3).await;
    let wanted = [("db-0", "100"), ("web-0", "3500m"), ("web-1", "1m")];
    assert_eq!(
        told,
        wanted.map(|(a, b)| (a.to_owned(), b.to_owned())).into()
    );
    for (path, count) in [
        ("pods/*/queue?labelSelector=app%3Dweb", 2),
        ("pods/*/queue?labelSelector=app+in+(web,db)", 3),
        ("pods/*/queue?metricLabelSelector=kind%3Db", 1),
        ("pods/*/queue?labelSelector=app%3Dnone", 0),
        ("pods/web-0/queue", 1),
        ("services/web/queue", 1),
        ("services/*/queue?labelSelector=of%3Dweb", 1),
        ("metrics/queue", 1),
        ("ingresses.networking.k8s.io/main/queue", 1),
        ("ingresses.networking.k8s.io/*/queue", 1),
    ] {
        fixture.until(path, count).await;
    }
    for (path, value) in [
        ("pods/web-0/queue?metricLabelSelector=kind%3Db", "1500m"),
        ("services/web/queue", "3501m"),
        ("services/web/queue?metricLabelSelector=kind%3Da", "2001m"),
        ("metrics/queue", "103501m"),
        ("ingresses.networking.k8s.io/main/queue", "2"),
        ("services/front/gateway_requests", "12500m"),
        ("pods/web-0/queue_avg", "3500m"),
        ("pods/web-0/up", "1"),
    ] {
        let told = fixture.until(path, 1).await;
        assert_eq!(
            told.values().next().map(String::as_str),
            Some(value),
            "{path}"
        );
    }
    // counters and histograms are told over a window, about 5 scrapes a second here, fewer on a busy machine
    for (path, low, high) in [
        ("pods/web-0/jobs", 0.5, 12.0),
        ("pods/web-0/cpu", 0.5, 12.0),
        ("pods/web-0/latency_seconds_p50", 0.04, 0.06),
        ("pods/web-0/latency_seconds_avg", 0.99, 1.01),
        ("services/web/jobs", 0.5, 12.0),
    ] {
        let told = fixture.until(path, 1).await;
        let text = told.values().next().expect("a value");
        let value = autoscale::quantity::Quantity::parse(text)
            .expect("a quantity")
            .as_f64();
        assert!((low..=high).contains(&value), "{path}: {value}");
    }

    let list = fixture
        .custom("pods/web-0/jobs?metricLabelSelector=pod%3Dweb-0")
        .await
        .expect("a list");
    assert_eq!(list["kind"], "MetricValueList");
    assert_eq!(list["apiVersion"], "custom.metrics.k8s.io/v1beta2");
    let mut item = list["items"][0].clone();
    let (window, time) = (item["windowSeconds"].take(), item["timestamp"].take());
    assert!(
        window
            .as_u64()
            .is_some_and(|seconds| (1..=10).contains(&seconds)),
        "{list}"
    );
    let age = jiff::Timestamp::now()
        .duration_since(time.as_str().expect("text").parse().expect("a time"));
    assert!(age.as_secs().abs() <= 3, "{list}");
    item["value"] = "".into();
    assert_eq!(
        item,
        json!({
            "describedObject": {"kind": "Pod", "namespace": "default", "name": "web-0", "apiVersion": "/v1"},
            "metric": {"name": "jobs", "selector": {"matchLabels": {"pod": "web-0"}}},
            "timestamp": null, "windowSeconds": null, "value": "",
        })
    );
    let old = fixture
        .get("/apis/custom.metrics.k8s.io/v1beta1/namespaces/default/metrics/queue")
        .await
        .expect("a list");
    let mut item = old["items"][0].clone();
    item["timestamp"].take();
    assert_eq!(old["apiVersion"], "custom.metrics.k8s.io/v1beta1");
    assert_eq!(
        item,
        json!({
            "describedObject": {"kind": "Namespace", "name": "default", "apiVersion": "/v1"},
            "metricName": "queue", "selector": null, "timestamp": null, "value": "103501m",
        })
    );
    let list = fixture
        .external("queue?labelSelector=kind%3Db")
        .await
        .expect("a list");
    let mut item = list["items"][0].clone();
    item["timestamp"].take();
    assert_eq!(list["kind"], "ExternalMetricValueList");
    assert_eq!(list["apiVersion"], "external.metrics.k8s.io/v1beta1");
    assert_eq!(
        item,
        json!({
            "metricName": "queue", "timestamp": null, "value": "1500m",
            "metricLabels": {"kind": "b", "namespace": "default", "pod": "web-0"},
        })
    );
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_refused_in_upstreams_words() {
    let fixture = Fixture::new(limits()).await;
    fixture.service("web", "web").await;
    fixture.pod("web-0", "web", page("queue 1\n")).await;
    fixture.until("pods/*/queue", 1).await;
    let words = "404 NotFound: the server could not find the";
    for (path, message) in [
        ("pods/*/none", format!("{words} metric none for pods")),
        (
            "pods/other/queue",
            format!("{words} metric queue for pods other"),
        ),
        ("pods/web-0/none", format!("{words} metric none for pods")),
        (
            "services/other/queue",
            format!("{words} metric queue for services other"),
        ),
        (
            "deployments.apps/web/queue",
            format!("{words} metric queue for deployments.apps web"),
        ),
        (
            "metrics/none",
            format!("{words} metric none for namespaces"),
        ),
        ("pods", format!("{words} metric pods for namespaces")),
        ("a/b/c/d/e", format!("{words} requested resource")),
    ] {
        assert_eq!(fixture.custom(path).await, Err(message), "{path}");
    }
    let message = fixture.external("none").await;
    assert_eq!(message, Err(format!("{words} metric none for namespaces")));
    for path in [
        "pods/*/queue?labelSelector=a+b",
        "pods/*/queue?metricLabelSelector=%2Ca",
    ] {
        let message = fixture.custom(path).await.expect_err("a refusal");
        assert!(
            message.starts_with("400 BadRequest: unable to parse"),
            "{message}"
        );
    }
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_follows_what_is_exposed() {
    let fixture = Fixture::new(limits()).await;
    let path = "/apis/custom.metrics.k8s.io/v1beta2";
    let list = fixture.get(path).await.expect("a list without pods");
    assert_eq!(list["groupVersion"], "custom.metrics.k8s.io/v1beta2");
    fixture
        .pod(
            "web-0",
            "web",
            page("jobs_total 1\nlatency_seconds_bucket{le=\"1\"} 1\n"),
        )
        .await;
    fixture.until("pods/*/up", 1).await;
    let names = |list: &Value| -> Vec<String> {
        let resources = list["resources"].as_array().expect("resources").iter();
        resources
            .map(|r| r["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let list = fixture.get(path).await.expect("a list");
    for name in [
        "pods/jobs",
        "services/jobs",
        "namespaces/jobs",
        "pods/latency_seconds_p99",
        "services/gateway_requests",
    ] {
        assert!(names(&list).contains(&name.to_owned()), "{name}: {list}");
    }
    let of = |name: &str| {
        let resources = list["resources"].as_array().expect("resources").iter();
        resources
            .clone()
            .find(|resource| resource["name"] == name)
            .cloned()
            .expect("listed")
    };
    let jobs = of("pods/jobs");
    assert_eq!(
        (&jobs["kind"], &jobs["namespaced"], &jobs["verbs"]),
        (&json!("MetricValueList"), &json!(true), &json!(["get"]))
    );
    assert_eq!(of("namespaces/jobs")["namespaced"], false);
    let external = fixture
        .get("/apis/external.metrics.k8s.io/v1beta1")
        .await
        .expect("a list");
    assert!(names(&external).contains(&"jobs".to_owned()), "{external}");
    let group = fixture
        .get("/apis/custom.metrics.k8s.io")
        .await
        .expect("a group");
    assert_eq!(group["preferredVersion"]["version"], "v1beta2");

    // what kubectl asks first: metrics are subresources there
    let form = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let request = http::Request::get("/apis")
        .header("accept", form)
        .body(Vec::new())
        .expect("a request");
    let groups: Value = fixture.client.request(request).await.expect("groups");
    let found = |list: &Value, key: &str, name: &str| {
        let all = list.as_array().expect("a list").iter();
        let named = |item: &&Value| item[key] == name || item["metadata"][key] == name;
        all.clone().find(named).cloned().expect(name)
    };
    let group = found(&groups["items"], "name", "custom.metrics.k8s.io");
    let version = found(&group["versions"], "version", "v1beta1");
    let pods = found(&version["resources"], "resource", "pods");
    assert_eq!(pods["scope"], "Namespaced");
    let jobs = found(&pods["subresources"], "subresource", "jobs");
    assert_eq!(jobs["responseKind"]["kind"], "MetricValueList");
    let namespaces = found(&version["resources"], "resource", "namespaces");
    assert_eq!(namespaces["scope"], "Cluster");
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_hang_lie_or_never_end_harm_nobody_and_are_told() {
    let fixture = Fixture::new(limits()).await;
    let mut hanging = Vec::new();
    for n in 0..30 {
        let answer = if n % 2 == 0 {
            Answer::Hang
        } else {
            Answer::HangInBody
        };
        hanging.push(fixture.pod(&format!("hang-{n}"), "bad", answer).await);
    }
    let many: String = (0..200).map(|n| format!("many{{n=\"{n}\"}} 1\n")).collect();
    fixture.pod("endless", "bad", Answer::Endless).await;
    fixture
        .pod("status", "bad", Answer::Status("500 Oh No"))
        .await;
    fixture
        .pod("redirect", "bad", Answer::Status("302 Found"))
        .await;
    fixture.pod("nonsense", "bad", Answer::Nonsense).await;
    fixture.pod("many", "bad", page(&many)).await;
    fixture
        .pod(
            "nan",
            "bad",
            page("queue NaN\nqueue{a=\"1\"} +Inf\nqueue{a=\"2\"} 7\n"),
        )
        .await;
    fixture
        .pod(
            "lies",
            "bad",
            page("queue 1e308\nqueue{a=\"1\"} 1e308\nup 0\n"),
        )
        .await;
    fixture
        .object(
            "port",
            "bad",
            json!({"prometheus.io/scrape": "true", "prometheus.io/port": "no"}),
        )
        .await;
    let good = fixture
        .pod("good", "good", Answer::Counting("queue 5\njobs_total {}\n"))
        .await;

    for wanted in [
        ("hang-0", "timeout", "1"),
        ("hang-1", "timeout", "1"),
        ("endless", "too_large", "1"),
        ("status", "status", "1"),
        ("redirect", "status", "1"),
        ("nonsense", "broken", "1"),
        ("port", "annotation", "1"),
    ] {
        fixture.until_external("scrape_failed", wanted).await;
    }
    for wanted in [
        ("many", "pod_limit", "180"),
        ("nan", "not_finite", "2"),
        ("lies", "reserved", "1"),
    ] {
        fixture
            .until_external("scrape_samples_dropped", wanted)
            .await;
    }
    // what is larger than can be told is not told; the others are
    let told = fixture.until("pods/*/queue", 2).await;
    let wanted = [("good", "5"), ("nan", "7")];
    assert_eq!(
        told,
        wanted.map(|(a, b)| (a.to_owned(), b.to_owned())).into()
    );
    let (before, began) = (good.scrapes.load(Ordering::SeqCst), Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let scrapes = good.scrapes.load(Ordering::SeqCst) - before;
    let rate = scrapes as f64 / began.elapsed().as_secs_f64();
    assert!(rate > 1.0, "the good pod is scraped {rate} times a second");
    for pod in &hanging {
        assert!(
            pod.at_once_max.load(Ordering::SeqCst) <= 2,
            "one scrape at a time"
        );
    }
    // a pod that recovers is told again
    *hanging[0].answer.lock() = page("queue 1\n");
    fixture.until("pods/hang-0/queue", 1).await;
    fixture.end().await;
}

/// A certificate that nobody has signed for, as pods have them.
fn own_certificate() -> tokio_rustls::TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["pod".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("versions")
    .with_no_client_auth()
    .with_single_cert(vec![made.cert.der().clone()], key.into())
    .expect("a configuration");
    Arc::new(config).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_asked_by_https_if_they_say_so() {
    let fixture = Fixture::new(limits()).await;
    let says = |fake: &FakePod, scheme: &str| json!({"prometheus.io/scrape": "true", "prometheus.io/port": fake.port.to_string(), "prometheus.io/scheme": scheme});
    let secret = FakePod::start_with(page("depth 7\n"), Some(own_certificate())).await;
    fixture.object("secret", "s", says(&secret, "https")).await;
    let told = fixture.until("pods/*/depth", 1).await;
    assert_eq!(
        told.get("secret").map(String::as_str),
        Some("7"),
        "{told:?}"
    );
    // who says https and speaks http is told to be wrong, and by which step
    let plain = FakePod::start(page("depth 8\n")).await;
    fixture.object("plain", "p", says(&plain, "https")).await;
    fixture
        .until_external("scrape_failed", ("plain", "tls", "1"))
        .await;
    fixture.end().await;
}
