//! Query parameters, decoded; Docker's ways of writing booleans and filters.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::reply::Refusal;

/// The parameters of one request, in order.
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| {
                    (
                        decode(&name.replace('+', " ")),
                        decode(&value.replace('+', " ")),
                    )
                })
                .collect(),
        )
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// Anything but nothing, 0, no, none and false is true, as Docker has it.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| {
            !["0", "no", "none", "false"].contains(&value.to_lowercase().as_str())
        })
    }

    pub fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                Refusal::bad(format!("invalid value {text:?} for {name}: not a number"))
            })
        };
        self.get(name).map(parse).transpose()
    }

    /// `filters={"name":["x"],"status":{"running":true}}`: both forms that clients send.
    pub fn filters(&self) -> Result<BTreeMap<String, Vec<String>>, Refusal> {
        let Some(text) = self.get("filters") else {
            return Ok(BTreeMap::new());
        };
        let value: BTreeMap<String, Value> = serde_json::from_str(text)
            .map_err(|error| Refusal::bad(format!("invalid filters: {error}")))?;
        Ok(value
            .into_iter()
            .map(|(name, wanted)| {
                let wanted = match wanted {
                    Value::Array(list) => list
                        .iter()
                        .filter_map(|v| v.as_str().map(str::to_owned))
                        .collect(),
                    Value::Object(map) => map
                        .into_iter()
                        .filter(|(_, on)| on.as_bool() == Some(true))
                        .map(|(key, _)| key)
                        .collect(),
                    _ => Vec::new(),
                };
                (name, wanted)
            })
            .collect())
    }
}

/// Percent-decoding; what is no escape stays as it is.
pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding() {
        for (text, want) in [
            ("a%20b", "a b"),
            ("%", "%"),
            ("%2", "%2"),
            ("%zz", "%zz"),
            ("%+1", "%+1"),
            ("%C3%BC", "ü"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(decode(text), want, "{text}");
        }
    }

    #[test]
    fn flags_and_filters() {
        let query = Query::parse(
            "a=1&b=0&c=False&d=&t=x&t=y+z&filters=%7B%22status%22%3A%5B%22exited%22%5D%2C%22label%22%3A%7B%22k%22%3Atrue%7D%7D",
        );
        assert_eq!(
            ["a", "b", "c", "d", "e"].map(|name| query.flag(name)),
            [true, false, false, false, false]
        );
        assert_eq!(query.all("t").collect::<Vec<_>>(), ["x", "y z"]);
        let filters = query.filters().expect("valid");
        assert_eq!(
            (filters["status"].as_slice(), filters["label"].as_slice()),
            (&["exited".to_owned()][..], &["k".to_owned()][..])
        );
        assert!(Query::parse("filters=%7B").filters().is_err());
        assert!(Query::parse("n=x").number("n").is_err());
    }
}
