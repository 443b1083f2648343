//! Requests that a kubelet answers: pods/log, exec, attach, portforward and nodes/proxy. Upgrades (WebSocket,
//! SPDY) are passed through: both sides switch protocols and the bytes are copied.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::respond::{self, Response};
use super::{Context, list};
use crate::BoxError;
use crate::object::{self, text};
use crate::query::percent_encode;
use crate::server::RequestBody;
use crate::status::ApiError;

const KUBELET_PORT: u16 = 10250;
/// How much of a kubelet's error is shown.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// Answers a request of one of those subresources.
pub(super) async fn connect(
    context: Context,
    mut parts: Parts,
    body: RequestBody,
) -> Result<Response, ApiError> {
    let subresource = context.info.subresource.clone();
    if subresource == "log" && parts.method != Method::GET {
        return Err(ApiError::method_not_allowed());
    }
    let object = stored(&context, context.kind, &context.info.name).await?;
    let (node, path) = match subresource.as_str() {
        "proxy" => {
            let query = parts
                .uri
                .query()
                .map(|q| format!("?{q}"))
                .unwrap_or_default();
            (
                object,
                format!("/{}{query}", encode_path(&context.info.rest)),
            )
        }
        _ => {
            let node = text(&object, &["spec", "nodeName"]);
            if node.is_empty() {
                if subresource == "log" {
                    return Ok(respond::typed(200, "text/plain", ""));
                }
                return Err(ApiError::bad_request(format!(
                    "pod {} does not have a host assigned",
                    context.info.name
                )));
            }
            let path = pod_path(&context, &object)?;
            let kind =
                crate::registry::find("", "v1", "nodes").ok_or_else(ApiError::no_such_path)?;
            (stored(&context, kind, node).await?, path)
        }
    };
    let (address, port) = kubelet_of(&node)?;
    let dialer = context.state.dialer.read().clone();
    let dialer =
        dialer.ok_or_else(|| ApiError::unavailable("this API server has no way to reach nodes"))?;
    let unreachable = |error: &dyn std::fmt::Display| {
        ApiError::internal(format!(
            "error dialing backend: dial {address}:{port}: {error}"
        ))
    };
    let stream = dialer
        .dial(&address, port)
        .await
        .map_err(|e| unreachable(&e))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| unreachable(&e))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a kubelet ended");
        }
    });
    let client_side = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let request = outgoing(&parts, &path, &address, port, body)?;
    let mut answer = sender
        .send_request(request)
        .await
        .map_err(|e| unreachable(&e))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client_side) = client_side else {
            return Err(ApiError::bad_request("this connection cannot be upgraded"));
        };
        let node_side = hyper::upgrade::on(&mut answer);
        tokio::spawn(splice(client_side, node_side));
        let mut response = http::Response::new(respond::full(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = answer.headers().clone();
        return Ok(response);
    }
    if !answer.status().is_success() && subresource != "proxy" {
        return Err(kubelet_error(answer).await);
    }
    let mut response = http::Response::new(());
    *response.status_mut() = answer.status();
    for (name, value) in answer.headers() {
        if *name != CONNECTION && *name != TRANSFER_ENCODING {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    Ok(response.map(|()| answer.into_body().map_err(Into::into).boxed_unsync()))
}

async fn stored(
    context: &Context,
    kind: &crate::registry::Kind,
    name: &str,
) -> Result<Value, ApiError> {
    let key = kind.key(&context.info.namespace, name);
    let (found, _) = context
        .state
        .store
        .get(&key)
        .await
        .map_err(|e| list::store_error(context, e))?;
    let kv = found.ok_or_else(|| ApiError::not_found(kind.group, kind.plural, name))?;
    Ok(object::parse(&kv.value, kv.mod_revision))
}

fn encode_path(path: &str) -> String {
    path.split('/')
        .map(percent_encode)
        .collect::<Vec<_>>()
        .join("/")
}

fn kubelet_of(node: &Value) -> Result<(String, u16), ApiError> {
    let addresses = object::items(node, &["status", "addresses"]);
    let address = ["InternalIP", "ExternalIP", "Hostname"]
        .iter()
        .find_map(|kind| addresses.iter().find(|a| a["type"] == *kind))
        .map(|a| text(a, &["address"]).to_owned())
        .filter(|a| !a.is_empty())
        .ok_or_else(|| {
            let name = text(node, &["metadata", "name"]);
            ApiError::internal(format!(
                "no preferred addresses found; known addresses: [] of node {name}"
            ))
        })?;
    let port = object::at(
        node,
        &["status", "daemonEndpoints", "kubeletEndpoint", "Port"],
    )
    .and_then(Value::as_u64)
    .and_then(|p| u16::try_from(p).ok())
    .unwrap_or(KUBELET_PORT);
    Ok((address, port))
}

/// The kubelet's path for a pod's subresource, with its query.
fn pod_path(context: &Context, pod: &Value) -> Result<String, ApiError> {
    let (namespace, name) = (
        percent_encode(&context.info.namespace),
        percent_encode(&context.info.name),
    );
    let mut query: Vec<String> = Vec::new();
    let mut pass = |keys: &[&str]| {
        for (key, value) in context
            .query
            .0
            .iter()
            .filter(|(k, _)| keys.contains(&k.as_str()))
        {
            query.push(format!("{key}={}", percent_encode(value)));
        }
    };
    let path = match context.info.subresource.as_str() {
        "portforward" => {
            pass(&["ports", "port"]);
            format!("/portForward/{namespace}/{name}")
        }
        "log" => {
            pass(&[
                "follow",
                "previous",
                "sinceSeconds",
                "sinceTime",
                "timestamps",
                "tailLines",
                "limitBytes",
                "stream",
            ]);
            format!(
                "/containerLogs/{namespace}/{name}/{}",
                percent_encode(&container(context, pod)?)
            )
        }
        verb => {
            pass(&["command"]);
            // The kubelet's names for the streams differ from the API's.
            for (api, kubelet) in [
                ("stdin", "input"),
                ("stdout", "output"),
                ("stderr", "error"),
                ("tty", "tty"),
            ] {
                if context.query.flag(api) {
                    query.push(format!("{kubelet}=1"));
                }
            }
            format!(
                "/{verb}/{namespace}/{name}/{}",
                percent_encode(&container(context, pod)?)
            )
        }
    };
    Ok(if query.is_empty() {
        path
    } else {
        format!("{path}?{}", query.join("&"))
    })
}

/// The container asked for, or the pod's default one.
fn container(context: &Context, pod: &Value) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<&str> {
        object::items(pod, &["spec", list])
            .iter()
            .map(|c| text(c, &["name"]))
            .collect()
    };
    let containers = names("containers");
    let name = &context.info.name;
    let Some(asked) = context.query.get("container") else {
        let default =
            pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
        if let Some(default) = default.filter(|d| containers.contains(d)) {
            return Ok(default.to_owned());
        }
        if let [only] = containers[..] {
            return Ok(only.to_owned());
        }
        let list = containers.join(" ");
        let init = names("initContainers").join(" ");
        let also = if init.is_empty() {
            String::new()
        } else {
            format!(" or one of the init containers: [{init}]")
        };
        return Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{list}]{also}"
        )));
    };
    let known = ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .any(|l| names(l).contains(&asked));
    if known {
        Ok(asked.to_owned())
    } else {
        Err(ApiError::bad_request(format!(
            "container {asked} is not valid for pod {name}"
        )))
    }
}

