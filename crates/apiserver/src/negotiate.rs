//! What form of answer a client accepts: the format (JSON, YAML, protobuf) and the shape (`Table`,
//! `PartialObjectMetadata`, discovery versions), chosen as upstream's apiserver `handlers/negotiation` does.

use crate::status::ApiError;

/// The format in which an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Json,
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// The shape in which objects are written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object,
    Table,
    Metadata,
    MetadataList,
}

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub media: Media,
    pub form: Form,
}

/// What there is to choose from.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Whether the objects have a protobuf form; their metadata always has.
    pub protobuf: bool,
    /// Whether the answer is a watch, which has no YAML.
    pub stream: bool,
}

/// The form of a discovery answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryForm {
    Legacy,
    /// `apidiscovery.k8s.io` in the given version.
    Aggregated(&'static str),
}

/// More clauses than any client sends; the rest is not read.
const CLAUSES_MAX: usize = 64;

struct Clause<'a> {
    media: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Clause<'_> {
    fn parameter(&self, key: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(k, _)| *k == key)
            .map(|(_, v)| *v)
    }

    fn accepts(&self, media: &str) -> bool {
        self.media == media || matches!(self.media, "*/*" | "application/*")
    }

    /// `*/*` and `type/*` come after whole names.
    fn wildcards(&self) -> usize {
        self.media.matches('*').count()
    }

    /// The shape asked for; none if nobody here has it.
    fn form(&self) -> Option<Form> {
        let kind = match (
            self.parameter("as"),
            self.parameter("g"),
            self.parameter("v"),
        ) {
            (None, None, None) => return Some(Form::Object),
            (Some(kind), Some("meta.k8s.io"), Some("v1")) => kind,
            _ => return None,
        };
        match kind {
            "Table" => Some(Form::Table),
            "PartialObjectMetadata" => Some(Form::Metadata),
            "PartialObjectMetadataList" => Some(Form::MetadataList),
            _ => None,
        }
    }
}

/// The clauses in the order of the client's preference: by `q`, then whole names before wildcards, then as they stand.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause> = accept
        .split(',')
        .take(CLAUSES_MAX)
        .map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let (mut quality, mut parameters) = (1.0, Vec::new());
            for (key, value) in parts.filter_map(|part| part.split_once('=')) {
                match key.trim() {
                    "q" => quality = value.trim().parse().unwrap_or(1.0),
                    key => parameters.push((key, value.trim())),
                }
            }
            Clause {
                media,
                quality,
                parameters,
            }
        })
        .collect();
    clauses.sort_by(|a, b| {
        let quality = b.quality.total_cmp(&a.quality);
        quality.then_with(|| a.wildcards().cmp(&b.wildcards()))
    });
    clauses
}

/// Whether the first choice is JSON with a line for each value (`application/json;pretty=1`).
pub fn asks_for_lines(accept: &str) -> bool {
    accept.contains("pretty")
        && clauses(accept)
            .first()
            .is_some_and(|clause| clause.parameter("pretty") == Some("1"))
}

/// The format and shape that a client prefers among those on offer; 406 when there is none.
pub fn answer(accept: Option<&str>, offer: Offer) -> Result<Answer, ApiError> {
    let Some(accept) = accept.filter(|a| !a.trim().is_empty()) else {
        return Ok(Answer {
            media: Media::Json,
            form: Form::Object,
        });
    };
    let offered = [
        (Media::Json, "application/json"),
        (Media::Yaml, "application/yaml"),
        (Media::Protobuf, crate::codec::protobuf::CONTENT_TYPE),
    ];
    for clause in clauses(accept) {
        for (media, name) in offered {
            if !clause.accepts(name)
                || clause
                    .parameter("stream")
                    .is_some_and(|stream| !stream.is_empty() && stream != "watch")
            {
                continue;
            }
            let Some(form) = clause.form() else {
                continue;
            };
            let possible = match (media, form) {
                (Media::Protobuf, Form::Table) => false,
                (Media::Protobuf, Form::Object) => offer.protobuf,
                _ => true,
            };
            if !possible {
                continue;
            }
            // Upstream looks for a stream only in what it has chosen.
            if offer.stream && media == Media::Yaml {
                return Err(ApiError::not_acceptable(true));
            }
            return Ok(Answer { media, form });
        }
    }
    Err(ApiError::not_acceptable(offer.stream))
}

