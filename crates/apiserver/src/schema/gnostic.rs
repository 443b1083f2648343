//! OpenAPI v2 as protobuf: the messages of gnostic's `openapiv2/OpenAPIv2.proto`, in which kubectl and Helm read it.

use super::swagger::Sink;
use crate::codec::protobuf::Writer;
use serde_json::Value;

/// Writing into memory does not fail; the writer's callers may.
type Done = Result<(), std::convert::Infallible>;

/// Collects a document.
#[derive(Default)]
pub(super) struct Document {
    paths: Writer,
    definitions: Writer,
}

impl Sink for Document {
    fn path(&mut self, path: &str, item: &Value) {
        // Paths { repeated NamedPathItem path = 2 }
        let Ok(()) = self.paths.message(2, |out| {
            out.text(1, path);
            out.message(2, |out| path_item(item, out))
        });
    }

    fn definition(&mut self, name: &str, value: &Value) {
        // Definitions { repeated NamedSchema additional_properties = 1 }
        let Ok(()) = self
            .definitions
            .message(1, |out| named_schema(name, value, out));
    }
}

impl Document {
    /// The bytes of a `Document` with this title and version.
    pub fn finish(self, title: &str, version: &str) -> Vec<u8> {
        let (paths, definitions) = (self.paths.into_bytes(), self.definitions.into_bytes());
        let mut out = Writer::with_capacity(paths.len() + definitions.len() + 512);
        out.text(1, "2.0");
        let Ok(()) = out.message(2, |out| {
            out.text(1, title);
            out.text(2, version);
            Done::Ok(())
        });
        out.bytes(8, &paths);
        out.bytes(9, &definitions);
        // security: BearerToken without scopes
        let Ok(()) = out.message(12, |out| {
            out.message(1, |out| {
                out.text(1, "BearerToken");
                out.bytes(2, &[]);
                Done::Ok(())
            })
        });
        let Ok(()) = out.message(13, |out| {
            out.message(1, |out| {
                out.text(1, "BearerToken");
                out.message(2, |out| {
                    out.message(2, |out| {
                        out.text(1, "apiKey");
                        out.text(2, "authorization");
                        out.text(3, "header");
                        out.text(4, super::BEARER_TOKEN);
                        Done::Ok(())
                    })
                })
            })
        });
        out.into_bytes()
    }
}

fn named_schema(name: &str, value: &Value, out: &mut Writer) -> Done {
    out.text(1, name);
    out.message(2, |out| schema(value, out))
}

fn schema(value: &Value, out: &mut Writer) -> Done {
    text(value, "$ref", 1, out);
    text(value, "format", 2, out);
    text(value, "title", 3, out);
    text(value, "description", 4, out);
    texts(value, "required", 19, out);
    for one in list(value, "enum") {
        out.message(20, |out| any(one, out))?;
    }
    match &value["additionalProperties"] {
        Value::Bool(allowed) => out.message(21, |out| {
            out.number(2, u64::from(*allowed));
            Done::Ok(())
        })?,
        inner @ Value::Object(_) => {
            out.message(21, |out| out.message(1, |out| schema(inner, out)))?
        }
        _ => {}
    }
    if let Some(kind) = value["type"].as_str() {
        out.message(22, |out| {
            out.text(1, kind);
            Done::Ok(())
        })?;
    }
    if value["items"].is_object() {
        out.message(23, |out| out.message(1, |out| schema(&value["items"], out)))?;
    }
    for one in list(value, "allOf") {
        out.message(24, |out| schema(one, out))?;
    }
    if let Value::Object(properties) = &value["properties"] {
        out.message(25, |out| {
            properties
                .iter()
                .try_for_each(|(name, value)| out.message(1, |out| named_schema(name, value, out)))
        })?;
    }
    extensions(value, 31, out)
}

fn path_item(item: &Value, out: &mut Writer) -> Done {
    for (method, number) in [
        ("get", 2),
        ("put", 3),
        ("post", 4),
        ("delete", 5),
        ("options", 6),
        ("head", 7),
        ("patch", 8),
    ] {
        if item[method].is_object() {
            out.message(number, |out| operation(&item[method], out))?;
        }
    }
    for parameter in list(item, "parameters") {
        out.message(9, |out| parameters_item(parameter, out))?;
    }
    Ok(())
}

fn operation(value: &Value, out: &mut Writer) -> Done {
    texts(value, "tags", 1, out);
    text(value, "description", 3, out);
    text(value, "operationId", 5, out);
    texts(value, "produces", 6, out);
    texts(value, "consumes", 7, out);
    for parameter in list(value, "parameters") {
        out.message(8, |out| parameters_item(parameter, out))?;
    }
    if let Value::Object(responses) = &value["responses"] {
        out.message(9, |out| {
            responses.iter().try_for_each(|(code, response)| {
                out.message(1, |out| {
                    out.text(1, code);
                    out.message(2, |out| {
                        out.message(1, |out| {
                            text(response, "description", 1, out);
                            if response["schema"].is_object() {
                                out.message(2, |out| {
                                    out.message(1, |out| schema(&response["schema"], out))
                                })?;
                            }
                            Done::Ok(())
                        })
                    })
                })
            })
        })?;
    }
    texts(value, "schemes", 10, out);
    extensions(value, 13, out)
}

/// `ParametersItem { Parameter parameter = 1 }`, a parameter in the body (1) or elsewhere (2).
fn parameters_item(value: &Value, out: &mut Writer) -> Done {
    out.message(1, |out| match value["in"].as_str() {
        Some("body") => out.message(1, |out| {
            text(value, "description", 1, out);
            text(value, "name", 2, out);
            text(value, "in", 3, out);
            flag(value, "required", 4, out);
            out.message(5, |out| schema(&value["schema"], out))
        }),
        // Query and path parameters differ in the numbers after the name.
        place => out.message(2, |out| {
            let path = place == Some("path");
            let (number, kind, unique) = if path { (4, 5, 19) } else { (3, 6, 20) };
            out.message(number, |out| {
                flag(value, "required", 1, out);
                text(value, "in", 2, out);
                text(value, "description", 3, out);
                text(value, "name", 4, out);
                text(value, "type", kind, out);
                flag(value, "uniqueItems", unique, out);
                Done::Ok(())
            })
        }),
    })
}

/// `NamedAny`s of what begins with `x-`. Their YAML is JSON, which is YAML.
fn extensions(value: &Value, number: u32, out: &mut Writer) -> Done {
    let fields = value.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| name.starts_with("x-"))
        .try_for_each(|(name, value)| {
            out.message(number, |out| {
                out.text(1, name);
                out.message(2, |out| any(value, out))
            })
        })
}

fn any(value: &Value, out: &mut Writer) -> Done {
    out.text(2, &value.to_string());
    Ok(())
}

fn text(value: &Value, key: &str, number: u32, out: &mut Writer) {
    if let Some(text) = value[key].as_str().filter(|text| !text.is_empty()) {
        out.text(number, text);
    }
}

fn texts(value: &Value, key: &str, number: u32, out: &mut Writer) {
    for text in list(value, key).iter().filter_map(Value::as_str) {
        out.text(number, text);
    }
}

fn flag(value: &Value, key: &str, number: u32, out: &mut Writer) {
    if value[key] == true {
        out.number(number, 1);
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}
