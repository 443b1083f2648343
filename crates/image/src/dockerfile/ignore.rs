//! `.dockerignore`: which paths of a context are left out.
//!
//! Behaviour: Docker's documentation of the file and the cases of moby/patternmatcher.

/// The patterns of one file, in order; a later one overrides.
#[derive(Clone, Debug, Default)]
pub struct IgnorePatterns {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    except: bool,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Name,
    /// `**/`: any directories, or none.
    Directories,
    /// `**` at the end, or at the start without a slash.
    Everything,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl IgnorePatterns {
    /// Lines of a `.dockerignore` file as patterns: comments and blank lines gone, cleaned, without a leading slash.
    pub fn lines(text: &str) -> Vec<String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (mark, rest) = match line.strip_prefix('!') {
                    Some(rest) => ("!", rest.trim()),
                    None => ("", line),
                };
                if rest.is_empty() {
                    return mark.to_owned();
                }
                let clean = clean(rest);
                let relative = if clean.len() > 1 {
                    clean.trim_start_matches('/')
                } else {
                    &clean
                };
                format!("{mark}{relative}")
            })
            .collect()
    }

    /// Reads a `.dockerignore` file.
    ///
    /// # Errors
    /// Names the first pattern that is none.
    pub fn parse(text: &str) -> Result<IgnorePatterns, String> {
        IgnorePatterns::new(&IgnorePatterns::lines(text))
    }

    /// Compiles patterns.
    ///
    /// # Errors
    /// Names the first pattern that is none.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<IgnorePatterns, String> {
        let mut compiled = Vec::new();
        for pattern in patterns {
            let text = pattern.as_ref().trim();
            if text.is_empty() {
                continue;
            }
            let bad = |reason: &str| format!("bad pattern {text:?} in .dockerignore: {reason}");
            let (except, rest) = match text.strip_prefix('!') {
                Some("") => return Err(bad("illegal exclusion pattern")),
                Some(rest) => (true, rest),
                None => (false, text),
            };
            let tokens = compile(&clean(rest)).map_err(bad)?;
            compiled.push(Pattern { except, tokens });
        }
        Ok(IgnorePatterns { patterns: compiled })
    }

    /// Whether there is nothing to leave out.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether something within an excluded directory might yet be included.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|p| p.except)
    }

    /// Whether the path (relative, `/` between names), or a directory above it, is left out.
    pub fn excludes(&self, path: &str) -> bool {
        let path = clean(path);
        let whole: Vec<char> = path.chars().collect();
        let mut excluded = false;
        for pattern in &self.patterns {
            // An exception matters only for what is excluded so far, and the other way round.
            if pattern.except == excluded && pattern.hits(&whole) {
                excluded = !pattern.except;
            }
        }
        excluded
    }
}

impl Pattern {
    /// Whether the path or a parent of it matches.
    fn hits(&self, path: &[char]) -> bool {
        let parents = path
            .iter()
            .enumerate()
            .filter(|(i, c)| **c == '/' && *i > 0)
            .map(|(i, _)| &path[..i]);
        parents.chain([path]).any(|p| matches(&self.tokens, p))
    }
}

/// Lexical cleaning as Go's filepath.Clean.
fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

fn compile(pattern: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                let slash = chars.next_if_eq(&'/').is_some();
                tokens.push(match chars.peek() {
                    None => Token::Everything,
                    Some(_) if first && !slash => Token::Everything,
                    Some(_) => Token::Directories,
                });
            }
            '*' => tokens.push(Token::Name),
            '?' => tokens.push(Token::One),
            '\\' => tokens.push(Token::Char(chars.next().ok_or("it ends with a backslash")?)),
            '[' => tokens.push(class(&mut chars)?),
            c => tokens.push(Token::Char(c)),
        }
        first = false;
    }
    Ok(tokens)
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    const OPEN: &str = "a '[' is never closed";
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let mut bound = || match chars.next().ok_or(OPEN)? {
            '\\' => chars.next().ok_or(OPEN).map(|c| (c, true)),
            c => Ok((c, false)),
        };
        let (low, escaped) = bound()?;
        match low {
            ']' if !escaped && !ranges.is_empty() => return Ok(Token::Class { negated, ranges }),
            ']' | '-' if !escaped => return Err("an empty or malformed '[]'"),
            _ => {}
        }
        let high = match chars.next_if_eq(&'-') {
            None => low,
            Some(_) => match chars.next().ok_or(OPEN)? {
                '\\' => chars.next().ok_or(OPEN)?,
                ']' | '-' => return Err("an empty or malformed '[]'"),
                c => c,
            },
        };
        if high < low {
            return Err("a range that ends before it begins");
        }
        ranges.push((low, high));
    }
}

