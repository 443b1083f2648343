//! Label and field selectors (apimachinery `pkg/labels`, `pkg/fields`).

use crate::status::ApiError;

/// One condition of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
    GreaterThan(String, i64),
    LessThan(String, i64),
}

/// A conjunction of conditions; empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(pub Vec<Requirement>);

impl LabelSelector {
    /// Parses `a=b,c in (d,e),!f,g>1`. Errors are 400 in upstream's words.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let fail =
            |why: String| ApiError::bad_request(format!("unable to parse requirement: {why}"));
        let mut lexer = Lexer::new(text);
        let mut requirements = Vec::new();
        if lexer.peek().is_empty() {
            return Ok(Self(requirements));
        }
        loop {
            requirements.push(requirement(&mut lexer).map_err(fail)?);
            match lexer.next().as_str() {
                "" => return Ok(Self(requirements)),
                "," if lexer.peek().is_empty() => {
                    return Err(fail("found '', expected: identifier after ','".into()));
                }
                "," => {}
                other => {
                    return Err(fail(format!(
                        "found '{other}', expected: ',' or 'end of string'"
                    )));
                }
            }
        }
    }

    /// Whether the labels meet every condition.
    pub fn matches(&self, labels: &[(String, String)]) -> bool {
        let get = |key: &str| {
            labels
                .iter()
                .find(|(k, _)| k == key)
                .map(|(_, v)| v.as_str())
        };
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => get(key).is_some_and(|v| values.iter().any(|x| x == v)),
            Requirement::NotIn(key, values) => {
                get(key).is_none_or(|v| values.iter().all(|x| x != v))
            }
            Requirement::Exists(key) => get(key).is_some(),
            Requirement::DoesNotExist(key) => get(key).is_none(),
            Requirement::GreaterThan(key, bound) => number(get(key)).is_some_and(|v| v > *bound),
            Requirement::LessThan(key, bound) => number(get(key)).is_some_and(|v| v < *bound),
        })
    }
}

fn number(text: Option<&str>) -> Option<i64> {
    text?.parse().ok()
}

fn requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, String> {
    let negated = lexer.peek() == "!";
    if negated {
        lexer.next();
    }
    let key = lexer.next();
    if key.is_empty() || is_operator(&key) {
        return Err(format!(
            "found '{key}', expected: !, identifier, or 'end of string'"
        ));
    }
    let problems = crate::registry::names::label_key(&key);
    if let Some(problem) = problems.first() {
        return Err(format!("key: Invalid value: {key:?}: {problem}"));
    }
    if negated {
        return Ok(Requirement::DoesNotExist(key));
    }
    match lexer.peek().as_str() {
        "" | "," => return Ok(Requirement::Exists(key)),
        _ => {}
    }
    let operator = lexer.next();
    match operator.as_str() {
        "=" | "==" => Ok(Requirement::In(key.clone(), vec![value(lexer, &key)?])),
        "!=" => Ok(Requirement::NotIn(key.clone(), vec![value(lexer, &key)?])),
        ">" | "<" => {
            let text = value(lexer, &key)?;
            let bound = text.parse().map_err(|_| {
                format!("values[0][{key}]: Invalid value: {text:?}: for 'Gt', 'Lt' operators, the value must be an integer")
            })?;
            Ok(if operator == ">" {
                Requirement::GreaterThan(key, bound)
            } else {
                Requirement::LessThan(key, bound)
            })
        }
        "in" => Ok(Requirement::In(key.clone(), set(lexer, &key)?)),
        "notin" => Ok(Requirement::NotIn(key.clone(), set(lexer, &key)?)),
        other => Err(format!(
            "found '{other}', expected: in, notin, =, ==, !=, gt, lt"
        )),
    }
}

fn value(lexer: &mut Lexer<'_>, key: &str) -> Result<String, String> {
    match lexer.peek().as_str() {
        "" | "," => return Ok(String::new()),
        _ => {}
    }
    let value = lexer.next();
    checked(value, key)
}

fn checked(value: String, key: &str) -> Result<String, String> {
    match crate::registry::names::label_value(&value).first() {
        None => Ok(value),
        Some(problem) => Err(format!(
            "values[0][{key}]: Invalid value: {value:?}: {problem}"
        )),
    }
}

fn set(lexer: &mut Lexer<'_>, key: &str) -> Result<Vec<String>, String> {
    let open = lexer.next();
    if open != "(" {
        return Err(format!("found '{open}' expected: '('"));
    }
    let mut values = Vec::new();
    loop {
        match lexer.next().as_str() {
            ")" => {
                // `a in ()` and `a in (b,)` contain the empty value.
                values.push(String::new());
                return Ok(values);
            }
            "," => values.push(String::new()),
            "" => return Err("found '', expected: ',', ')' or identifier".into()),
            other => {
                values.push(checked(other.to_owned(), key)?);
                match lexer.next().as_str() {
                    ")" => return Ok(values),
                    "," => {}
                    other => return Err(format!("found '{other}', expected: ',' or ')'")),
                }
            }
        }
    }
}

