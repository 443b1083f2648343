//! What is fuzzed: any bytes in, an answer or a refusal out, and what must hold of it. Used by the tests beside this file
//! and, by its path, by `fuzz/` with libFuzzer.

use apiserver::codec::{self, decode, protobuf as proto};
use apiserver::custom::jsonpath::JsonPath;
use apiserver::patch::{self, PatchKind};
use apiserver::quantity::Quantity;
use apiserver::query::{ListOptions, Query};
use apiserver::schema::{Gvk, Schemas};
use apiserver::selector::{FieldSelector, LabelSelector};
use serde_json::{Value, json};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// How an input was taken, in words that differ where the code went another way.
pub enum Heard {
    Accepted(String),
    Refused(String),
}

impl Heard {
    fn of<T, E: ToString>(answer: Result<T, E>, shape: impl FnOnce(T) -> String) -> Self {
        match answer {
            Ok(value) => Heard::Accepted(shape(value)),
            Err(error) => Heard::Refused(error.to_string()),
        }
    }
}

/// About how many values of each sort a body has, and how deep it is: names would make every damaged body a new one.
fn shape(value: &Value) -> String {
    let mut counts = [0usize; 6];
    let depth = count(value, &mut counts);
    let powers = counts.map(|count| "x".repeat((usize::BITS - count.leading_zeros()) as usize));
    format!("{} {}", "d".repeat(depth.min(20)), powers.join("-"))
}

/// Counts the values by their sorts; how deep they are.
fn count(value: &Value, counts: &mut [usize; 6]) -> usize {
    let (sort, below) = match value {
        Value::Object(fields) => (0, fields.values().map(|field| count(field, counts)).max()),
        Value::Array(items) => (1, items.iter().map(|item| count(item, counts)).max()),
        Value::String(_) => (2, None),
        Value::Number(_) => (3, None),
        Value::Bool(_) => (4, None),
        Value::Null => (5, None),
    };
    counts[sort] += 1;
    below.map_or(0, |below| below + 1)
}

/// No answer is much larger than its question.
fn in_proportion(value: &Value, read: usize) {
    let written = value.to_string().len();
    assert!(written <= 64 * read + 4096, "{read} bytes became {written}");
}

/// A protobuf body, as it is and in an envelope; what is read is written again and says the same.
pub fn protobuf(body: &[u8]) -> Heard {
    let hint = Gvk::gvk("apps", "v1", "Deployment");
    let enveloped = [b"k8s\0", body].concat();
    let read = |body: &[u8]| {
        let (value, _) = decode(PROTOBUF, body, Some(&hint))?;
        in_proportion(&value, body.len());
        if let Ok(written) = proto::encode(&value) {
            assert!(written.len() <= 64 * body.len() + 4096);
            let (again, _) = decode(PROTOBUF, &written, None).expect("decodes what we wrote");
            let stable = proto::encode(&again).expect("encodes again");
            assert_eq!(stable, written, "{value}");
        }
        Ok::<_, codec::DecodeError>(shape(&value))
    };
    let plain = read(body);
    let inside = read(&enveloped);
    Heard::of(plain.or(inside), |shape| shape)
}

/// A JSON body: what is accepted is JSON, reads as serde_json reads it, and can be written as protobuf of a built-in
/// kind, or that is refused.
pub fn json(body: &[u8]) -> Heard {
    let _ = codec::json_duplicates(body);
    let decoded = decode(JSON, body, None);
    if let Ok((value, duplicates)) = &decoded {
        in_proportion(value, body.len());
        assert!(duplicates.len() <= 100);
        let plain: Value = serde_json::from_slice(body).expect("JSON, if we say so");
        assert_eq!(*value, plain);
        as_protobuf(value.clone());
    }
    Heard::of(decoded, |(value, _)| shape(&value))
}

