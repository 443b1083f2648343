//! A JSON value from any serde format, with the fields that come more than once.

use super::Duplicate;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};
use std::fmt;

/// Upstream stops collecting there too.
const DUPLICATES_MAX: usize = 100;

/// Reads one value; `parent` is the way to it, kept on the call stack and written out only for a duplicate.
pub(super) struct Tree<'a> {
    parent: Option<&'a Path<'a>>,
    duplicates: &'a mut Vec<Duplicate>,
}

struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Tree<'a> {
    pub fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
        duplicates: &'a mut Vec<Duplicate>,
    ) -> Result<Value, D::Error> {
        Tree {
            parent: None,
            duplicates,
        }
        .deserialize(deserializer)
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value that JSON has")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that JSON does not have"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        loop {
            let here = Path {
                parent: self.parent,
                step: Step::Index(array.len()),
            };
            let seed = Tree {
                parent: Some(&here),
                duplicates: self.duplicates,
            };
            match items.next_element_seed(seed)? {
                Some(item) => array.push(item),
                None => return Ok(Value::Array(array)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(Key(key)) = entries.next_key()? {
            let here = Path {
                parent: self.parent,
                step: Step::Key(&key),
            };
            let value = entries.next_value_seed(Tree {
                parent: Some(&here),
                duplicates: self.duplicates,
            })?;
            match object.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(mut entry) => {
                    let here = Path {
                        parent: self.parent,
                        step: Step::Key(entry.key()),
                    };
                    let duplicate = Duplicate(here.text());
                    let room = self.duplicates.len() < DUPLICATES_MAX;
                    if room && !self.duplicates.contains(&duplicate) {
                        self.duplicates.push(duplicate);
                    }
                    entry.insert(value);
                }
            }
        }
        Ok(Value::Object(object))
    }
}

impl Path<'_> {
    fn text(&self) -> String {
        let mut out = self.parent.map(Path::text).unwrap_or_default();
        match self.step {
            Step::Key(key) if out.is_empty() => out.push_str(key),
            Step::Key(key) => {
                out.push('.');
                out.push_str(key);
            }
            Step::Index(index) => out.push_str(&format!("[{index}]")),
        }
        out
    }
}

/// A key of a mapping. YAML's numbers and booleans become their text, as upstream's converter does.
struct Key(String);

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyKey;

        impl Visitor<'_> for AnyKey {
            type Value = Key;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a scalar as key")
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
                Ok(Key(key.to_owned()))
            }

            fn visit_string<E: Error>(self, key: String) -> Result<Key, E> {
                Ok(Key(key))
            }

            fn visit_bool<E: Error>(self, key: bool) -> Result<Key, E> {
                Ok(Key(key.to_string()))
            }

            fn visit_i64<E: Error>(self, key: i64) -> Result<Key, E> {
                Ok(Key(key.to_string()))
            }

            fn visit_u64<E: Error>(self, key: u64) -> Result<Key, E> {
                Ok(Key(key.to_string()))
            }

            fn visit_f64<E: Error>(self, key: f64) -> Result<Key, E> {
                Ok(Key(key.to_string()))
            }
        }
        deserializer.deserialize_any(AnyKey)
    }
}
