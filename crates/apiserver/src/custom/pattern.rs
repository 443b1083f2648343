//! Patterns of schemas: Go's syntax (RE2) for an engine whose time is linear in the text, too.

use regex::{Regex, RegexBuilder};

/// What a pattern may take when it is made ready, in bytes.
const SIZE_MAX: usize = 2 << 20;

/// Makes a pattern ready. The error says why it cannot be used.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translate(pattern))
        .size_limit(SIZE_MAX)
        .dfa_size_limit(SIZE_MAX)
        .build()
        .map_err(|error| reason(&error))
}

fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "expression nests or repeats too much".into(),
        // the last line names the mistake, those before show where it is
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        }
    }
}

/// Go's classes are of ASCII, a `[` in a class and a `{` that begins no repetition are themselves, and there are no
/// operators on classes.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let chars: Vec<char> = pattern.chars().collect();
    let mut class = false;
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        let next = chars.get(at + 1).copied();
        at += 1;
        match (c, class) {
            ('\\', _) => {
                let Some(escaped) = next else {
                    out.push('\\');
                    break;
                };
                at += 1;
                match (escaped, class) {
                    ('d', true) => out.push_str("0-9"),
                    ('d', false) => out.push_str("[0-9]"),
                    ('D', _) => out.push_str("[^0-9]"),
                    ('w', true) => out.push_str("0-9A-Za-z_"),
                    ('w', false) => out.push_str("[0-9A-Za-z_]"),
                    ('W', _) => out.push_str("[^0-9A-Za-z_]"),
                    ('s', true) => out.push_str("\\t\\n\\f\\r "),
                    ('s', false) => out.push_str("[\\t\\n\\f\\r ]"),
                    ('S', _) => out.push_str("[^\\t\\n\\f\\r ]"),
                    ('b', false) => out.push_str("(?-u:\\b)"),
                    ('B', false) => out.push_str("(?-u:\\B)"),
                    ('Q', false) => {
                        let rest: String = chars[at..].iter().collect();
                        let quoted = rest.split("\\E").next().unwrap_or_default();
                        out.push_str(&regex::escape(quoted));
                        at += quoted.chars().count();
                        if at < chars.len() {
                            at += 2;
                        }
                    }
                    (other, _) => {
                        out.push('\\');
                        out.push(other);
                    }
                }
            }
            ('[', false) => {
                class = true;
                out.push('[');
                if chars.get(at) == Some(&'^') {
                    out.push('^');
                    at += 1;
                }
                // a bracket that comes first is itself
                if chars.get(at) == Some(&']') {
                    out.push_str("\\]");
                    at += 1;
                }
            }
            ('[', true) if next == Some(':') => out.push('['),
            ('[', true) => out.push_str("\\["),
            (':', true) if next == Some(']') && is_named(&out) => {
                out.push_str(":]");
                at += 1;
            }
            (']', true) => {
                class = false;
                out.push(']');
            }
            ('&' | '~', true) => {
                out.push('\\');
                out.push(c);
            }
            ('-', true) if next == Some('-') => out.push_str("\\-"),
            ('{', false) if !repeats(&chars[at..]) => out.push_str("\\{"),
            ('}', false) if !ends_repetition(&chars[..at - 1]) => out.push_str("\\}"),
            _ => out.push(c),
        }
    }
    out
}

/// Whether a class such as `[:alpha:]` has been begun.
fn is_named(out: &str) -> bool {
    out.rfind("[:")
        .is_some_and(|begin| !out[begin..].contains(']'))
}

/// `2}`, `2,}` or `2,3}`.
fn repeats(rest: &[char]) -> bool {
    let Some(end) = rest.iter().position(|c| *c == '}') else {
        return false;
    };
    let inner = &rest[..end];
    inner.first().is_some_and(char::is_ascii_digit)
        && inner.iter().all(|c| c.is_ascii_digit() || *c == ',')
        && inner.iter().filter(|c| **c == ',').count() <= 1
}

fn ends_repetition(before: &[char]) -> bool {
    let begin = before.iter().rposition(|c| *c == '{');
    begin.is_some_and(|begin| {
        let inner = &before[begin + 1..];
        let letters = inner.iter().all(|c| c.is_ascii_alphanumeric() || *c == '_');
        // `\p{Greek}` and `\x{10FFFF}`
        let named = letters && begin >= 2 && before[begin - 2] == '\\';
        let numbers = inner.first().is_some_and(char::is_ascii_digit)
            && inner.iter().all(|c| c.is_ascii_digit() || *c == ',');
        named || numbers
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_syntax_means_what_it_means_there() {
        // pattern, texts that match, texts that do not
        let cases: &[(&str, &[&str], &[&str])] = &[
            (r"^\d+$", &["12"], &["", "١٢"]),
            (r"^\w$", &["a", "_"], &["é", "-"]),
            (r"^[\w.-]+$", &["a.b-c"], &["a b"]),
            (r"^[[a]$", &["[", "a"], &["b"]),
            (r"^[]a]$", &["]", "a"], &["b"]),
            (r"^[[:alpha:]]+$", &["ab"], &["a1"]),
            (r"^{a}$", &["{a}"], &["a"]),
            (r"^a{2,3}$", &["aa", "aaa"], &["a", "aaaa"]),
            (r"^[a&&b]$", &["a", "&", "b"], &["c"]),
            (r"^\Qa.b\E$", &["a.b"], &["axb"]),
            (r"^.$", &["é"], &["\n", "ab"]),
            (r"^\x{41}$", &["A"], &["B"]),
            (r"^(([^:/?#]+):)?$", &["http:"], &["http:/"]),
        ];
        for (pattern, good, bad) in cases {
            let regex = compile(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
            for text in *good {
                assert!(regex.is_match(text), "{pattern} matches {text:?}");
            }
            for text in *bad {
                assert!(!regex.is_match(text), "{pattern} does not match {text:?}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_or_too_large_is_refused() {
        for pattern in [
            "(",
            "a**b(",
            "[a",
            r"(?=a)",
            r"(a)\1",
            "((a{1000}){1000}){1000}",
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_panics(pattern in r"[\[\]{}()\\^$.*+?a-c0-9:&~Qdws-]{0,24}") {
            let _ = compile(&pattern);
        }
    }
}
