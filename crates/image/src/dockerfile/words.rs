//! Words of Dockerfile instructions: quotes, escapes, `$NAME` and `${NAME…}`.
//!
//! Behaviour: the Dockerfile reference ("Environment replacement") and BuildKit's tables envVarTest and wordsTest.

use std::iter::Peekable;
use std::str::Chars;

use super::pattern::{replace, trim};

/// Nesting of `${a:-${b:-…}}` beyond this is an error, not a stack overflow.
const DEPTH_MAX: usize = 100;

/// Replaces variables and removes quotes; the result is one word whatever it contains.
///
/// # Errors
/// The reason, for unbalanced quotes and bad substitutions.
pub(crate) fn expand(
    text: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    Lexer::new(text, escape, lookup)
        .run()
        .map(|(whole, _)| whole)
}

/// Replaces variables and splits at unquoted white space, also at that which variables bring.
///
/// # Errors
/// As [`expand`].
pub(crate) fn expand_words(
    text: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, String> {
    Lexer::new(text, escape, lookup)
        .run()
        .map(|(_, words)| words)
}

/// Splits at unquoted white space and changes nothing else: the pieces of `a="b c" d`.
pub(crate) fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(q) if q == c => quote = None,
            _ => {}
        }
        word.push(c);
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    depth: usize,
}

/// Words found so far: white space ends one, unless it is quoted.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
    inside: bool,
}

impl Words {
    fn raw(&mut self, c: char) {
        self.word.push(c);
        self.inside = true;
    }

    fn plain(&mut self, c: char) {
        if !c.is_whitespace() {
            self.raw(c);
        } else if self.inside && !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
            self.inside = false;
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, escape: char, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Lexer {
            chars: text.chars().peekable(),
            escape,
            lookup,
            depth: 0,
        }
    }

    fn run(mut self) -> Result<(String, Vec<String>), String> {
        let mut words = Words::default();
        let whole = self.until(None, false, &mut words)?;
        Ok((whole, words.finish()))
    }