/// The format for an answer of whatever kind; JSON when the client wants nothing that there is.
pub fn media(accept: &str) -> Media {
    let offer = Offer {
        protobuf: true,
        stream: false,
    };
    answer(Some(accept), offer).map_or(Media::Json, |answer| answer.media)
}

/// The format for a refusal, which has no shape but its own: clauses that ask for another do not count.
pub fn media_of_refusal(accept: &str) -> Media {
    let plain: Vec<&str> = accept
        .split(',')
        .filter(|clause| !clause.contains(";as=") && !clause.contains("; as="))
        .collect();
    match plain.as_slice() {
        [] => Media::Json,
        plain => media(&plain.join(",")),
    }
}

/// The discovery form a client prefers.
pub fn discovery_form(accept: Option<&str>) -> DiscoveryForm {
    for clause in clauses(accept.unwrap_or_default()) {
        if !clause.accepts("application/json") {
            continue;
        }
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
    use super::Form::*;
    use super::Media::*;
    use super::*;

    const OBJECTS: Offer = Offer {
        protobuf: true,
        stream: false,
    };

    #[test]
    fn formats_and_shapes() {
        let cases = [
            ("", Some((Json, Object))),
            ("*/*", Some((Json, Object))),
            ("application/*", Some((Json, Object))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                Some((Json, Table)),
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some((Json, Object)),
            ),
            (
                "application/vnd.kubernetes.protobuf",
                Some((Protobuf, Object)),
            ),
            (
                "application/vnd.kubernetes.protobuf, application/json",
                Some((Protobuf, Object)),
            ),
            (
                "application/vnd.kubernetes.protobuf,*/*",
                Some((Protobuf, Object)),
            ),
            (
                "*/*,application/vnd.kubernetes.protobuf",
                Some((Protobuf, Object)),
            ),
            (
                "application/json, application/vnd.kubernetes.protobuf",
                Some((Json, Object)),
            ),
            (
                "application/json;q=0.5, application/vnd.kubernetes.protobuf;q=0.9",
                Some((Protobuf, Object)),
            ),
            (
                "application/vnd.kubernetes.protobuf;q=0.1,application/yaml;q=0.2",
                Some((Yaml, Object)),
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some((Json, MetadataList)),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
                Some((Protobuf, MetadataList)),
            ),
            // Tables have no protobuf.
            (
                "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1",
                Some((Json, Table)),
            ),
            ("application/json;as=Nothing;g=meta.k8s.io;v=v1", None),
            ("application/json;as=Table", None),
            ("application/cbor,application/json", Some((Json, Object))),
            ("application/cbor", None),
            ("text/html", None),
            ("application/json;stream=other", None),
        ];
        for (accept, expected) in cases {
            let got = answer(Some(accept), OBJECTS).ok();
            let expected = expected.map(|(media, form)| Answer { media, form });
            assert_eq!(got, expected, "{accept:?}");
        }
        assert!(answer(None, OBJECTS).is_ok());
    }

    #[test]
    fn kinds_without_protobuf_and_streams() {
        let custom = Offer {
            protobuf: false,
            stream: false,
        };
        let both = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(answer(Some(both), custom).map(|a| a.media).ok(), Some(Json));
        let only = "application/vnd.kubernetes.protobuf";
        let error = answer(Some(only), custom).expect_err("406");
        assert_eq!(
            error.message,
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
        let metadata =
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        assert_eq!(
            answer(Some(metadata), custom).map(|a| a.media).ok(),
            Some(Protobuf)
        );
        let watch = Offer {
            protobuf: true,
            stream: true,
        };
        let error = answer(Some("application/yaml"), watch).expect_err("406");
        assert_eq!(
            error.message,
            "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
        );
        let stream = "application/vnd.kubernetes.protobuf;stream=watch";
        assert_eq!(
            answer(Some(stream), watch).map(|a| a.media).ok(),
            Some(Protobuf)
        );
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

    proptest::proptest! {
        #[test]
        fn no_header_panics(accept in "[a-z*/;=,. q0-9]{0,80}") {
            let _ = answer(Some(&accept), OBJECTS);
            let _ = discovery_form(Some(&accept));
        }
    }
}
