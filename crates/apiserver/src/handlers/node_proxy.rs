//! Requests that a kubelet answers: pods/log, exec, attach and portforward.

use http::Method;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, UPGRADE};
use http::request::Parts;
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;

use super::proxy::forward::{self, Outcome};
use super::respond::{self, Response};
use super::{Context, list};
use crate::object::{self, text};
use crate::query::percent_encode;
use crate::registry::Problems;
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
    // Held as long as the bytes flow.
    let place = context
        .state
        .streams
        .take(&context.identity.user, context.role)?
        .held_with(context.lasting.clone());
    let subresource = context.info.subresource.clone();
    if subresource == "log" && parts.method != Method::GET {
        return Err(ApiError::method_not_allowed());
    }
    if subresource == "proxy" {
        return super::proxy::connect(context, parts, body, place).await;
    }
    let pod = stored(&context, &context.kind, &context.info.name).await?;
    let node = text(&pod, &["spec", "nodeName"]);
    if node.is_empty() {
        if subresource == "log" {
            return Ok(respond::typed(200, "text/plain", ""));
        }
        return Err(ApiError::bad_request(format!(
            "pod {} does not have a host assigned",
            context.info.name
        )));
    }
    let path = pod_path(&context, &pod)?;
    let kind = crate::registry::find("", "v1", "nodes").ok_or_else(ApiError::no_such_path)?;
    let node = stored(&context, kind, node).await?;
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
    let client_side = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let request = outgoing(&parts, &path, &address, port, body)?;
    match forward::send(stream, request, client_side, place, unreachable).await? {
        Outcome::Upgraded(response) => Ok(response),
        Outcome::Answered(answer, _) if !answer.status().is_success() => {
            Err(kubelet_error(answer).await)
        }
        Outcome::Answered(answer, place) => Ok(forward::passed(answer, place)),
    }
}

/// The stored object of this name in the request's namespace; 404 if there is none.
pub(super) async fn stored(
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

/// A node's address, and its kubelet's port.
pub(super) fn kubelet_of(node: &Value) -> Result<(String, u16), ApiError> {
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
            check_log_options(context)?;
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

/// Upstream `ValidatePodLogOptions`.
fn check_log_options(context: &Context) -> Result<(), ApiError> {
    let given = |key: &str| context.query.get(key).filter(|text| !text.is_empty());
    let mut problems = Problems::default();
    for (key, least, why) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        let Some(text) = given(key) else { continue };
        let number: i64 = text.parse().map_err(|_| {
            ApiError::bad_request(format!(
                "strconv.ParseInt: parsing {text:?}: invalid syntax"
            ))
        })?;
        if number < least {
            problems.invalid(key, &number.into(), why);
        }
    }
    if given("sinceSeconds").is_some() && given("sinceTime").is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        problems.forbidden("", why);
    }
    match problems.0.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid(
            "",
            "PodLogOptions",
            &context.info.name,
            problems.0,
        )),
    }
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
