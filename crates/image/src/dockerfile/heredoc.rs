//! What the syntax parser would read its own way is taken out before: heredocs of RUN, wherever they stand in it, an empty
//! ENTRYPOINT, and two escapes at the end of a line, which do not continue it.
//!
//! Behaviour: BuildKit's Dockerfile reference ("Here-Documents"). A mark is a word of its own that begins with `<<`, perhaps
//! after the number of a descriptor; the bodies follow the instruction in the order of the marks.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::lines::{continued_by, position};
use super::step::Script;
use crate::build::BuildError;

/// The text for the syntax parser, and what was taken out of it.
pub(super) struct Heredocs<'a> {
    /// As long as the original, byte for byte: positions stay true.
    pub masked: Cow<'a, str>,
    /// Bodies by the offset of their RUN instruction.
    pub scripts: BTreeMap<usize, Vec<Script>>,
}

/// A mark in an instruction.
struct Mark {
    /// Offset of its first `<`.
    at: usize,
    name: String,
    expand: bool,
    strip_tabs: bool,
}

/// Takes out what the syntax parser should not see.
///
/// # Errors
/// [`BuildError::Syntax`] at a mark whose body does not end, or that stands where its body would be lost (ONBUILD).
pub(super) fn take(text: &str) -> Result<Heredocs<'_>, BuildError> {
    let escape = escape(text);
    let escaped: String = [escape, escape].into_iter().collect();
    let maybe_empty = text.contains('[') && text.to_ascii_uppercase().contains("ENTRYPOINT");
    if !text.contains("<<") && !text.contains(&escaped) && !maybe_empty {
        return Ok(Heredocs {
            masked: Cow::Borrowed(text),
            scripts: BTreeMap::new(),
        });
    }
    let mut masked = text.as_bytes().to_vec();
    let mut scripts = BTreeMap::new();
    let mut at = 0;
    while at < text.len() {
        let line = line_at(text, at);
        let bare = line.trim_start();
        let start = at + line.len() - bare.len();
        if bare.trim_end().is_empty() || bare.starts_with('#') {
            at = next(text, at);
            continue;
        }
        let end = end_of_instruction(text, at, escape);
        let keyword = bare
            .split_whitespace()
            .next()
            .unwrap_or("")
            .to_ascii_uppercase();
        let marks = match keyword.as_str() {
            "RUN" | "COPY" | "ADD" | "ONBUILD" => marks(&text[start..end], start, escape),
            _ => Vec::new(),
        };
        at = end;
        if let Some(mark) = marks.first().filter(|_| keyword == "ONBUILD") {
            return Err(error(
                text,
                mark.at,
                "a heredoc in ONBUILD is not supported: use a RUN with a script that is copied"
                    .into(),
            ));
        }
        if let Some(brackets) = empty_entrypoint(&text[start..end], escape) {
            for bracket in brackets {
                masked[start + bracket] = b'%';
            }
        }
        if matches!(keyword.as_str(), "RUN" | "CMD" | "ENTRYPOINT") {
            let last = text[start..end].trim_end();
            let escapes = last.chars().rev().take_while(|c| *c == escape).count();
            if escapes > 1 {
                let from = start + last.len() - escapes * escape.len_utf8();
                masked[from..start + last.len()].fill(b'%');
            }
        }
        let mut found = Vec::new();
        for mark in marks {
            let (content, body_end) = body(text, at, &mark).ok_or_else(|| {
                error(
                    text,
                    mark.at,
                    format!("unterminated heredoc: no line {:?} ends it", mark.name),
                )
            })?;
            if keyword == "RUN" {
                // The syntax parser would read the mark and the body its own way.
                masked[mark.at..mark.at + 2].fill(b'%');
                for byte in &mut masked[at..body_end] {
                    if *byte != b'\n' && *byte != b'\r' {
                        *byte = b'#';
                    }
                }
                found.push(Script {
                    name: mark.name,
                    content,
                    expand: mark.expand,
                });
            }
            at = body_end;
        }
        if !found.is_empty() {
            scripts.insert(start, found);
        }
    }
    // Only whole lines and ASCII marks were replaced.
    let masked = String::from_utf8(masked)
        .map_err(|_| error(text, 0, "the Dockerfile's heredocs cannot be read".into()))?;
    Ok(Heredocs {
        masked: Cow::Owned(masked),
        scripts,
    })
}

