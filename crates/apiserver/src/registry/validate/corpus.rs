//! Manifests of the wild, as their authors wrote them: none of them is refused.

use std::path::Path;

use serde_json::Value;

use super::Problems;
use crate::object::text;
use crate::registry;

/// Patches, and an object that shall be refused.
const NOT_WHOLE: [&str; 3] = [
    "metrics-server/manifests/components/autoscale/patch.yaml",
    "kubernetes/hack/testdata/invalid-pod.yaml",
    "kubernetes/hack/testdata/pod-apply-status.yaml",
];

/// What is wrong with a new object by the rules of its kind; nothing for kinds that are not built in.
fn refused(mut object: Value) -> Vec<String> {
    let (group, version) = match text(&object, &["apiVersion"]).split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), text(&object, &["apiVersion"]).to_owned()),
    };
    let kind = text(&object, &["kind"]).to_owned();
    let row = registry::all()
        .iter()
        .find(|row| row.group == group && row.version == version && row.kind == kind);
    let Some(kind) = row else {
        return Vec::new();
    };
    crate::object::strip_nulls(&mut object);
    kind.default(&mut object);
    kind.to_stored(&mut object);
    (kind.prepare_create)(&mut object);
    (kind.named)(&mut object);
    let mut problems = Problems::default();
    (kind.validate)(&object, &mut problems);
    (kind.validate_create)(&object, &mut problems);
    super::finalizers(&object, &mut problems);
    let told = problems.0.into_iter();
    told.map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect()
}

#[test]
fn manifests_of_others_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/manifests");
    let read = |file: &str| {
        let file = folder.join(file);
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    let index: Vec<Value> = serde_json::from_str(&read("index.json")).expect("a list");
    let (mut looked_at, mut wrong) = (0, Vec::new());
    let files = index.iter().map(|entry| text(entry, &["file"]));
    for file in files.filter(|file| !NOT_WHOLE.contains(file)) {
        for document in format!("\n{}", read(file)).split("\n---") {
            let Ok((object, _)) = crate::codec::yaml::decode(document.as_bytes()) else {
                continue;
            };
            if object["kind"].is_string() {
                looked_at += 1;
                let told = refused(object);
                wrong.extend(told.into_iter().map(|told| format!("{file}: {told}")));
            }
        }
    }
    assert!(looked_at > 300, "the corpus has shrunk: {looked_at}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
