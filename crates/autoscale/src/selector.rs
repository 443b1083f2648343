//! Label selectors in their text form, as a scale's `status.selector` carries them.
//!
//! Source followed: `k8s.io/apimachinery/pkg/labels/selector.go` (grammar and error texts).

use std::collections::BTreeMap;

/// A parsed selector: all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    GreaterThan(i64),
    LessThan(i64),
}

/// A text that is not a selector; the message is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

impl Selector {
    /// Parses `app=web,tier in (a,b),!old`; the empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let tokens = lex(text);
        let mut parser = Parser { tokens, at: 0 };
        let mut requirements = Vec::new();
        if parser.peek() == &Token::End {
            return Ok(Self::default());
        }
        loop {
            requirements.push(parser.requirement()?);
            match parser.next() {
                Token::End => return Ok(Self { requirements }),
                Token::Comma => {
                    if let Token::End = parser.peek() {
                        return Err(ParseError(
                            "found '', expected: identifier after ','".to_owned(),
                        ));
                    }
                }
                other => {
                    return Err(ParseError(format!(
                        "found '{}', expected: ',' or 'end of string'",
                        other.text()
                    )));
                }
            }
        }
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.operator {
                Operator::Exists => value.is_some(),
                Operator::Absent => value.is_none(),
                Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Operator::GreaterThan(bound) => number(value).is_some_and(|value| value > *bound),
                Operator::LessThan(bound) => number(value).is_some_and(|value| value < *bound),
            }
        })
    }
}

impl Selector {
    /// A label, key and value, that everything selected has; nothing if no requirement is that strict.
    pub fn required_label(&self) -> Option<(&str, &str)> {
        self.requirements
            .iter()
            .find_map(|requirement| match &requirement.operator {
                Operator::In(values) if values.len() == 1 => {
                    Some((requirement.key.as_str(), values[0].as_str()))
                }
                _ => None,
            })
    }

    /// As an object of the API (`metav1.LabelSelector`); null for what it cannot say (`>` and `<`).
    pub fn to_object(&self) -> serde_json::Value {
        let mut labels = serde_json::Map::new();
        let mut expressions = Vec::new();
        for Requirement { key, operator } in &self.requirements {
            let (name, values) = match operator {
                Operator::In(values) if values.len() == 1 && !labels.contains_key(key) => {
                    labels.insert(key.clone(), values[0].clone().into());
                    continue;
                }
                Operator::In(values) => ("In", Some(values)),
                Operator::NotIn(values) => ("NotIn", Some(values)),
                Operator::Exists => ("Exists", None),
                Operator::Absent => ("DoesNotExist", None),
                Operator::GreaterThan(_) | Operator::LessThan(_) => {
                    return serde_json::Value::Null;
                }
            };
            let mut expression = serde_json::json!({"key": key, "operator": name});
            if let Some(values) = values {
                expression["values"] = serde_json::json!(values);
            }
            expressions.push(expression);
        }
        let mut object = serde_json::Map::new();
        if !labels.is_empty() {
            object.insert("matchLabels".to_owned(), labels.into());
        }
        if !expressions.is_empty() {
            object.insert("matchExpressions".to_owned(), expressions.into());
        }
        object.into()
    }
}

fn number(value: Option<&String>) -> Option<i64> {
    value.and_then(|value| value.parse().ok())
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    Comma,
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(word) => word,
            Token::Symbol(symbol) => symbol,
            Token::Comma => ",",
            Token::End => "",
        }
    }
}

fn lex(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.chars().next() else {
            tokens.push(Token::End);
            return tokens;
        };
        let symbol = ["==", "!=", "=", "!", "(", ")", ">", "<"]
            .into_iter()
            .find(|symbol| rest.starts_with(symbol));
        if let Some(symbol) = symbol {
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else if first == ',' {
            tokens.push(Token::Comma);
            rest = &rest[1..];
        } else {
            let end = rest
                .find(|c: char| " \t\r\n=!(),><".contains(c))
                .unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, ParseError> {
        self.bare_requirement()
            .map_err(|error| ParseError(format!("unable to parse requirement: {error}")))
    }

    fn bare_requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.peek() == &Token::Symbol("!");
        if absent {
            self.next();
        }
        let key = match self.next() {
            Token::Word(word) => word,
            other => {
                return Err(format!(
                    "found '{}', expected: !, identifier, or 'end of string'",
                    other.text()
                ));
            }
        };
        check_key(&key)?;
        if absent {
            return Ok(Requirement {
                key,
                operator: Operator::Absent,
            });
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Ok(Requirement {
                key,
                operator: Operator::Exists,
            });
        }
        let operator = match self.next() {
            Token::Symbol("=" | "==") => Operator::In(vec![self.value()?]),
            Token::Symbol("!=") => Operator::NotIn(vec![self.value()?]),
            Token::Symbol(">") => Operator::GreaterThan(self.bound()?),
            Token::Symbol("<") => Operator::LessThan(self.bound()?),
            Token::Word(word) if word == "in" => Operator::In(self.values()?),
            Token::Word(word) if word == "notin" => Operator::NotIn(self.values()?),
            other => {
                return Err(format!(
                    "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                    other.text()
                ));
            }
        };
        Ok(Requirement { key, operator })
    }

    fn value(&mut self) -> Result<String, String> {
        match self.peek() {
            Token::End | Token::Comma => Ok(String::new()),
            Token::Word(_) => {
                let value = self.next().text().to_owned();
                check_value(&value)?;
                Ok(value)
            }
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    fn bound(&mut self) -> Result<i64, String> {
        let value = self.value()?;
        value.parse().map_err(|_| {
            format!("for 'Gt', 'Lt' operators, the value must be an integer, found '{value}'")
        })
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(format!("found '{}' expected: '('", other.text())),
        }
        let mut values = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) => values.push(self.value()?),
                Token::Comma | Token::Symbol(")") => values.push(String::new()),
                other => {
                    return Err(format!(
                        "found '{}', expected: ',', ')' or identifier",
                        other.text()
                    ));
                }
            }
            match self.next() {
                Token::Comma => {}
                Token::Symbol(")") => return Ok(values),
                other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
            }
        }
    }
}