    fn until(
        &mut self,
        stop: Option<char>,
        keep_escapes: bool,
        words: &mut Words,
    ) -> Result<String, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("substitutions nested more than {DEPTH_MAX} deep"));
        }
        let mut out = String::new();
        while let Some(&c) = self.chars.peek() {
            if Some(c) == stop {
                self.chars.next();
                self.depth -= 1;
                return Ok(out);
            }
            match c {
                '\'' | '"' => {
                    let text = if c == '"' {
                        self.double_quoted()?
                    } else {
                        self.single_quoted()?
                    };
                    words.word.push_str(&text);
                    words.inside = true;
                    out.push_str(&text);
                }
                '$' => {
                    let text = self.dollar()?;
                    text.chars().for_each(|c| words.plain(c));
                    out.push_str(&text);
                }
                _ if c == self.escape => {
                    self.chars.next();
                    if keep_escapes {
                        out.push(c);
                        words.raw(c);
                    }
                    let Some(next) = self.chars.next() else { break };
                    out.push(next);
                    words.raw(next);
                }
                _ => {
                    self.chars.next();
                    out.push(c);
                    words.plain(c);
                }
            }
        }
        self.depth -= 1;
        match stop {
            Some(stop) => Err(format!(
                "unexpected end of statement while looking for matching {stop}"
            )),
            None => Ok(out),
        }
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        self.chars.next();
        let mut out = String::new();
        for c in self.chars.by_ref() {
            if c == '\'' {
                return Ok(out);
            }
            out.push(c);
        }
        Err("unexpected end of statement while looking for matching single-quote".into())
    }

    fn double_quoted(&mut self) -> Result<String, String> {
        self.chars.next();
        let mut out = String::new();
        while let Some(&c) = self.chars.peek() {
            if c == '$' {
                out.push_str(&self.dollar()?);
                continue;
            }
            self.chars.next();
            if c == '"' {
                return Ok(out);
            }
            if c != self.escape {
                out.push(c);
                continue;
            }
            match self.chars.peek() {
                Some(&next) if next == '"' || next == '$' || next == self.escape => {
                    self.chars.next();
                    out.push(next);
                }
                Some(_) => out.push(c),
                None => {}
            }
        }
        Err("unexpected end of statement while looking for matching double-quote".into())
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(c) if c.is_ascii_digit() => {
                while let Some(c) = self.chars.next_if(char::is_ascii_digit) {
                    name.push(c);
                }
                return name;
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                name.extend(self.chars.next());
                return name;
            }
            _ => {}
        }
        while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }

    fn dollar(&mut self) -> Result<String, String> {
        self.chars.next();
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok((self.lookup)(&name).unwrap_or_default());
        }
        self.chars.next();
        match self.chars.peek() {
            None => return Err("syntax error: missing '}'".into()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".into()),
            _ => {}
        }
        let name = self.name();
        let value = (self.lookup)(&name);
        let Some(mut modifier) = self.chars.next() else {
            return Err("syntax error: missing '}'".into());
        };
        if modifier == '}' {
            return Ok(value.unwrap_or_default());
        }
        let colon = modifier == ':';
        if colon {
            modifier = self.chars.next().ok_or("syntax error: missing '}'")?;
        }
        match modifier {
            '+' | '-' | '?' => {
                let word = self.operand('}', false)?;
                let filled = value.clone().filter(|v| !colon || !v.is_empty());
                match (modifier, filled) {
                    ('+', Some(_)) => Ok(word),
                    ('+', None) => Ok(String::new()),
                    (_, Some(value)) => Ok(value),
                    ('-', None) => Ok(word),
                    (_, None) => {
                        let default = if value.is_none() {
                            "not allowed to be unset"
                        } else {
                            "not allowed to be empty"
                        };
                        Err(format!(
                            "{name}: {}",
                            if word.is_empty() { default } else { &word }
                        ))
                    }
                }
            }
            '#' | '%' if !colon => {
                let greedy = self.chars.next_if_eq(&modifier).is_some();
                let pattern = self.operand('}', true)?;
                Ok(trim(
                    &value.unwrap_or_default(),
                    &pattern,
                    modifier == '#',
                    greedy,
                    self.escape,
                ))
            }
            '/' if !colon => {
                let all = self.chars.next_if_eq(&'/').is_some();
                let pattern = self.operand('/', true)?;
                let replacement = self.operand('}', false)?;
                Ok(replace(
                    &value.unwrap_or_default(),
                    &pattern,
                    &replacement,
                    all,
                    self.escape,
                ))
            }
            other => Err(format!("unsupported modifier ({other}) in substitution")),
        }
    }

    fn operand(&mut self, stop: char, keep_escapes: bool) -> Result<String, String> {
        self.until(Some(stop), keep_escapes, &mut Words::default())
            .map_err(|e| {
                if e.contains("matching }") {
                    "syntax error: missing '}'".into()
                } else {
                    e
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::shared_data;

    #[test]
    fn buildkit_expansion_table() {
        let Some(table) = shared_data("dockerfile/buildkit_shell/envVarTest") else {
            return;
        };
        let env = [
            ("PWD", "/home"),
            ("SHELL", "bash"),
            ("KOREAN", "한국어"),
            ("NULL", ""),
        ];
        let lookup = |name: &str| {
            env.iter()
                .find(|(n, _)| *n == name)
                .map(|(_, v)| v.to_string())
        };
        let mut cases = 0;
        for (number, line) in table.lines().enumerate() {
            let line = line
                .split('#')
                .next()
                .filter(|l| l.trim().is_empty())
                .map_or(line, |_| "");
            let fields: Vec<&str> = line.split('|').collect();
            let [platform, source, expected] = fields[..] else {
                continue;
            };
            if platform == "W" {
                continue;
            }
            cases += 1;
            let (source, expected) = (source.trim(), expected.trim());
            let result = expand(source, '\\', &lookup);
            match expected {
                "error" => assert!(
                    result.is_err(),
                    "line {}: {source:?} gave {result:?}",
                    number + 1
                ),
                _ => assert_eq!(
                    result.as_deref(),
                    Ok(expected),
                    "line {}: {source:?}",
                    number + 1
                ),
            }
        }
        assert!(cases > 200, "only {cases} cases were found");
    }

    #[test]
    fn buildkit_words_table() {
        let Some(table) = shared_data("dockerfile/buildkit_shell/wordsTest") else {
            return;
        };
        let mut env: Vec<(String, String)> = Vec::new();
        let mut cases = 0;
        for line in table
            .lines()
            .filter(|l| !l.starts_with('#') && !l.trim().is_empty())
        {
            if let Some(assignment) = line.strip_prefix("ENV ") {
                let (name, value) = assignment.trim_start().split_once('=').unwrap();
                env.retain(|(n, _)| n != name);
                env.push((name.into(), value.into()));
                continue;
            }
            cases += 1;
            let (source, expected) = line.split_once('|').unwrap();
            let expected = expected.trim_start_matches(' ');
            let lookup = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
            let result = expand_words(source.trim(), '\\', &lookup);
            match expected {
                "error" => assert!(result.is_err(), "{line:?} gave {result:?}"),
                _ => assert_eq!(result.unwrap().join(","), expected, "{line:?}"),
            }
        }
        assert!(cases > 15, "only {cases} cases were found");
    }

    #[test]
    fn patterns_cut_and_replace() {
        let lookup = |name: &str| (name == "v").then(|| "a.b.c/a.b".to_owned());
        for (text, expected) in [
            ("${v#*.}", "b.c/a.b"),
            ("${v##*.}", "b"),
            ("${v%.*}", "a.b.c/a"),
            ("${v%%.*}", "a"),
            ("${v/./-}", "a-b.c/a.b"),
            ("${v//./-}", "a-b-c/a-b"),
            ("${v/\\//_}", "a.b.c_a.b"),
            ("${v-x}", "a.b.c/a.b"),
            ("${w-x}", "x"),
            ("${w+x}", ""),
        ] {
            assert_eq!(
                expand(text, '\\', &lookup).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn splitting_keeps_quotes_and_escapes() {
        assert_eq!(
            split(r#"a="b c" d='e f' g\ h"#, '\\'),
            [r#"a="b c""#, "d='e f'", r"g\ h"]
        );
    }

    proptest::proptest! {
        #[test]
        fn expansion_never_panics(text in r#"[$\{\}:\-+?#%/'"\\`a-c é*]{0,60}"#) {
            let lookup = |name: &str| (name == "a").then(|| "x y".to_owned());
            let _ = expand(&text, '\\', &lookup);
            let _ = expand_words(&text, '`', &lookup);
            let _ = split(&text, '\\');
        }

        #[test]
        fn plain_text_is_unchanged(text in "[a-zA-Z0-9/._:=,-]{0,40}") {
            proptest::prop_assert_eq!(expand(&text, '\\', &|_| None), Ok(text));
        }
    }

    #[test]
    fn deep_nesting_is_an_error() {
        assert!(expand(&"${a:-".repeat(100_000), '\\', &|_| None).is_err());
    }
}
