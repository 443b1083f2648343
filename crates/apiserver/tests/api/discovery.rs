//! Discovery, version, OpenAPI, health, who-am-I.

use apiserver::{AggregatedResource, Identity};
use bytes::Bytes;
use serde_json::{Value, json};
use tower::util::BoxCloneService;

use crate::server::{CONFIG_MAPS, Server};

const V2: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

#[tokio::test]
async fn legacy_discovery() {
    let server = Server::new().await;
    assert_eq!(
        server.get("/api").await.expect(200)["versions"],
        json!(["v1"])
    );
    let groups = server.get("/apis").await.expect(200);
    let find = |name: &str| {
        groups["groups"]
            .as_array()
            .and_then(|g| g.iter().find(|g| g["name"] == name))
            .cloned()
            .expect("the group")
    };
    assert_eq!(find("autoscaling")["preferredVersion"]["version"], "v2");
    assert_eq!(
        find("autoscaling")["versions"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(
        server.get("/apis/apps").await.expect(200)["kind"],
        "APIGroup"
    );
    let apps = server.get("/apis/apps/v1").await.expect(200);
    assert_eq!(apps["groupVersion"], "apps/v1");
    let scale = apps["resources"]
        .as_array()
        .and_then(|r| r.iter().find(|r| r["name"] == "deployments/scale"))
        .expect("scale");
    assert_eq!(
        (&scale["group"], &scale["version"], &scale["kind"]),
        (&json!("autoscaling"), &json!("v1"), &json!("Scale"))
    );
    let core = server.get("/api/v1").await.expect(200);
    let names: Vec<_> = core["resources"]
        .as_array()
        .expect("resources")
        .iter()
        .filter_map(|r| r["name"].as_str())
        .collect();
    for name in [
        "pods",
        "pods/log",
        "pods/exec",
        "pods/status",
        "pods/binding",
        "namespaces/finalize",
        "nodes/proxy",
        "pods/proxy",
        "services/proxy",
        "services/status",
    ] {
        assert!(names.contains(&name), "{name}");
    }
}

#[tokio::test]
async fn aggregated_discovery() {
    let server = Server::new().await;
    let answer = server.ask("GET", "/apis", &[("accept", V2)], "").await;
    assert_eq!(
        answer.headers["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let list = answer.expect(200);
    assert_eq!(
        (list["kind"].as_str(), list["apiVersion"].as_str()),
        (
            Some("APIGroupDiscoveryList"),
            Some("apidiscovery.k8s.io/v2")
        )
    );
    let apps = list["items"]
        .as_array()
        .and_then(|i| i.iter().find(|i| i["metadata"]["name"] == "apps"))
        .expect("apps");
    let deployments = &apps["versions"][0]["resources"][0];
    assert_eq!(
        deployments["responseKind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    assert_eq!(
        (&deployments["scope"], &deployments["shortNames"]),
        (&json!("Namespaced"), &json!(["deploy"]))
    );
    let core = server
        .ask("GET", "/api", &[("accept", V2)], "")
        .await
        .expect(200);
    assert_eq!(core["items"][0]["metadata"]["name"], "");
    let beta = server
        .ask(
            "GET",
            "/apis",
            &[("accept", &V2.replace("v=v2", "v=v2beta1"))],
            "",
        )
        .await
        .expect(200);
    assert_eq!(beta["apiVersion"], "apidiscovery.k8s.io/v2beta1");
}

#[tokio::test]
async fn version_health_and_schema() {
    let server = Server::new().await;
    assert_eq!(server.get("/version").await.expect(200)["minor"], "37");
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = server.get(path).await;
        assert_eq!((answer.code, &answer.raw[..]), (200, &b"ok"[..]));
    }
    for (path, expected) in [
        ("/livez/ping", "ok"),
        ("/readyz/etcd", "ok"),
        (
            "/readyz?verbose",
            "[+]ping ok\n[+]etcd ok\nreadyz check passed\n",
        ),
        (
            "/livez?verbose&exclude=etcd",
            "[+]ping ok\nlivez check passed\n",
        ),
        (
            "/livez?verbose&exclude=log&exclude=etcd",
            "[+]ping ok\nlivez check passed\n",
        ),
    ] {
        let answer = server.get(path).await;
        assert_eq!(
            (answer.code, &answer.raw[..]),
            (200, expected.as_bytes()),
            "{path}"
        );
    }
    server.get("/readyz/nothing").await.refusal(404);
    let index = server.get("/openapi/v3").await.expect(200);
    assert!(
        index["paths"]["apis/apps/v1"]["serverRelativeURL"].is_string(),
        "{index}"
    );
    let document = server.get("/openapi/v3/apis/apps/v1").await.expect(200);
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"]["kind"], "Deployment",
        "{patch}"
    );
    server.get("/openapi/v3/apis/nope/v1").await.refusal(404);
}

#[tokio::test]
async fn a_schema_is_kept_for_as_long_as_its_address_is_the_same() {
    let server = Server::new().await;
    let index = server.get("/openapi/v3").await.expect(200);
    let address = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str();
    let address = address.expect("an address");
    let header = |answer: &crate::server::Answer, name: &str| {
        let value = answer
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let named = server.get(address).await;
    assert_eq!(
        (named.code, &*header(&named, "cache-control")),
        (200, "public, immutable")
    );
    assert!(
        header(&named, "expires").ends_with(" GMT"),
        "{:?}",
        named.headers
    );
    let etag = header(&named, "etag");
    let again = server
        .ask("GET", address, &[("if-none-match", &etag)], "")
        .await;
    assert_eq!((again.code, again.raw.len()), (304, 0));
    let plain = server.get("/openapi/v3/apis/apps/v1").await;
    assert_eq!((plain.code, header(&plain, "etag")), (200, etag));
    let kept = header(&plain, "cache-control");
    assert_eq!(kept, "no-cache, private", "it may be another one next time");
    assert_eq!(plain.raw, named.raw);
    let old = server.get("/openapi/v3/apis/apps/v1?hash=0123").await;
    assert_eq!((old.code, &*header(&old, "location")), (301, address));
}

#[tokio::test]
async fn reviews_and_strangers() {
    let mut server = Server::new().await;
    let access = |resource: &str| json!({"spec": {"resourceAttributes": {"verb": "get", "resource": resource, "namespace": "default"}}});
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    assert_eq!(
        server.post(reviews, &access("pods")).await.expect(201)["status"]["allowed"],
        true
    );
    server.identity = Identity::new("jane", &["people"]);
    assert_eq!(
        server.post(reviews, &access("pods")).await.expect(201)["status"]["allowed"],
        false
    );
    let user = server.post(whoami, &json!({})).await.expect(201)["status"]["userInfo"].clone();
    assert_eq!(
        user,
        json!({"username": "jane", "groups": ["people", "system:authenticated"]})
    );
    assert_eq!(
        server.get(&format!("{CONFIG_MAPS}/a")).await.refusal(403),
        "configmaps \"a\" is forbidden: User \"jane\" cannot get resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(
        server.get("/api/v1/nodes").await.refusal(403),
        "nodes is forbidden: User \"jane\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"
    );
    server.get("/apis").await.expect(200);
    server.get(reviews).await.refusal(403);
    server.identity = Identity::admin();
    server.get(reviews).await.refusal(405);
}

#[tokio::test]
async fn masters_may_act_as_others() {
    let mut server = Server::new().await;
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let headers = [
        ("content-type", "application/json"),
        ("impersonate-user", "jane"),
        ("impersonate-group", "a"),
        ("impersonate-group", "b"),
    ];
    let user = server.ask("POST", whoami, &headers, "{}").await.expect(201);
    assert_eq!(
        user["status"]["userInfo"],
        json!({"username": "jane", "groups": ["a", "b", "system:authenticated"]})
    );
    server
        .ask("GET", CONFIG_MAPS, &headers, "")
        .await
        .refusal(403);
    for identity in [
        Identity::new("jane", &[]),
        Identity::new("system:node:n", &["system:nodes"]),
    ] {
        server.identity = identity;
        let message = server
            .ask("POST", whoami, &headers, "{}")
            .await
            .refusal(403);
        assert!(
            message.contains("cannot impersonate resource \"users\""),
            "{message}"
        );
    }
}

#[tokio::test]
async fn aggregated_apis_are_found_and_asked() {
    let server = Server::new().await;
    let service = tower::service_fn(|request: http::Request<Bytes>| async move {
        let body = json!({"kind": "NodeMetricsList", "asked": request.uri().path(), "query": request.uri().query()});
        Ok::<_, apiserver::BoxError>(http::Response::new(Bytes::from(body.to_string())))
    });
    let resource = AggregatedResource {
        name: "nodes".into(),
        singular: "".into(),
        kind: "NodeMetrics".into(),
        namespaced: false,
        verbs: vec!["get".into(), "list".into()],
        short_names: vec![],
    };
    server.api.aggregate(
        "metrics.k8s.io",
        "v1beta1",
        vec![resource],
        BoxCloneService::new(service),
    );
    let answer = server
        .get("/apis/metrics.k8s.io/v1beta1/nodes?x=y")
        .await
        .expect(200);
    assert_eq!(
        (&answer["asked"], &answer["query"]),
        (&json!("/apis/metrics.k8s.io/v1beta1/nodes"), &json!("x=y"))
    );
    let groups: Value = server.get("/apis").await.expect(200);
    assert!(
        groups["groups"]
            .as_array()
            .is_some_and(|g| g.iter().any(|g| g["name"] == "metrics.k8s.io"))
    );
    assert_eq!(
        server.get("/apis/metrics.k8s.io/v1beta1").await.expect(200)["resources"][0]["kind"],
        "NodeMetrics"
    );
    let list = server
        .ask("GET", "/apis", &[("accept", V2)], "")
        .await
        .expect(200);
    let metrics = list["items"]
        .as_array()
        .and_then(|i| i.iter().find(|i| i["metadata"]["name"] == "metrics.k8s.io"))
        .expect("metrics");
    assert_eq!(metrics["versions"][0]["resources"][0]["resource"], "nodes");
}