fn check_key(key: &str) -> Result<(), String> {
    let name = key.split_once('/').map_or(key, |(_, name)| name);
    if name.is_empty() || name.len() > 63 || !is_label_text(name) {
        return Err(format!(
            "key: Invalid value: {key:?}: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
        ));
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), String> {
    if value.len() > 63 || !(value.is_empty() || is_label_text(value)) {
        return Err(format!(
            "values[0]: Invalid value: {value:?}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
        ));
    }
    Ok(())
}

fn is_label_text(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().next_back())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        text.split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn is_told_as_an_object() {
        for (text, object) in [
            ("", serde_json::json!({})),
            (
                "a=b,c=",
                serde_json::json!({"matchLabels": {"a": "b", "c": ""}}),
            ),
            (
                "a in (x,y),b!=z,c,!d",
                serde_json::json!({"matchExpressions": [
                    {"key": "a", "operator": "In", "values": ["x", "y"]},
                    {"key": "b", "operator": "NotIn", "values": ["z"]},
                    {"key": "c", "operator": "Exists"},
                    {"key": "d", "operator": "DoesNotExist"},
                ]}),
            ),
            ("a>1", serde_json::Value::Null),
        ] {
            let selector = Selector::parse(text).expect(text);
            assert_eq!(selector.to_object(), object, "{text}");
        }
    }

    #[test]
    fn selects_as_upstream() {
        for (selector, object, selected) in [
            ("", "a=1", true),
            ("a=1", "a=1,b=2", true),
            ("a==1", "a=2", false),
            ("a = 1 , b=2", "a=1,b=2", true),
            ("a!=1", "b=2", true),
            ("a!=1", "a=1", false),
            ("a", "a=", true),
            ("!a", "a=1", false),
            ("!a", "b=1", true),
            ("a in (1, 2)", "a=2", true),
            ("a in (1,2)", "a=3", false),
            ("a notin (1,2)", "a=3", true),
            ("a notin (1,2)", "", true),
            ("a>5", "a=6", true),
            ("a>5", "a=5", false),
            ("a>5", "a=x", false),
            ("a>5", "b=6", false),
            ("a<5", "a=4", true),
            ("a<5", "a=5", false),
            ("a<5", "a=6", false),
            ("a in (,x)", "a=", true),
            ("a in (,x)", "b=", false),
            ("a=", "a=", true),
            ("example.com/name=x", "example.com/name=x", true),
        ] {
            let parsed = Selector::parse(selector);
            assert_eq!(
                parsed.map(|s| s.matches(&labels(object))),
                Ok(selected),
                "{selector} on {object}"
            );
        }
    }

    #[test]
    fn a_label_that_all_have_is_one_that_is_named() {
        for (text, label) in [
            ("", None),
            ("a=b", Some(("a", "b"))),
            ("a=", Some(("a", ""))),
            ("a in (x,y),c==d", Some(("c", "d"))),
            ("a in (x,y),b!=z,c,!d,e>1", None),
        ] {
            let selector = Selector::parse(text).expect(text);
            assert_eq!(selector.required_label(), label, "{text}");
        }
    }

    #[test]
    fn keys_and_values_have_63_bytes_at_most() {
        for (length, valid) in [(63, true), (64, false)] {
            let word = "x".repeat(length);
            for text in [
                format!("{word}=1"),
                format!("a={word}"),
                format!("example.com/{word}"),
            ] {
                assert_eq!(Selector::parse(&text).is_ok(), valid, "{text}");
            }
        }
        for text in ["a-b_c.d=e-f_g.h", "1=2", "a=b-c"] {
            assert!(Selector::parse(text).is_ok(), "{text}");
        }
        for text in ["a-=1", "a=1-", "a=_1", "a=b/c", "example.com/=1", "/=1"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_with_upstreams_words() {
        let error = Selector::parse("cheddar cheese").map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err("unable to parse requirement: found 'cheese', expected: in, notin, =, ==, !=, gt, lt".to_owned())
        );
        for text in [
            "a=1,",
            "=1",
            "a in 1",
            "a in (1",
            "a in (1 2)",
            "-a=1",
            "a=1 b=2",
            "a=b=c",
            "a>x",
            "!",
        ] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[a-z0-9=!(),<> ./é-]{0,40}") {
            let _ = Selector::parse(&text).map(|s| s.matches(&labels("a=1")));
        }
    }
}
