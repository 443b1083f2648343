//! JSONPath as definitions use it: for printer columns, selectable fields and scale paths (client-go
//! `util/jsonpath`, without scripts, unions and ranges).

use serde_json::Value;

/// Longest path, in bytes, and most steps of one.
const BYTES_MAX: usize = 1024;
/// Most values that a path with wildcards gives.
const VALUES_MAX: usize = 256;

/// A path that has been read.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    /// From the end when negative.
    Index(i64),
    /// From, to.
    Slice(i64, Option<i64>),
    Wildcard,
    /// `..name`: wherever it is below.
    Descend(String),
    /// Items for which it holds.
    Filter(Vec<Step>, Comparison, Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Exists,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads `.spec.a[0].b`, `.status.conditions[?(@.type=="Ready")].status`, `.metadata.labels['a.b/c']`,
    /// `.metadata.labels.a\.b/c`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > BYTES_MAX {
            return Err(format!("may not be longer than {BYTES_MAX} bytes"));
        }
        let mut reader = Reader { text, at: 0 };
        let steps = reader.steps()?;
        match reader.rest() {
            "" => Ok(Self(steps)),
            rest => Err(format!("unexpected {rest:?}")),
        }
    }

    /// The first value at the path.
    pub fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.all(object).into_iter().next()
    }

    /// The values at the path, at most [`VALUES_MAX`].
    pub fn all<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        walk(&self.0, object)
    }
}

fn walk<'a>(steps: &[Step], object: &'a Value) -> Vec<&'a Value> {
    let mut values = vec![object];
    for step in steps {
        let mut next = Vec::new();
        for value in values {
            take(step, value, &mut next);
            next.truncate(VALUES_MAX);
        }
        values = next;
    }
    values
}

fn take<'a>(step: &Step, value: &'a Value, out: &mut Vec<&'a Value>) {
    let list = value.as_array().map_or(&[][..], Vec::as_slice);
    let place = |at: i64| -> Option<usize> {
        let length = i64::try_from(list.len()).ok()?;
        usize::try_from(if at < 0 { length + at } else { at }).ok()
    };
    match step {
        Step::Member(name) => out.extend(value.get(name.as_str())),
        Step::Index(at) => out.extend(place(*at).and_then(|at| list.get(at))),
        Step::Slice(from, to) => {
            let from = place(*from).unwrap_or(0);
            let to = to
                .map_or(list.len(), |to| place(to).unwrap_or(0))
                .min(list.len());
            out.extend(list.get(from..to).unwrap_or_default());
        }
        Step::Wildcard => match value {
            Value::Object(map) => out.extend(map.values()),
            _ => out.extend(list),
        },
        Step::Descend(name) => {
            out.extend(value.get(name.as_str()));
            if out.len() > VALUES_MAX {
                return;
            }
            match value {
                Value::Object(map) => map.values().for_each(|below| take(step, below, out)),
                _ => list.iter().for_each(|below| take(step, below, out)),
            }
        }
        Step::Filter(path, comparison, wanted) => out.extend(list.iter().filter(|item| {
            let found = walk(path, item);
            found
                .first()
                .is_some_and(|found| holds(found, *comparison, wanted))
        })),
    }
}

