//! A server over an in-memory store, and short ways to ask it.

use std::sync::Arc;

use apiserver::{ApiServer, Config, Identity};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use store::EmbeddedStore;
use tower::ServiceExt as _;

pub struct Server {
    pub api: ApiServer,
    pub identity: Identity,
    _dir: tempfile::TempDir,
}

/// An answer: code, headers and JSON (null when the body is none).
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
    pub raw: Bytes,
}

impl Answer {
    /// The body of an answer with this code.
    #[track_caller]
    pub fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.body);
        self.body
    }

    /// The message of a refusal with this code.
    #[track_caller]
    pub fn refusal(self, code: u16) -> String {
        let body = self.expect(code);
        assert_eq!(body["kind"], "Status", "{body}");
        assert_eq!(body["status"], "Failure", "{body}");
        assert_eq!(body["code"], code, "{body}");
        body["message"].as_str().expect("a message").to_owned()
    }
}

impl Server {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// One whose services have both address families.
    pub async fn dual_stack() -> Self {
        Self::with(|config| config.service_cidr6 = Some("fd00::/112".into())).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::over(EmbeddedStore::in_memory().expect("a store"), change).await
    }

    /// A server over a store that may hold something already.
    pub async fn over(store: EmbeddedStore, change: impl FnOnce(&mut Config)) -> Self {
        Self::sharing(Arc::new(store), change).await
    }

    /// A server over a store that another one may have, too.
    pub async fn sharing(store: Arc<EmbeddedStore>, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-apiserver-")
            .tempdir()
            .expect("a directory");
        let mut config = Config::new(dir.path());
        change(&mut config);
        let api = ApiServer::open(config, store).await.expect("a server");
        Self {
            api,
            identity: Identity::admin(),
            _dir: dir,
        }
    }

    pub async fn send(
        &self,
        request: http::Request<Full<Bytes>>,
    ) -> http::Response<apiserver::ResponseBody> {
        self.api
            .client_service(self.identity.clone())
            .oneshot(request)
            .await
            .expect("an answer")
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let response = self.send(request).await;
        let (parts, body) = response.into_parts();
        let raw = body.collect().await.expect("a body").to_bytes();
        let body = serde_json::from_slice(&raw).unwrap_or(Value::Null);
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            body,
            raw,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.ask(
            "PUT",
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        let content_type = format!("application/{kind}-patch+json");
        self.ask(
            "PATCH",
            path,
            &[("content-type", &content_type)],
            body.to_string(),
        )
        .await
    }

    pub async fn delete(&self, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.ask(
            "DELETE",
            path,
            &[("content-type", "application/json")],
            body,
        )
        .await
    }
}

pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const PODS: &str = "/api/v1/namespaces/default/pods";
pub const SERVICES: &str = "/api/v1/namespaces/default/services";
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

pub fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}})
}

pub fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "busybox:1"}]}})
}

pub fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "busybox:1"}]}}}})
}

pub fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}})
}
