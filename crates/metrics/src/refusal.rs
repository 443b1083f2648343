//! What all groups answer alike: refusals as `metav1.Status`, JSON, times.

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

/// A request that is not answered.
#[derive(Debug)]
pub struct Refusal {
    code: StatusCode,
    reason: &'static str,
    message: String,
    details: Value,
}

impl Refusal {
    /// An object that does not exist or has no measurements.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let name = name.to_owned();
        Self {
            details: json!({"name": name, "group": group, "kind": resource}),
            ..Self::metric_not_found(format!("{resource}.{group} {name:?} not found"))
        }
    }

    /// A metric that nobody exposes.
    pub fn metric_not_found(message: String) -> Self {
        Self {
            code: StatusCode::NOT_FOUND,
            reason: "NotFound",
            message,
            details: json!({}),
        }
    }

    /// A path that the group does not have.
    pub fn unknown_path() -> Self {
        Self::metric_not_found("the server could not find the requested resource".to_owned())
    }

    /// A request that cannot be understood.
    pub fn bad_request(message: &str) -> Self {
        Self {
            code: StatusCode::BAD_REQUEST,
            reason: "BadRequest",
            message: message.to_owned(),
            details: json!({}),
        }
    }

    /// Everything but reading.
    pub fn method(method: &Method, group: &str) -> Self {
        Self {
            code: StatusCode::METHOD_NOT_ALLOWED,
            reason: "MethodNotAllowed",
            message: format!("{method} is not supported on resources of kind {group:?}"),
            details: json!({}),
        }
    }

    fn status(&self) -> Value {
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code.as_u16(),
        })
    }
}

/// The answer to a reading request.
pub fn reading(
    method: &Method,
    group: &str,
    answer: impl FnOnce() -> Result<Value, Refusal>,
) -> Response<Bytes> {
    let outcome = if method == Method::GET || method == Method::HEAD {
        answer()
    } else {
        Err(Refusal::method(method, group))
    };
    let (code, body) = match outcome {
        Ok(body) => (StatusCode::OK, body),
        Err(refusal) => (refusal.code, refusal.status()),
    };
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = code;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// API times have whole seconds.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