fn is_operator(token: &str) -> bool {
    matches!(token, "!" | "(" | ")" | "," | "=" | "==" | "!=" | ">" | "<")
}

struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text.trim_start(),
        }
    }

    fn peek(&self) -> String {
        self.split().0.to_owned()
    }

    fn next(&mut self) -> String {
        let (token, rest) = self.split();
        self.rest = rest.trim_start();
        token.to_owned()
    }

    fn split(&self) -> (&'a str, &'a str) {
        let special = |c: char| matches!(c, '!' | '(' | ')' | ',' | '=' | '>' | '<');
        for operator in ["==", "!=", "!", "(", ")", ",", "=", ">", "<"] {
            if self.rest.starts_with(operator) {
                return self.rest.split_at(operator.len());
            }
        }
        let end = self
            .rest
            .find(|c: char| special(c) || c.is_whitespace())
            .unwrap_or(self.rest.len());
        self.rest.split_at(end)
    }
}

/// `field=value` or `field!=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub field: String,
    pub equal: bool,
    pub value: String,
}

/// A conjunction of field terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(pub Vec<FieldTerm>);

impl FieldSelector {
    /// Parses `a=b,c!=d`; backslash escapes `\`, `,` and `=`. Errors are 400.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut terms = Vec::new();
        for term in split_terms(text).into_iter().filter(|t| !t.is_empty()) {
            let (at, length, equal) = operator(term).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "invalid selector: '{text}'; can't understand '{term}'"
                ))
            })?;
            let value = unescape(&term[at + length..]).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "invalid field selector: invalid escape sequence in {term:?}"
                ))
            })?;
            terms.push(FieldTerm {
                field: term[..at].to_owned(),
                equal,
                value,
            });
        }
        Ok(Self(terms))
    }

    /// The one value a field must have, if the selector demands one.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|t| t.equal && t.field == field)
            .map(|t| t.value.as_str())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn operator(term: &str) -> Option<(usize, usize, bool)> {
    term.char_indices().find_map(|(at, _)| {
        let rest = &term[at..];
        if rest.starts_with("!=") {
            Some((at, 2, false))
        } else if rest.starts_with("==") {
            Some((at, 2, true))
        } else if rest.starts_with('=') {
            Some((at, 1, true))
        } else {
            None
        }
    })
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                e @ ('\\' | ',' | '=') => out.push(e),
                _ => return None,
            },
            ',' | '=' => return None,
            other => out.push(other),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn label_selectors_select() {
        let object = labels(&[("a", "b"), ("n", "5"), ("example.com/x", "")]);
        let cases = [
            ("", true),
            ("a=b", true),
            ("a==b", true),
            ("a!=b", false),
            ("a", true),
            ("!a", false),
            ("z", false),
            ("!z", true),
            ("z!=b", true),
            ("a in (b, c)", true),
            ("a notin (b,c)", false),
            ("z notin (b)", true),
            ("n>4", true),
            ("n>5", false),
            ("n < 6", true),
            ("a>1", false),
            ("a=b,n=5", true),
            ("a=b,n=6", false),
            ("example.com/x=", true),
            ("example.com/x", true),
            ("a in (c,)", false),
            (" a = b , ! z ", true),
            ("a=", false),
            ("example.com/x in ()", true),
        ];
        for (text, expected) in cases {
            let selector = LabelSelector::parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
            assert_eq!(selector.matches(&object), expected, "{text:?}");
        }
    }

    #[test]
    fn label_selectors_refuse() {
        for text in [
            "=", "a=b,", "a in", "a in (", "a in (b", "a b", "(a)", "a>x", "a=b c", "!", "a=b=c",
            "-a=b", "a=b!", ",a",
        ] {
            let error = LabelSelector::parse(text).expect_err(text);
            assert_eq!(error.code, 400, "{text:?}");
        }
    }

    #[test]
    fn field_selectors() {
        let term = |field: &str, equal, value: &str| FieldTerm {
            field: field.into(),
            equal,
            value: value.into(),
        };
        let cases: [(&str, Option<Vec<FieldTerm>>); 7] = [
            ("", Some(vec![])),
            ("a=b", Some(vec![term("a", true, "b")])),
            (
                "a==b,c!=d",
                Some(vec![term("a", true, "b"), term("c", false, "d")]),
            ),
            ("a=", Some(vec![term("a", true, "")])),
            (r"a=b\,c\=\\", Some(vec![term("a", true, r"b,c=\")])),
            ("a", None),
            (r"a=\x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(
                FieldSelector::parse(text).ok().map(|s| s.0),
                expected,
                "{text:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn parsers_never_panic(text in ".{0,60}") {
            let _ = LabelSelector::parse(&text);
            let _ = FieldSelector::parse(&text);
        }
    }
}