fn outgoing(
    parts: &Parts,
    path: &str,
    address: &str,
    port: u16,
    body: RequestBody,
) -> Result<http::Request<RequestBody>, ApiError> {
    let mut request = http::Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = path
        .parse()
        .map_err(|e| ApiError::bad_request(format!("unusable path: {e}")))?;
    let upgrade = parts.headers.contains_key(UPGRADE);
    for (name, value) in &parts.headers {
        let kept = *name == CONTENT_LENGTH
            || *name == http::header::CONTENT_TYPE
            || *name == http::header::ACCEPT
            || upgrade && (*name == UPGRADE || *name == CONNECTION)
            || name.as_str().starts_with("sec-websocket-")
            || *name == HeaderName::from_static("x-stream-protocol-version");
        if kept {
            request.headers_mut().append(name.clone(), value.clone());
        }
    }
    let host = if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    };
    let host = HeaderValue::from_str(&host)
        .map_err(|_| ApiError::internal("the node's address is not usable"))?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

async fn splice(client: hyper::upgrade::OnUpgrade, node: hyper::upgrade::OnUpgrade) {
    let copied = async {
        let (client, node) = tokio::try_join!(client, node)?;
        tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(node)).await?;
        Ok::<_, BoxError>(())
    };
    if let Err(error) = copied.await {
        tracing::debug!(%error, "an upgraded connection ended");
    }
}

/// A kubelet's refusal as a `Status` with its words.
async fn kubelet_error(answer: http::Response<hyper::body::Incoming>) -> ApiError {
    let code = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), ERROR_BYTES_MAX)
        .collect()
        .await;
    let words = body
        .map(|b| String::from_utf8_lossy(&b.to_bytes()).trim().to_owned())
        .unwrap_or_default();
    let words = match serde_json::from_str::<Value>(&words) {
        Ok(status) if status["kind"] == "Status" => text(&status, &["message"]).to_owned(),
        _ => words,
    };
    let reason = match code {
        400 => "BadRequest",
        401 | 403 => "Forbidden",
        404 => "NotFound",
        _ => "InternalError",
    };
    ApiError::new(
        code,
        reason,
        if words.is_empty() {
            format!("the node answered {code}")
        } else {
            words
        },
    )
}