/// The escape character: a directive before everything else may change it.
fn escape(text: &str) -> char {
    for line in text.trim_start_matches('\u{feff}').lines() {
        let Some(directive) = line.trim_start().strip_prefix('#') else {
            break;
        };
        let Some((name, value)) = directive.split_once('=') else {
            break;
        };
        if name.trim().eq_ignore_ascii_case("escape") {
            return value.trim().chars().next().unwrap_or('\\');
        }
    }
    '\\'
}

/// The line that begins at an offset, without its end.
fn line_at(text: &str, at: usize) -> &str {
    text[at..].lines().next().unwrap_or("")
}

/// Offset of the next line.
fn next(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |n| at + n + 1)
}

/// Offset of the line after an instruction, its continuation lines and the comments among them.
fn end_of_instruction(text: &str, mut at: usize, escape: char) -> usize {
    let mut continued = false;
    while at < text.len() {
        let line = line_at(text, at).trim();
        at = next(text, at);
        if continued && (line.starts_with('#') || line.is_empty()) {
            continue;
        }
        continued = continued_by(line, escape).is_some();
        if !continued {
            break;
        }
    }
    at
}

/// Where the brackets of an ENTRYPOINT without words are, also of one in ONBUILD.
fn empty_entrypoint(instruction: &str, escape: char) -> Option<[usize; 2]> {
    let mut rest = instruction;
    for keyword in ["ONBUILD", "ENTRYPOINT"] {
        let head = rest.get(..keyword.len());
        if head.is_some_and(|head| head.eq_ignore_ascii_case(keyword)) {
            rest = rest[keyword.len()..]
                .trim_start_matches(|c: char| c.is_whitespace() || c == escape);
        } else if keyword == "ENTRYPOINT" {
            return None;
        }
    }
    let inner = rest.trim_end().strip_prefix('[')?.strip_suffix(']')?;
    let open = instruction.len() - rest.len();
    inner
        .trim()
        .is_empty()
        .then_some([open, open + 1 + inner.len()])
}

/// Marks among the words of an instruction that begins at `start`; quoted text and comments have none.
fn marks(instruction: &str, start: usize, escape: char) -> Vec<Mark> {
    let mut marks = Vec::new();
    let mut offset = 0;
    let mut first = true;
    for line in instruction.split_inclusive('\n') {
        let comment = !first && line.trim_start().starts_with('#');
        first = false;
        if !comment {
            let mut quote = None;
            let mut word = None;
            let mut chars = line.char_indices();
            while let Some((i, c)) = chars.next() {
                if c == escape && quote != Some('\'') {
                    word.get_or_insert(i);
                    chars.next();
                    continue;
                }
                match quote {
                    None if c.is_whitespace() => {
                        let begun = word.take();
                        marks.extend(begun.and_then(|w| mark(&line[w..i], start + offset + w)));
                        continue;
                    }
                    None if c == '\'' || c == '"' => quote = Some(c),
                    Some(q) if q == c => quote = None,
                    _ => {}
                }
                word.get_or_insert(i);
            }
            marks.extend(word.and_then(|w| mark(&line[w..], start + offset + w)));
        }
        offset += line.len();
    }
    marks
}

/// A word as a mark: `[number]<<[-]name`, the name perhaps quoted.
fn mark(word: &str, at: usize) -> Option<Mark> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let rest = word[digits..].strip_prefix("<<")?;
    let strip_tabs = rest.starts_with('-');
    let quoted = rest.strip_prefix('-').unwrap_or(rest);
    let name: String = quoted
        .chars()
        .filter(|c| !matches!(c, '\'' | '"' | '\\'))
        .collect();
    if name.is_empty() || name.contains('<') {
        return None;
    }
    Some(Mark {
        at: at + digits,
        expand: name == quoted,
        name,
        strip_tabs,
    })
}

/// Content up to the line that is the mark's name, and the offset after that line.
fn body(text: &str, mut at: usize, mark: &Mark) -> Option<(String, usize)> {
    let mut content = String::new();
    while at < text.len() {
        let end = next(text, at);
        let mut line = &text[at..end];
        if mark.strip_tabs {
            line = line.trim_start_matches('\t');
        }
        at = end;
        if line.trim_end_matches(['\n', '\r']) == mark.name {
            return Some((content, at));
        }
        content.push_str(line);
    }
    None
}

