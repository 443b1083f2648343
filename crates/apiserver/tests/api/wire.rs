//! Answers as protobuf and YAML, and compressed: what client-go's typed and metadata clients ask for.

use std::io::Read as _;

use apiserver::codec::{decode, protobuf};
use serde_json::{Value, json};

use crate::server::{Answer, CONFIG_MAPS, DEPLOYMENTS, Server, config_map, deployment};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// What client-go's clients with protobuf send.
pub const BOTH: &str = "application/vnd.kubernetes.protobuf,application/json";
pub const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

async fn get(server: &Server, path: &str, accept: &str) -> Answer {
    server.ask("GET", path, &[("accept", accept)], "").await
}

fn read(answer: &Answer) -> Value {
    assert_eq!(answer.headers["content-type"], PROTOBUF, "{:?}", answer.raw);
    decode(PROTOBUF, &answer.raw, None).expect("protobuf").0
}

/// The object as JSON shows it. Zero values that Go writes are left aside, as are fields without a protobuf number.
fn same(json: &Value, protobuf: &Value) -> bool {
    match (json, protobuf) {
        (Value::Object(json), Value::Object(protobuf)) => json.iter().all(|(key, value)| {
            // An empty list or map and none are the same there.
            let empty = *value == json!([]) || *value == json!({});
            protobuf.get(key).map_or(empty, |found| same(value, found))
        }),
        (Value::Array(json), Value::Array(protobuf)) => {
            json.len() == protobuf.len()
                && json.iter().zip(protobuf).all(|(a, b)| same(&untyped(a), b))
        }
        (json, protobuf) => json == protobuf,
    }
}

/// Items of a list have no type of their own in protobuf.
fn untyped(item: &Value) -> Value {
    let mut item = item.clone();
    if item.get("metadata").is_some()
        && let Some(item) = item.as_object_mut()
    {
        item.remove("apiVersion");
        item.remove("kind");
    }
    item
}

#[tokio::test]
async fn objects_and_lists() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    server
        .post(DEPLOYMENTS, &deployment("web"))
        .await
        .expect(201);
    for path in [
        &format!("{CONFIG_MAPS}/a"),
        &format!("{DEPLOYMENTS}/web"),
        &format!("{DEPLOYMENTS}/web/scale"),
        &format!("{DEPLOYMENTS}/web/status"),
        "/api/v1/namespaces/default",
        "/api/v1/services/",
        "/api/v1/namespaces",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/apps/v1/deployments?limit=1",
        CONFIG_MAPS,
    ] {
        let json = server.get(path).await.expect(200);
        for accept in [
            PROTOBUF,
            BOTH,
            "application/vnd.kubernetes.protobuf, */*;q=0.1",
        ] {
            let answer = get(&server, path, accept).await;
            assert_eq!(answer.code, 200, "{path}");
            let protobuf = read(&answer);
            assert!(same(&json, &protobuf), "{path}\n{json}\n{protobuf}");
        }
    }
}