fn as_protobuf(mut value: Value) {
    for (version, kind) in [
        ("v1", "Pod"),
        ("apps/v1", "Deployment"),
        ("v1", "Status"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ] {
        let Some(object) = value.as_object_mut() else {
            return;
        };
        object.insert("apiVersion".into(), version.into());
        object.insert("kind".into(), kind.into());
        if let Ok(written) = proto::encode(&value) {
            proto::envelope(&written).expect("an envelope");
            let frame = proto::encode_event("ADDED", &value).expect("an event");
            assert!(frame.len() > written.len());
        }
    }
}

/// A YAML body: bounded memory, whatever its aliases say.
pub fn yaml(body: &[u8]) -> Heard {
    let decoded = decode(YAML, body, None);
    Heard::of(decoded, |(value, _)| {
        in_proportion(&value, body.len());
        shape(&value)
    })
}

/// A JSON patch of a Deployment. Each copy may double the object, within the patch's own limits.
pub fn patch_json(body: &[u8]) -> Heard {
    patched(PatchKind::Json, body, 1 << 22)
}

/// A merge patch of a Deployment.
pub fn patch_merge(body: &[u8]) -> Heard {
    patched(PatchKind::Merge, body, 64 * body.len() + 8192)
}

/// A strategic merge patch of a Deployment.
pub fn patch_strategic(body: &[u8]) -> Heard {
    patched(PatchKind::Strategic, body, 64 * body.len() + 8192)
}

fn patched(kind: PatchKind, body: &[u8], most: usize) -> Heard {
    let original = deployment();
    let gvk = Gvk::gvk("apps", "v1", "Deployment");
    let patched = patch::apply(kind, &original, body, &gvk);
    assert_eq!(original, deployment(), "the original stays");
    Heard::of(patched, |value| {
        assert!(value.to_string().len() <= most);
        let report = Schemas::load().check(&gvk, &value);
        assert!(report.unknown.len() <= 64 * body.len() + 64);
        shape(&value)
    })
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "labels": {"a": "b"}, "finalizers": ["x/y"]},
        "spec": {"replicas": 2, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {"spec": {"containers": [
                {"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "E", "value": "v"}]},
                {"name": "d", "image": "j"}]}}}})
}

/// A label selector and a field selector: what parses can be asked.
pub fn selectors(text: &[u8]) -> Heard {
    let text = String::from_utf8_lossy(text);
    let labels = [
        ("a".to_owned(), "b".to_owned()),
        ("n".to_owned(), "5".to_owned()),
    ];
    let label = LabelSelector::parse(&text);
    if let Ok(selector) = &label {
        let _ = selector.matches(&labels);
        assert!(selector.0.len() <= text.len());
    }
    let field = FieldSelector::parse(&text);
    if let Ok(selector) = &field {
        let _ = selector.required("metadata.name");
        assert!(selector.0.len() <= text.len());
    }
    let requirements = label.as_ref().map_or(0, |label| label.0.len().min(8));
    let terms = field.as_ref().map_or(0, |field| field.0.len().min(8));
    match (label, field) {
        (Err(error), Err(_)) => Heard::Refused(error.to_string()),
        _ => Heard::Accepted("l".repeat(requirements) + &"f".repeat(terms)),
    }
}

/// Short texts: a quantity prints as one of the same amount, a JSONPath can be followed, a query string and a request's
/// path are read or refused.
pub fn scalars(text: &[u8]) -> Heard {
    let text = String::from_utf8_lossy(text);
    let query = Query::parse(Some(&text)).and_then(|query| ListOptions::parse(&query));
    let info = apiserver::path::parse(&http::Method::GET, &text, false);
    let path = JsonPath::parse(&text);
    if let Ok(path) = &path {
        let _ = path.all(&deployment());
    }
    let quantity = text.parse::<Quantity>();
    if let Ok(quantity) = &quantity {
        let printed = quantity.to_string();
        let most = 64 * text.len() + 64;
        assert!(printed.len() <= most, "{text:?} became {printed:?}");
        let again: Quantity = printed.parse().expect("what is printed parses");
        assert_eq!(again.to_string(), printed, "{text:?}");
        assert_eq!(again.milli_value(), quantity.milli_value(), "{text:?}");
        assert_eq!(again.value(), quantity.value(), "{text:?}");
    }
    let refusals = [
        query.err().map(|error| error.to_string()),
        path.as_ref().err().cloned(),
        quantity.as_ref().err().map(ToString::to_string),
        info.is_none().then(|| "no path".to_owned()),
    ];
    let heard = refusals.map(Option::unwrap_or_default).join("|");
    if path.is_ok() || quantity.is_ok() {
        Heard::Accepted(heard)
    } else {
        Heard::Refused(heard)
    }
}