fn holds(found: &Value, comparison: Comparison, wanted: &Value) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (found, wanted) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => (a == b).then_some(Equal),
        },
    };
    match comparison {
        Comparison::Exists => true,
        Comparison::Equal => order == Some(Equal),
        Comparison::NotEqual => order != Some(Equal),
        Comparison::Less => order == Some(Less),
        Comparison::LessOrEqual => matches!(order, Some(Less | Equal)),
        Comparison::Greater => order == Some(Greater),
        Comparison::GreaterOrEqual => matches!(order, Some(Greater | Equal)),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> bool {
        let there = self.rest().starts_with(token);
        if there {
            self.at += token.len();
        }
        there
    }

    fn steps(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        loop {
            if self.eat("..") {
                steps.push(Step::Descend(self.name()?));
            } else if self.eat(".") {
                if self.eat("*") {
                    steps.push(Step::Wildcard);
                } else if self.rest().is_empty() && steps.is_empty() {
                    // the object itself
                    return Ok(steps);
                } else if !self.rest().starts_with('[') {
                    steps.push(Step::Member(self.name()?));
                }
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else {
                return Ok(steps);
            }
        }
    }

    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        let mut chars = self.rest().char_indices();
        let mut end = self.rest().len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                '.' | '[' | ']' | ')' | '(' | '=' | '!' | '<' | '>' | ' ' | '{' | '}' | '*'
                | '"' | '\'' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        self.at += end;
        if name.is_empty() {
            return Err("a name is missing".into());
        }
        Ok(name)
    }

    fn bracket(&mut self) -> Result<Step, String> {
        if self.eat("*]") {
            return Ok(Step::Wildcard);
        }
        if self.eat("?(") {
            return self.filter();
        }
        for quote in ["'", "\""] {
            if self.eat(quote) {
                let end = self
                    .rest()
                    .find(quote)
                    .ok_or("unterminated quoted string")?;
                let name = self.rest()[..end].to_owned();
                self.at += end + 1;
                return if self.eat("]") {
                    Ok(Step::Member(name))
                } else {
                    Err("unterminated array".into())
                };
            }
        }
        let end = self.rest().find(']').ok_or("unterminated array")?;
        let inner = &self.rest()[..end];
        self.at += end + 1;
        let number = |text: &str| {
            text.trim()
                .parse::<i64>()
                .map_err(|_| format!("invalid array index {inner}"))
        };
        match inner.split_once(':') {
            None => number(inner).map(Step::Index),
            Some((from, to)) => {
                let from = if from.is_empty() { 0 } else { number(from)? };
                let to = if to.is_empty() {
                    None
                } else {
                    Some(number(to)?)
                };
                Ok(Step::Slice(from, to))
            }
        }
    }

    fn filter(&mut self) -> Result<Step, String> {
        self.spaces();
        if !self.eat("@") {
            return Err("a filter begins with @".into());
        }
        let path = self.steps()?;
        self.spaces();
        let comparisons = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let found = comparisons.iter().find(|(token, _)| self.eat(token));
        let step = match found {
            None => Step::Filter(path, Comparison::Exists, Value::Null),
            Some((_, comparison)) => {
                self.spaces();
                Step::Filter(path, *comparison, self.literal()?)
            }
        };
        self.spaces();
        if self.eat(")]") {
            Ok(step)
        } else {
            Err("unterminated filter".into())
        }
    }

    fn literal(&mut self) -> Result<Value, String> {
        for quote in ["'", "\""] {
            if self.eat(quote) {
                let end = self
                    .rest()
                    .find(quote)
                    .ok_or("unterminated quoted string")?;
                let text = self.rest()[..end].to_owned();
                self.at += end + 1;
                return Ok(text.into());
            }
        }
        let end = self.rest().find([')', ' ']).ok_or("unterminated filter")?;
        let text = &self.rest()[..end];
        self.at += end;
        serde_json::from_str(text).map_err(|_| format!("unrecognized value {text}"))
    }

    fn spaces(&mut self) {
        while self.eat(" ") {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_their_values() {
        let object = json!({"spec": {"a": {"b": 1}, "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}], "a.b/c": "dotted"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Done", "status": "False"}]}});
        let cases = [
            (".spec.a.b", json!([1])),
            (".spec.list[0].n", json!(["x"])),
            (".spec.list[-1].n", json!(["y"])),
            (".spec.list[*].n", json!(["x", "y"])),
            (".spec.list[0:1].n", json!(["x"])),
            (".spec['a.b/c']", json!(["dotted"])),
            (".spec.a\\.b/c", json!(["dotted"])),
            (
                ".status.conditions[?(@.type==\"Ready\")].status",
                json!(["True"]),
            ),
            (
                ".status.conditions[?(@.type == 'Done')].status",
                json!(["False"]),
            ),
            (".spec.list[?(@.v>1)].n", json!(["y"])),
            (".spec.list[?(@.w)].n", json!([])),
            (".spec.missing.deeper", json!([])),
            ("..n", json!(["x", "y"])),
        ];
        for (path, expected) in cases {
            let parsed = JsonPath::parse(path).unwrap_or_else(|why| panic!("{path}: {why}"));
            assert_eq!(json!(parsed.all(&object)), expected, "{path}");
        }
        assert_eq!(
            JsonPath::parse(".").expect("a path").first(&object),
            Some(&object)
        );
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in [
            ".a[",
            ".a[x]",
            ".a['b",
            ".a[?(x)]",
            ".a b",
            "a",
            ".a..",
            ".a[?(@.b==)]",
        ] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
        assert!(JsonPath::parse(&format!(".{}", "a".repeat(2000))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_path_panics(path in r#"[.\[\]?@()'"=<>*:\\a-c0-9 -]{0,20}"#) {
            if let Ok(parsed) = JsonPath::parse(&path) {
                let _ = parsed.all(&json!({"a": [1, {"b": "c"}], "b": null}));
            }
        }
    }
}