/// Which positions are reachable after each token: linear in both, whatever the pattern.
fn matches(tokens: &[Token], text: &[char]) -> bool {
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    for token in tokens {
        let mut next = vec![false; text.len() + 1];
        let mut flowing = false;
        for (i, &here) in reach.iter().enumerate() {
            let current = text.get(i).copied();
            match token {
                Token::Everything => {
                    flowing |= here;
                    next[i] = flowing;
                }
                Token::Name => {
                    flowing |= here;
                    next[i] |= flowing;
                    flowing &= current != Some('/');
                }
                Token::Directories => {
                    next[i] |= here;
                    flowing |= here;
                    if flowing && current == Some('/') {
                        next[i + 1] = true;
                    }
                }
                Token::One if here && current.is_some_and(|c| c != '/') => next[i + 1] = true,
                Token::Char(c) if here && current == Some(*c) => next[i + 1] = true,
                Token::Class { negated, ranges } if here => {
                    let inside =
                        |c: char| ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                    if current.is_some_and(|c| inside(c) != *negated) {
                        next[i + 1] = true;
                    }
                }
                _ => {}
            }
        }
        reach = next;
    }
    reach[text.len()]
}

/// One name against one pattern of Go's filepath.Match, for the wildcards of COPY.
pub(crate) fn name_matches(pattern: &str, name: &str) -> Result<bool, &'static str> {
    // `**` has no meaning of its own there.
    let mut single = String::new();
    for c in pattern.chars() {
        if !(c == '*' && single.ends_with('*') && !single.ends_with("\\*")) {
            single.push(c);
        }
    }
    let name: Vec<char> = name.chars().collect();
    Ok(matches(&compile(&single)?, &name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::shared_data;

    #[test]
    fn moby_table() {
        let Some(table) = shared_data("dockerfile/dockerignore_match.json") else {
            return;
        };
        let table: serde_json::Value = serde_json::from_str(&table).unwrap();
        let strings = |v: &serde_json::Value| -> Vec<String> {
            v.as_array()
                .unwrap()
                .iter()
                .map(|s| s.as_str().unwrap().to_owned())
                .collect()
        };
        for case in table["parse_cases"].as_array().unwrap() {
            assert_eq!(
                IgnorePatterns::lines(case["input"].as_str().unwrap()),
                strings(&case["expected"])
            );
        }
        let mut failed = Vec::new();
        let cases = table["cases"].as_array().unwrap();
        for case in cases {
            let patterns = strings(&case["patterns"]);
            let result =
                IgnorePatterns::new(&patterns).map(|p| p.excludes(case["path"].as_str().unwrap()));
            let as_expected = match case["error"].as_bool() {
                Some(true) => result.is_err(),
                _ => result == Ok(case["expected"].as_bool().unwrap()),
            };
            if !as_expected {
                failed.push(format!("{case}: {result:?}"));
            }
        }
        assert!(cases.len() > 100);
        assert!(
            failed.is_empty(),
            "{} of {}:\n{}",
            failed.len(),
            cases.len(),
            failed.join("\n")
        );
    }

    #[test]
    fn bad_patterns_are_errors() {
        for pattern in ["!", "[", "[]", "a\\", "[b-a]", "[a-]"] {
            assert!(IgnorePatterns::new(&[pattern]).is_err(), "{pattern}");
        }
    }

    proptest::proptest! {
        #[test]
        fn matching_never_panics(pattern in r"[*?\[\]^\\/a-c!.-]{0,20}", path in "[a-c/.]{0,20}") {
            if let Ok(patterns) = IgnorePatterns::new(&[&pattern]) {
                let _ = patterns.excludes(&path);
            }
            let _ = name_matches(&pattern, &path);
        }
    }
}
