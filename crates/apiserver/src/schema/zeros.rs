//! Fields that say nothing: Go leaves the zero value of an `omitempty` field out, so that `""`, `0`, `false`, `[]` and `{}` are the
//! same as no value, get the default, and are no change.

use serde_json::{Map, Value};

use super::Gvk;
use super::table::{Field, Shape, Table, TypeId};

/// Drops such fields from an object of a built-in kind. A pointer tells zero from nothing and stays, and so does the status:
/// whoever writes it compares what it wrote.
pub(crate) fn drop_zeros(gvk: &Gvk, object: &mut Value) {
    let table = Table::get();
    let (Some(id), Some(object)) = (table.kind(gvk), object.as_object_mut()) else {
        return;
    };
    let status = object.remove("status");
    within_struct(table, id, object);
    if let Some(status) = status {
        object.insert("status".to_owned(), status);
    }
}

fn within_struct(table: &'static Table, id: TypeId, object: &mut Map<String, Value>) {
    let ty = table.ty(id);
    object.retain(|name, value| {
        let Some(field) = ty.field(name) else {
            return true;
        };
        within(table, field.shape, value);
        !(field.omit_empty && !field.is_pointer() && is_empty(field, value))
    });
}

fn within(table: &'static Table, shape: Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Struct(id), Value::Object(object)) => within_struct(table, id, object),
        (Shape::List(element), Value::Array(items)) => {
            let shape = table.shape(element);
            items.iter_mut().for_each(|item| within(table, shape, item));
        }
        (Shape::Map(element), Value::Object(entries)) => {
            let shape = table.shape(element);
            entries
                .values_mut()
                .for_each(|entry| within(table, shape, entry));
        }
        _ => {}
    }
}

/// Whether Go calls the value empty; a struct never is.
fn is_empty(field: &Field, value: &Value) -> bool {
    match (field.shape, value) {
        (Shape::Bool, Value::Bool(truth)) => !truth,
        (Shape::Int32 | Shape::Int64 | Shape::Float64, Value::Number(number)) => {
            number.as_f64() == Some(0.0)
        }
        (Shape::String | Shape::Bytes, Value::String(text)) => text.is_empty(),
        (Shape::List(_) | Shape::WrappedStrings, Value::Array(items)) => items.is_empty(),
        (Shape::Map(_), Value::Object(entries)) => entries.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dropped(group: &str, kind: &str, object: Value) -> Value {
        let mut object = object;
        drop_zeros(&Gvk::gvk(group, "v1", kind), &mut object);
        object
    }

    #[test]
    fn what_says_nothing_goes() {
        let given = json!({"metadata": {"name": "p", "labels": {}, "finalizers": [], "generateName": ""}, "spec": {
            "restartPolicy": "", "hostNetwork": false, "tolerations": [], "nodeSelector": {}, "schedulerName": "", "containers": [{
                "name": "a", "tty": false, "workingDir": "", "env": [{"name": "E", "value": ""}], "args": [],
                "ports": [{"containerPort": 0, "hostPort": 0, "protocol": ""}],
                "livenessProbe": {"periodSeconds": 0, "httpGet": {"path": "", "port": 0}}}]}});
        let expected = json!({"metadata": {"name": "p"}, "spec": {"containers": [{
            "name": "a", "env": [{"name": "E"}], "ports": [{"containerPort": 0}],
            "livenessProbe": {"httpGet": {"port": 0}}}]}});
        assert_eq!(dropped("", "Pod", given), expected);
    }

    #[test]
    fn what_is_a_pointer_a_struct_required_or_a_status_stays() {
        for (group, kind, object) in [
            (
                "",
                "Pod",
                json!({"spec": {"terminationGracePeriodSeconds": 0, "enableServiceLinks": false, "securityContext": {},
                "containers": [{"name": "", "resources": {}, "args": [""], "securityContext": {"runAsUser": 0}}],
                "volumes": [{"name": "v", "emptyDir": {}}]}, "status": {"message": "", "conditions": []}}),
            ),
            (
                "apps",
                "Deployment",
                json!({"spec": {"replicas": 0, "selector": {}, "strategy": {}, "template": {}}}),
            ),
            ("", "ConfigMap", json!({"data": {"a": ""}})),
            ("", "Secret", json!({"immutable": false, "data": {"a": ""}})),
            (
                "rbac.authorization.k8s.io",
                "Role",
                json!({"rules": [{"apiGroups": [""], "verbs": []}]}),
            ),
            (
                "networking.k8s.io",
                "NetworkPolicy",
                json!({"spec": {"podSelector": {}, "ingress": [{}]}}),
            ),
            ("", "Unheard", json!({"spec": {"a": ""}})),
        ] {
            assert_eq!(dropped(group, kind, object.clone()), object, "{kind}");
        }
    }
}
