//! Watches in protobuf: frames of a length and a `WatchEvent`.

use apiserver::codec::protobuf;
use apiserver::schema::Gvk;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::server::{CONFIG_MAPS, Server, config_map};
use crate::wire::{BOTH, METADATA};

/// Reads the frames of a watch in protobuf.
struct Frames {
    body: apiserver::ResponseBody,
    read: Vec<u8>,
}

impl Frames {
    async fn start(server: &Server, path: &str, accept: &str) -> (Self, String) {
        let request = http::Request::get(path)
            .header("accept", accept)
            .body(Full::new(Bytes::new()))
            .expect("a request");
        let response = server.send(request).await;
        assert_eq!(response.status(), 200);
        let content_type = response.headers()["content-type"]
            .to_str()
            .expect("text")
            .to_owned();
        let frames = Frames {
            body: response.into_body(),
            read: Vec::new(),
        };
        (frames, content_type)
    }

    async fn next(&mut self) -> (String, Value) {
        let event = Gvk::gvk("", "v1", "WatchEvent");
        loop {
            if let Some((length, rest)) = self.read.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if rest.len() >= length {
                    let mut event =
                        protobuf::decode_message(&event, &rest[..length]).expect("an event");
                    self.read.drain(..4 + length);
                    let kind = event["type"].as_str().expect("a type").to_owned();
                    return (kind, event["object"].take());
                }
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(20), self.body.frame());
            let frame = frame
                .await
                .expect("in time")
                .expect("a frame")
                .expect("no error");
            self.read.extend(frame.into_data().expect("data"));
        }
    }
}

#[tokio::test]
async fn watches_in_protobuf() {
    let server = Server::new().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let path = format!(
        "{CONFIG_MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let (mut watch, content_type) = Frames::start(&server, &path, BOTH).await;
    assert_eq!(
        content_type,
        "application/vnd.kubernetes.protobuf;stream=watch"
    );
    let (kind, object) = watch.next().await;
    assert_eq!(
        (kind.as_str(), &object["data"]["a"]),
        ("ADDED", &json!("b"))
    );
    assert_eq!(object["kind"], "ConfigMap");
    let (kind, object) = watch.next().await;
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(
        object["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let (mut metadata, _) = Frames::start(&server, &path, METADATA).await;
    let (kind, object) = metadata.next().await;
    assert_eq!(
        (kind.as_str(), &object["kind"]),
        ("ADDED", &json!("PartialObjectMetadata"))
    );
    metadata.next().await;
    let patch = json!({"data": {"a": "c"}});
    let one = format!("{CONFIG_MAPS}/a");
    let patched = server.patch(&one, "merge", &patch).await.expect(200);
    let version = &patched["metadata"]["resourceVersion"];
    let (kind, object) = watch.next().await;
    assert_eq!(
        (kind.as_str(), &object["data"]["a"]),
        ("MODIFIED", &json!("c"))
    );
    assert_eq!(&object["metadata"]["resourceVersion"], version);
    let (kind, object) = metadata.next().await;
    assert_eq!(kind, "MODIFIED");
    assert_eq!(&object["metadata"]["resourceVersion"], version);
    server.delete(&one, &Value::Null).await.expect(200);
    let (kind, object) = watch.next().await;
    assert_eq!(
        (kind.as_str(), &object["metadata"]["name"]),
        ("DELETED", &json!("a"))
    );
    assert_ne!(&object["metadata"]["resourceVersion"], version);
}
