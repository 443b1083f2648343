//! What form of answer a client accepts: plain JSON, `Table`, `PartialObjectMetadata`, discovery versions.

use crate::status::ApiError;

/// The form in which objects are written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object,
    Table,
    Metadata,
    MetadataList,
}

/// The form of a discovery answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryForm {
    Legacy,
    /// `apidiscovery.k8s.io` in the given version.
    Aggregated(&'static str),
}

struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Clause<'_> {
    fn parameter(&self, key: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(k, _)| *k == key)
            .map(|(_, v)| *v)
    }

    fn is_json(&self) -> bool {
        matches!(self.media, "application/json" | "*/*" | "application/*")
    }
}

fn clauses(accept: &str) -> impl Iterator<Item = Clause<'_>> {
    accept.split(',').map(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        Clause {
            media: parts.next().unwrap_or_default(),
            parameters: parts.filter_map(|p| p.split_once('=')).collect(),
        }
    })
}

/// The first acceptable form; 406 when none is. Protobuf and YAML answers are not offered, so clients that
/// list them with JSON get JSON.
pub fn form(accept: Option<&str>) -> Result<Form, ApiError> {
    let Some(accept) = accept.filter(|a| !a.trim().is_empty()) else {
        return Ok(Form::Object);
    };
    for clause in clauses(accept).filter(Clause::is_json) {
        let Some(kind) = clause.parameter("as") else {
            return Ok(Form::Object);
        };
        if clause.parameter("g") != Some("meta.k8s.io") || clause.parameter("v") != Some("v1") {
            continue;
        }
        match kind {
            "Table" => return Ok(Form::Table),
            "PartialObjectMetadata" => return Ok(Form::Metadata),
            "PartialObjectMetadataList" => return Ok(Form::MetadataList),
            _ => {}
        }
    }
    Err(ApiError::not_acceptable())
}

/// The discovery form a client prefers.
pub fn discovery_form(accept: Option<&str>) -> DiscoveryForm {
    for clause in clauses(accept.unwrap_or_default()).filter(Clause::is_json) {
        if clause.parameter("as").is_none() {
            return DiscoveryForm::Legacy;
        }
        if clause.parameter("g") == Some("apidiscovery.k8s.io")
            && clause.parameter("as") == Some("APIGroupDiscoveryList")
        {
            match clause.parameter("v") {
                Some("v2") => return DiscoveryForm::Aggregated("v2"),
                Some("v2beta1") => return DiscoveryForm::Aggregated("v2beta1"),
                _ => {}
            }
        }
    }
    DiscoveryForm::Legacy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let cases = [
            (None, Some(Form::Object)),
            (Some("*/*"), Some(Form::Object)),
            (
                Some("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
                Some(Form::Table),
            ),
            (
                Some("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"),
                Some(Form::Object),
            ),
            (
                Some("application/vnd.kubernetes.protobuf, application/json"),
                Some(Form::Object),
            ),
            (
                Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
                Some(Form::MetadataList),
            ),
            (Some("text/html"), None),
        ];
        for (accept, expected) in cases {
            assert_eq!(form(accept).ok(), expected, "{accept:?}");
        }
    }

    #[test]
    fn discovery_forms() {
        let v2 =
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        assert_eq!(discovery_form(Some(v2)), DiscoveryForm::Aggregated("v2"));
        assert_eq!(
            discovery_form(Some(beta)),
            DiscoveryForm::Aggregated("v2beta1")
        );
        assert_eq!(
            discovery_form(Some("application/json")),
            DiscoveryForm::Legacy
        );
        assert_eq!(discovery_form(None), DiscoveryForm::Legacy);
    }
}