fn error(text: &str, at: usize, reason: String) -> BuildError {
    let (line, column) = position(text, at);
    BuildError::Syntax {
        line,
        column,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_found_wherever_the_mark_stands() {
        for (text, expected) in [
            ("RUN <<E\na\nE\n", &[("E", "a\n")][..]),
            ("RUN cat <<E > /x\na\nE\n", &[("E", "a\n")]),
            (
                "run --network=default \\\n # no <<X\n <<'E' cat\n$a\n\nE",
                &[("E", "$a\n\n")],
            ),
            (
                "RUN 3<<A cat <<-\"B\" /dev/fd/3\nRUN x\nA\n\tb\n\tB\n",
                &[("A", "RUN x\n"), ("B", "b\n")],
            ),
            ("RUN echo \"a <<E b\" '<<F' $((1<<2)) \\<<G <<< H\n", &[]),
            ("RUN [\"x\", \"<<E\"]\n", &[]),
            ("COPY <<E /x\nRUN <<F\nE\n", &[]),
            ("# <<E\nENV a=<<E\n", &[]),
            ("# escape=`\nRUN a `\n <<E\nx `\nE\n", &[("E", "x `\n")]),
            ("RUN <<E\r\na\r\nE\r\n", &[("E", "a\r\n")]),
        ] {
            let taken = take(text).unwrap();
            let found: Vec<(&str, &str)> = taken
                .scripts
                .values()
                .flatten()
                .map(|s| (s.name.as_str(), s.content.as_str()))
                .collect();
            assert_eq!(found, expected, "{text:?}");
            assert_eq!(taken.masked.len(), text.len());
            assert_eq!(
                taken.masked.matches('\n').count(),
                text.matches('\n').count()
            );
        }
    }

    #[test]
    fn an_entrypoint_without_words_is_masked() {
        for (text, expected) in [
            ("ENTRYPOINT []\nCMD []\n", "ENTRYPOINT %%\nCMD []\n"),
            ("entrypoint [ \t] ", "entrypoint % \t% "),
            ("ONBUILD ENTRYPOINT []\n", "ONBUILD ENTRYPOINT %%\n"),
            ("ENTRYPOINT \\\n  []\n", "ENTRYPOINT \\\n  %%\n"),
            (
                "ENTRYPOINT [\"a\"]\nENV ENTRYPOINT []\n",
                "ENTRYPOINT [\"a\"]\nENV ENTRYPOINT []\n",
            ),
            (
                "COPY <<E /x\nENTRYPOINT []\nE\n",
                "COPY <<E /x\nENTRYPOINT []\nE\n",
            ),
        ] {
            assert_eq!(take(text).unwrap().masked, expected, "{text:?}");
        }
    }

    #[test]
    fn two_escapes_do_not_continue_a_line() {
        for (text, expected) in [
            ("RUN a \\\\\nRUN b\n", "RUN a %%\nRUN b\n"),
            ("RUN a \\\\ \nCMD b\\\\", "RUN a %% \nCMD b%%"),
            ("RUN a \\\n b\nENV c=\\\\\n", "RUN a \\\n b\nENV c=\\\\\n"),
        ] {
            assert_eq!(take(text).unwrap().masked, expected, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_at_its_mark() {
        for (text, line, column) in [
            ("FROM a\nRUN cat <<E\nx\n", 2, 9),
            ("FROM a\nRUN <<A <<B\nx\nA\ny\n", 2, 9),
            ("FROM a\nCOPY <<E /x\ny\n", 2, 6),
            ("FROM a\nONBUILD RUN \\\n  <<E\nx\nE\n", 3, 3),
        ] {
            match take(text).map(|t| t.scripts) {
                Err(BuildError::Syntax {
                    line: l, column: c, ..
                }) => {
                    assert_eq!((l, c), (line, column), "{text:?}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_keeps_its_length(text in "([A-Z]{2,3} ?|<<|E|-|'|\"|\\\\|#|é|\t|\r|\n| ){0,40}") {
            if let Ok(taken) = take(&format!("RUN <<E\n{text}\nE\n{text}")) {
                proptest::prop_assert_eq!(taken.masked.len(), 11 + 2 * text.len());
            }
        }
    }
}