#[tokio::test]
async fn writes_are_answered_as_they_are_asked() {
    let server = Server::new().await;
    let headers = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    let body = protobuf::encode(&config_map("a")).expect("encodes");
    let answer = server.ask("POST", CONFIG_MAPS, &headers, body).await;
    assert_eq!(answer.code, 201);
    let mut created = read(&answer);
    assert_eq!(created["data"]["a"], "b");
    created["data"]["c"] = "d".into();
    let one = format!("{CONFIG_MAPS}/a");
    let body = protobuf::encode(&created).expect("encodes");
    let answer = server.ask("PUT", &one, &headers, body).await;
    assert_eq!(
        (answer.code, &read(&answer)["data"]["c"]),
        (200, &json!("d"))
    );
    let patch = [
        ("content-type", "application/merge-patch+json"),
        ("accept", PROTOBUF),
    ];
    let answer = server
        .ask("PATCH", &one, &patch, r#"{"data":{"c":null}}"#)
        .await;
    assert!(read(&answer)["data"].get("c").is_none());
    let apply = [
        ("content-type", "application/apply-patch+yaml"),
        ("accept", PROTOBUF),
    ];
    let query = format!("{one}?fieldManager=m&force=true");
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {e: f}\n";
    let applied = read(&server.ask("PATCH", &query, &apply, body).await);
    assert_eq!(applied["data"]["e"], "f");
    assert!(
        applied["metadata"]["managedFields"][0]["fieldsV1"].is_object(),
        "{applied}"
    );
    // A precondition that does not hold shows that the options were read.
    let options = |uid: &str| {
        let options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
        protobuf::encode(&options).expect("encodes")
    };
    let refused = server.ask("DELETE", &one, &headers, options("other")).await;
    assert_eq!(refused.code, 409);
    let status = read(&refused);
    assert_eq!(
        (&status["kind"], &status["reason"]),
        (&json!("Status"), &json!("Conflict"))
    );
    assert_eq!(status["details"]["name"], "a");
    let uid = created["metadata"]["uid"]
        .as_str()
        .expect("a uid")
        .to_owned();
    let deleted = server.ask("DELETE", &one, &headers, options(&uid)).await;
    assert_eq!(read(&deleted)["status"], "Success");
    let gone = get(&server, &one, PROTOBUF).await;
    assert_eq!(
        (gone.code, &read(&gone)["reason"]),
        (404, &json!("NotFound"))
    );
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let body = protobuf::encode(&review).expect("encodes");
    let answer = server.ask("POST", path, &headers, body).await;
    assert_eq!(read(&answer)["status"]["allowed"], true);
}

#[tokio::test]
async fn metadata_alone() {
    let server = Server::new().await;
    server
        .post(DEPLOYMENTS, &deployment("web"))
        .await
        .expect(201);
    let one = read(&get(&server, &format!("{DEPLOYMENTS}/web"), METADATA).await);
    assert_eq!(one["kind"], "PartialObjectMetadata");
    assert_eq!(one["metadata"]["name"], "web");
    assert!(one.get("spec").is_none());
    let list = read(&get(&server, DEPLOYMENTS, METADATA_LIST).await);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"]["name"], "web");
    assert!(!list["metadata"]["resourceVersion"].is_null());
    let message = get(&server, DEPLOYMENTS, METADATA).await.refusal(406);
    assert_eq!(
        message,
        "you requested PartialObjectMetadata, but the requested object is a list (*DeploymentList)"
    );
    let one = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let message = get(&server, &format!("{DEPLOYMENTS}/web"), one)
        .await
        .refusal(406);
    assert_eq!(
        message,
        "you requested PartialObjectMetadataList, but the requested object is not a list (*Deployment)"
    );
}

#[tokio::test]
async fn what_there_is_not() {
    let server = Server::new().await;
    let accepted = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    for accept in [
        "application/cbor",
        "text/html",
        "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1",
    ] {
        let answer = get(&server, CONFIG_MAPS, accept).await;
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.refusal(406), accepted, "{accept}");
    }
    let watch = format!("{CONFIG_MAPS}?watch=1");
    let refused = get(&server, &watch, "application/yaml").await;
    let (status, _) = decode("application/yaml", &refused.raw, None).expect("YAML");
    assert_eq!(
        (refused.code, &status["message"]),
        (
            406,
            &json!(
                "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
            )
        )
    );
    // Nothing is made for who cannot read the answer.
    let headers = [
        ("content-type", "application/json"),
        ("accept", "text/html"),
    ];
    let body = config_map("a").to_string();
    server
        .ask("POST", CONFIG_MAPS, &headers, body)
        .await
        .refusal(406);
    server.get(&format!("{CONFIG_MAPS}/a")).await.refusal(404);
    let headers = [("content-type", "application/cbor")];
    assert_eq!(
        server
            .ask("POST", CONFIG_MAPS, &headers, "x")
            .await
            .refusal(415),
        "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
}

#[tokio::test]
async fn yaml() {
    let server = Server::new().await;
    let mut odd = config_map("a");
    odd["data"] = json!({"n": "1e3", "y": "yes", "t": "~", "d": "2001-01-01", "x": "a: b # c", "m": "l1\nl2\n", "z": "007",
        "e": "", "u": "é\u{1f600}\u{85}", "q": "\"'", "s": " lead", "dash": "- a", "nul": "null"});
    server.post(CONFIG_MAPS, &odd).await.expect(201);
    let one = format!("{CONFIG_MAPS}/a");
    let json = server.get(&one).await.expect(200);
    let answer = get(&server, &one, "application/yaml").await;
    assert_eq!(answer.headers["content-type"], "application/yaml");
    let (read, _) = decode("application/yaml", &answer.raw, None).expect("YAML");
    assert_eq!(read, json);
    let list = get(
        &server,
        CONFIG_MAPS,
        "application/yaml,application/json;q=0.2",
    )
    .await;
    let (read, _) = decode("application/yaml", &list.raw, None).expect("YAML");
    assert_eq!(read["items"][0]["metadata"]["name"], "a");
}

#[tokio::test]
async fn long_answers_are_compressed_for_who_understands_it() {
    let server = Server::new().await;
    let mut large = config_map("large");
    large["data"]["a"] = "x".repeat(200_000).into();
    server.post(CONFIG_MAPS, &large).await.expect(201);
    server
        .post(CONFIG_MAPS, &config_map("small"))
        .await
        .expect(201);
    let plain = server.get(CONFIG_MAPS).await;
    assert!(plain.headers.get("content-encoding").is_none());
    for accept in ["application/json", BOTH] {
        let headers = [("accept-encoding", "gzip"), ("accept", accept)];
        let packed = server.ask("GET", CONFIG_MAPS, &headers, "").await;
        assert_eq!(packed.headers["content-encoding"], "gzip");
        assert_eq!(packed.headers["vary"], "Accept-Encoding");
        assert!(packed.raw.len() < 20_000, "{}", packed.raw.len());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed.raw[..])
            .read_to_end(&mut unpacked)
            .expect("gzip");
        if accept == BOTH {
            let (list, _) = decode(PROTOBUF, &unpacked, None).expect("protobuf");
            assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
        } else {
            assert_eq!(unpacked, plain.raw);
        }
    }
    let small = format!("{CONFIG_MAPS}/small");
    let answer = server
        .ask("GET", &small, &[("accept-encoding", "gzip")], "")
        .await;
    assert!(answer.headers.get("content-encoding").is_none());
}

