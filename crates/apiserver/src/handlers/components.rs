//! ComponentStatuses: deprecated, and answered without being kept. The components of this program are in its one process,
//! so that whoever gets this answer has seen them alive.

use http::request::Parts;
use serde_json::{Value, json};

use super::respond::{self, Response};
use super::{Context, table};
use crate::negotiate::Form;
use crate::status::ApiError;

const NAMES: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];
const WARNING: &str = "v1 ComponentStatus is deprecated in v1.19+";

/// GET of one, or of the list.
pub(super) fn answer(context: &Context, parts: &Parts) -> Result<Response, ApiError> {
    if !matches!(parts.method, http::Method::GET | http::Method::HEAD) {
        return Err(ApiError::method_not_allowed());
    }
    let name = context.info.name.as_str();
    let mut response = if !name.is_empty() {
        if !NAMES.contains(&name) {
            return Err(context.not_found(name));
        }
        respond::object(context, 200, &component(name), &[])?
    } else {
        let all = NAMES.map(component);
        let metadata = json!({"resourceVersion": context.state.store.revision().to_string()});
        match respond::answer(context, false)?.form {
            Form::Table => {
                let include = respond::include_object(context);
                let rows = all
                    .iter()
                    .map(|one| table::row(&context.kind, one, include))
                    .collect();
                let table = table::table(&context.kind, metadata, rows, true);
                respond::value(200, &table)
            }
            _ => {
                let list = json!({"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": metadata, "items": all});
                respond::value(200, &list)
            }
        }
    };
    respond::warn(&mut response, &[WARNING.to_owned()]);
    Ok(response)
}

fn component(name: &str) -> Value {
    json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name},
        "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]})
}
