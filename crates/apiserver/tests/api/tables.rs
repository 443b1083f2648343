//! Printer columns of every kind, as `kubectl get -o wide` shows them.

use serde_json::{Value, json};

use crate::server::{
    CONFIG_MAPS, DEPLOYMENTS, PODS, SERVICES, Server, config_map, deployment, pod, service,
};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

async fn table(server: &Server, path: &str) -> Value {
    server
        .ask("GET", path, &[("accept", TABLE)], "")
        .await
        .expect(200)
}

fn columns(table: &Value) -> String {
    let all = table["columnDefinitions"].as_array().expect("columns");
    all.iter()
        .map(|c| c["name"].as_str().expect("a name").to_uppercase())
        .collect::<Vec<_>>()
        .join("|")
}

#[tokio::test]
async fn columns_are_upstreams() {
    let server = Server::new().await;
    let cases = [
        (
            "/api/v1/pods",
            "NAME|READY|STATUS|RESTARTS|AGE|IP|NODE|NOMINATED NODE|READINESS GATES",
        ),
        (
            "/api/v1/services",
            "NAME|TYPE|CLUSTER-IP|EXTERNAL-IP|PORT(S)|AGE|SELECTOR",
        ),
        (
            "/api/v1/nodes",
            "NAME|STATUS|ROLES|AGE|VERSION|INTERNAL-IP|EXTERNAL-IP|OS-IMAGE|KERNEL-VERSION|CONTAINER-RUNTIME",
        ),
        ("/api/v1/namespaces", "NAME|STATUS|AGE"),
        (
            "/api/v1/events",
            "LAST SEEN|TYPE|REASON|OBJECT|SUBOBJECT|SOURCE|MESSAGE|FIRST SEEN|COUNT|NAME",
        ),
        ("/api/v1/configmaps", "NAME|DATA|AGE"),
        ("/api/v1/secrets", "NAME|TYPE|DATA|AGE"),
        ("/api/v1/serviceaccounts", "NAME|SECRETS|AGE"),
        ("/api/v1/endpoints", "NAME|ENDPOINTS|AGE"),
        (
            "/apis/apps/v1/deployments",
            "NAME|READY|UP-TO-DATE|AVAILABLE|AGE|CONTAINERS|IMAGES|SELECTOR",
        ),
        (
            "/apis/apps/v1/replicasets",
            "NAME|DESIRED|CURRENT|READY|AGE|CONTAINERS|IMAGES|SELECTOR",
        ),
        (
            "/apis/autoscaling/v1/horizontalpodautoscalers",
            "NAME|REFERENCE|TARGETS|MINPODS|MAXPODS|REPLICAS|AGE",
        ),
        (
            "/apis/autoscaling/v2/horizontalpodautoscalers",
            "NAME|REFERENCE|TARGETS|MINPODS|MAXPODS|REPLICAS|AGE",
        ),
        ("/apis/coordination.k8s.io/v1/leases", "NAME|HOLDER|AGE"),
        (
            "/apis/discovery.k8s.io/v1/endpointslices",
            "NAME|ADDRESSTYPE|PORTS|ENDPOINTS|AGE",
        ),
        (
            "/apis/networking.k8s.io/v1/networkpolicies",
            "NAME|POD-SELECTOR|AGE",
        ),
    ];
    for (path, expected) in cases {
        assert_eq!(columns(&table(&server, path).await), expected, "{path}");
    }
}

#[tokio::test]
async fn rows_carry_cells_and_metadata() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    server
        .post(DEPLOYMENTS, &deployment("web"))
        .await
        .expect(201);
    server.post(PODS, &pod("p")).await.expect(201);
    let mut s = service("s");
    s["spec"]["selector"] = json!({"a": "b"});
    let s = server.post(SERVICES, &s).await.expect(201);
    let cells = |table: &Value| table["rows"][0]["cells"].clone();
    let seen = table(&server, CONFIG_MAPS).await;
    assert_eq!(
        (&cells(&seen)[0], &cells(&seen)[1]),
        (&json!("a"), &json!(1))
    );
    assert_eq!(seen["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(seen["rows"][0]["object"]["metadata"]["name"], "a");
    let seen = table(&server, &format!("{DEPLOYMENTS}/web")).await;
    assert_eq!(
        cells(&seen),
        json!([
            "web",
            "0/2",
            0,
            0,
            cells(&seen)[4],
            "c",
            "busybox:1",
            "app=web"
        ])
    );
    let seen = table(&server, &format!("{PODS}?includeObject=None")).await;
    assert_eq!(
        cells(&seen),
        json!([
            "p",
            "0/1",
            "Pending",
            "0",
            cells(&seen)[4],
            "<none>",
            "<none>",
            "<none>",
            "<none>"
        ])
    );
    assert!(seen["rows"][0].get("object").is_none());
    let seen = table(&server, &format!("{SERVICES}/s?includeObject=Object")).await;
    assert_eq!(
        cells(&seen),
        json!([
            "s",
            "ClusterIP",
            s["spec"]["clusterIP"],
            "<none>",
            "80/TCP",
            cells(&seen)[5],
            "a=b"
        ])
    );
    assert_eq!(seen["rows"][0]["object"]["kind"], "Service");
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "R", "message": "m\n", "type": "Normal", "count": 3, "source": {"component": "x", "host": "h"}});
    server
        .post("/api/v1/namespaces/default/events", &event)
        .await
        .expect(201);
    for path in ["/api/v1/events", "/apis/events.k8s.io/v1/events"] {
        let seen = table(&server, path).await;
        assert_eq!(
            cells(&seen),
            json!([
                "<unknown>",
                "Normal",
                "R",
                "pod/p",
                "",
                "x, h",
                "m",
                "<unknown>",
                "3",
                "e"
            ]),
            "{path}"
        );
    }
}

#[tokio::test]
async fn metadata_alone() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = server
        .ask("GET", CONFIG_MAPS, &[("accept", accept)], "")
        .await
        .expect(200);
    assert_eq!(
        (list["kind"].as_str(), list["items"][0]["kind"].as_str()),
        (
            Some("PartialObjectMetadataList"),
            Some("PartialObjectMetadata")
        )
    );
    assert!(list["items"][0].get("data").is_none());
    server
        .ask("GET", CONFIG_MAPS, &[("accept", "text/html")], "")
        .await
        .refusal(406);
}
