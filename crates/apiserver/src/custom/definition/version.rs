//! What is wrong with the versions of a definition: schemas, columns, scale paths, fields to select by.

use serde_json::Value;

use super::super::schema::{NODES_MAX, Schema};
use super::super::{rules, structural};
use crate::object::{items, text};
use crate::registry::{Problems, names};

const VERSIONS_MAX: usize = 64;
/// Upstream's limit.
const SELECTABLE_MAX: usize = 8;

pub(super) fn versions(spec: &Value, problems: &mut Problems) {
    let versions = items(spec, &["versions"]);
    if versions.len() > VERSIONS_MAX {
        problems.invalid(
            "spec.versions",
            &versions.len().into(),
            &format!("must have at most {VERSIONS_MAX} versions"),
        );
        return;
    }
    let mut left = NODES_MAX;
    for (n, version) in versions.iter().enumerate() {
        let field = format!("spec.versions[{n}]");
        let at = |key: &str| format!("{field}.{key}");
        let schema = &version["schema"]["openAPIV3Schema"];
        let name = text(version, &["name"]);
        if let why @ [_, ..] = &names::dns1035_label(name)[..] {
            problems.invalid(&at("name"), &name.into(), &why.join(","));
        }
        if !schema.is_object() {
            problems.required(&at("schema.openAPIV3Schema"), "");
        } else if let Some(read) = Schema::read(schema, &mut left) {
            let status = version["subresources"]["status"].is_object();
            structural::check(schema, &at("schema.openAPIV3Schema"), status, problems);
            rules::check(&read, schema, &at("schema.openAPIV3Schema"), problems);
            selectable(version, &read, &at("selectableFields"), problems);
        } else {
            let why =
                format!("the schemas of a definition may have at most {NODES_MAX} places together");
            problems.forbidden(&at("schema.openAPIV3Schema"), &why);
            return;
        }
        warning(version, &at("deprecationWarning"), problems);
        scale(
            &version["subresources"]["scale"],
            &at("subresources.scale"),
            problems,
        );
        for (n, column) in items(version, &["additionalPrinterColumns"])
            .iter()
            .enumerate()
        {
            self::column(
                column,
                &at(&format!("additionalPrinterColumns[{n}]")),
                problems,
            );
        }
    }
    let mut known: Vec<&str> = Vec::new();
    let twice = versions.iter().any(|version| {
        let name = text(version, &["name"]);
        let twice = known.contains(&name);
        known.push(name);
        twice
    });
    let shown: Value = known.into();
    if twice {
        problems.invalid("spec.versions", &shown, "must contain unique version names");
    }
    if versions
        .iter()
        .filter(|version| version["storage"] == true)
        .count()
        != 1
    {
        problems.invalid(
            "spec.versions",
            &shown,
            "must have exactly one version marked as storage version",
        );
    }
}

pub(super) fn warning(version: &Value, field: &str, problems: &mut Problems) {
    let Some(warning) = version["deprecationWarning"].as_str() else {
        return;
    };
    let mut say = |why: &str| problems.invalid(field, &warning.into(), why);
    if version["deprecated"] != true {
        say("can only be set for deprecated versions");
        return;
    }
    if warning.len() > 256 {
        say("must be <= 256 characters long");
    }
    if warning.is_empty() {
        say("must not be an empty string");
    }
    if let Some((at, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        say(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        ));
    }
}

pub(super) fn selectable(version: &Value, schema: &Schema, field: &str, problems: &mut Problems) {
    let fields = items(version, &["selectableFields"]);
    let mut known = Vec::new();
    for (n, one) in fields.iter().enumerate() {
        let here = format!("{field}[{n}].jsonPath");
        let path = text(one, &["jsonPath"]);
        if path.is_empty() {
            problems.required(&here, "");
            continue;
        }
        let place = path
            .strip_prefix('.')
            .filter(|rest| !rest.contains('['))
            .and_then(|rest| {
                rest.split('.')
                    .try_fold(schema, |schema, name| schema.member(name))
            });
        use crate::custom::schema::Type::{Boolean, Integer, String};
        match place {
            _ if path.starts_with(".metadata") => problems.invalid(&here, &path.into(), "must not point to fields in metadata"),
            None => problems.invalid(&here, &path.into(), "is an invalid path: does not refer to a valid field"),
            Some(place) if !matches!(place.kind, Some(String | Boolean | Integer)) => problems.invalid(
                &here,
                &path.into(),
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            ),
            Some(_) => {}
        }
        if known.contains(&path) {
            problems.duplicate(&here, &path.into());
        }
        known.push(path);
    }
    if fields.len() > SELECTABLE_MAX {
        let message = format!(
            "Too many: {}: must have at most {SELECTABLE_MAX} items",
            fields.len()
        );
        problems.0.push(crate::status::Cause {
            reason: "FieldValueTooMany",
            message,
            field: field.to_owned(),
        });
    }
}

pub(super) fn scale(scale: &Value, field: &str, problems: &mut Problems) {
    if !scale.is_object() {
        return;
    }
    let mut path = |key: &str, below: &[&str], why: &str, required: bool| {
        let path = text(scale, &[key]);
        let here = format!("{field}.{key}");
        if path.is_empty() {
            if required {
                problems.required(&here, "");
            }
        } else if !path.starts_with('.') {
            problems.invalid(
                &here,
                &path.into(),
                "must be a simple json path starting with .",
            );
        } else if path.contains(['[', ']', '\'', '*']) || path.split('.').skip(1).any(str::is_empty)
        {
            problems.invalid(
                &here,
                &path.into(),
                "must be a json path in the dot notation",
            );
        } else if !below.iter().any(|below| path.starts_with(below)) {
            problems.invalid(&here, &path.into(), why);
        }
    };
    path(
        "specReplicasPath",
        &[".spec."],
        "should be a json path under .spec",
        true,
    );
    path(
        "statusReplicasPath",
        &[".status."],
        "should be a json path under .status",
        true,
    );
    path(
        "labelSelectorPath",
        &[".spec.", ".status."],
        "should be a json path under either .spec or .status",
        false,
    );
}

pub(super) fn column(column: &Value, field: &str, problems: &mut Problems) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 10] = [
        "byte",
        "date",
        "date-time",
        "double",
        "float",
        "int32",
        "int64",
        "name",
        "password",
        "uuid",
    ];
    if text(column, &["name"]).is_empty() {
        problems.required(&format!("{field}.name"), "");
    }
    let kind = text(column, &["type"]);
    let why = format!("must be one of {}", TYPES.join(","));
    if kind.is_empty() {
        problems.required(&format!("{field}.type"), &why);
    } else if !TYPES.contains(&kind) {
        problems.invalid(&format!("{field}.type"), &kind.into(), &why);
    }
    let format = text(column, &["format"]);
    if !format.is_empty() && !FORMATS.contains(&format) {
        let why = format!("must be one of {}", FORMATS.join(","));
        problems.invalid(&format!("{field}.format"), &format.into(), &why);
    }
    match text(column, &["jsonPath"]) {
        "" => problems.required(&format!("{field}.JSONPath"), ""),
        path if !path.starts_with('.') => problems.invalid(
            &format!("{field}.JSONPath"),
            &path.into(),
            "must be a simple json path starting with .",
        ),
        _ => {}
    }
}