#[tokio::test]
async fn answers_have_lines_for_who_reads_them() {
    let server = Server::new().await;
    let one = format!("{CONFIG_MAPS}/a");
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let curl = ("user-agent", "curl/8.5.0");
    for path in [CONFIG_MAPS, &one, "/apis", "/version", "/api/v1/nothing"] {
        let plain = server.get(path).await;
        let lines = server.ask("GET", path, &[curl], "").await;
        let expected = serde_json::to_string_pretty(&plain.body).expect("JSON");
        assert_eq!(String::from_utf8_lossy(&lines.raw), expected, "{path}");
        let asked = format!("{path}?pretty=true");
        assert_eq!(server.get(&asked).await.raw, lines.raw, "{path}");
        let not = format!("{path}?pretty=false");
        assert_eq!(server.ask("GET", &not, &[curl], "").await.raw, plain.raw);
    }
    // and compressed all the same
    let mut large = config_map("large");
    large["data"]["a"] = "x".repeat(200_000).into();
    server.post(CONFIG_MAPS, &large).await.expect(201);
    let headers = [curl, ("accept-encoding", "gzip")];
    let packed = server.ask("GET", CONFIG_MAPS, &headers, "").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&packed.raw[..])
        .read_to_string(&mut unpacked)
        .expect("gzip");
    assert!(unpacked.starts_with("{\n  \"apiVersion\": \"v1\",\n"));
    // what is for programs stays as it is
    for path in ["/openapi/v2", "/openapi/v3"] {
        let plain = server.get(path).await;
        assert_eq!(server.ask("GET", path, &[curl], "").await.raw, plain.raw);
    }
}

#[tokio::test]
async fn discovery() {
    let server = Server::new().await;
    for (path, kind) in [
        ("/api", "APIVersions"),
        ("/apis", "APIGroupList"),
        ("/apis/apps/v1", "APIResourceList"),
    ] {
        let json = server.get(path).await.expect(200);
        let answer = get(&server, path, PROTOBUF).await;
        let mut protobuf = read(&answer);
        assert_eq!(protobuf["kind"], kind);
        // These have a version of their own in JSON: v1, without a group.
        protobuf["apiVersion"] = json["apiVersion"].clone();
        assert!(same(&json, &protobuf), "{json}\n{protobuf}");
    }
    let version = get(&server, "/version", PROTOBUF).await;
    assert_eq!(version.headers["content-type"], "application/json");
}
