//! What a list request selects.

use autoscale::selector::Selector;

use crate::store::Labels;

/// The selection of a list request.
#[derive(Debug, Default)]
pub struct Selection {
    labels: Selector,
    fields: Vec<(Field, bool, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
}

impl Selection {
    /// Reads a query string; the error is the message of a 400.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut selection = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = unescape(value)?;
            match unescape(key)?.as_str() {
                "labelSelector" => {
                    selection.labels = Selector::parse(&value).map_err(|error| {
                        format!("unable to parse label selector {value:?}: {error}")
                    })?;
                }
                "fieldSelector" => selection.fields = fields(&value)?,
                // Paging, timeouts and the like change nothing here.
                _ => {}
            }
        }
        Ok(selection)
    }

    /// Whether an object is selected.
    pub fn matches(&self, namespace: &str, name: &str, labels: &Labels) -> bool {
        let field = |field| {
            if field == Field::Name {
                name
            } else {
                namespace
            }
        };
        self.labels.matches(labels)
            && self
                .fields
                .iter()
                .all(|(key, equal, value)| (field(*key) == value) == *equal)
    }
}

fn fields(text: &str) -> Result<Vec<(Field, bool, String)>, String> {
    text.split(',')
        .filter(|term| !term.is_empty())
        .map(|term| {
            let (key, equal, value) = if let Some((key, value)) = term.split_once("!=") {
                (key, false, value)
            } else if let Some((key, value)) = term.split_once("==") {
                (key, true, value)
            } else if let Some((key, value)) = term.split_once('=') {
                (key, true, value)
            } else {
                return Err(format!(
                    "invalid field selector: {term:?}; can't understand it"
                ));
            };
            let field = match key {
                "metadata.name" => Field::Name,
                "metadata.namespace" => Field::Namespace,
                other => return Err(format!("field label not supported: {other}")),
            };
            Ok((field, equal, value.to_owned()))
        })
        .collect()
}

/// Undoes percent-encoding of a query's part.
pub fn unescape(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(high), Some(low)) => u8::try_from(high * 16 + low).unwrap_or_default(),
                    _ => return Err(format!("the query holds a broken escape: {text:?}")),
                }
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| format!("the query is not UTF-8: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn selects_by_labels_and_fields() {
        let labels: Labels = [("app".to_owned(), "web".to_owned())].into();
        for (query, selected) in [
            ("", true),
            ("limit=500&timeout=5s", true),
            ("labelSelector=app%3Dweb", true),
            ("labelSelector=app+in+(web,db)", true),
            ("labelSelector=app%21%3Dweb", false),
            ("fieldSelector=metadata.name%3Dweb-0", true),
            ("fieldSelector=metadata.name%21%3Dweb-0", false),
            ("fieldSelector=metadata.namespace%3D%3Dother", false),
            (
                "labelSelector=app%3Dweb&fieldSelector=metadata.namespace%3Ddefault",
                true,
            ),
        ] {
            let selection = Selection::parse(query).expect(query);
            assert_eq!(
                selection.matches("default", "web-0", &labels),
                selected,
                "{query}"
            );
        }
    }

    #[test]
    fn refuses_what_it_cannot_select_by() {
        for query in [
            "labelSelector=a+b",
            "fieldSelector=spec.nodeName%3Dn",
            "fieldSelector=x",
            "labelSelector=%",
            "labelSelector=%zz",
            "labelSelector=%ff",
        ] {
            assert!(Selection::parse(query).is_err(), "{query}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(query in "[a-zA-Z%=&+!,.é0-9]{0,60}") {
            let _ = Selection::parse(&query);
        }
    }
}
