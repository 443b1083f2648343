//! Raw text of an instruction as one line, as the classic builder shows and runs it.

/// Joins a logical line that starts at `text`: continuation marks, comments and blank lines within it go.
pub(crate) fn logical_line(text: &str, escape: char) -> String {
    let mut out = String::new();
    let mut continued = false;
    for line in text.lines() {
        let bare = line.trim_start();
        if continued && (bare.starts_with('#') || bare.is_empty()) {
            continue;
        }
        match continued_by(line, escape) {
            Some(head) => {
                out.push_str(head);
                continued = true;
            }
            None => {
                out.push_str(line);
                return out.trim_end().to_owned();
            }
        }
    }
    out.trim_end().to_owned()
}

/// What stands before the mark at the end of a line that goes on in the next. A mark that is itself escaped is none.
pub(crate) fn continued_by(line: &str, escape: char) -> Option<&str> {
    let head = line.trim_end().strip_suffix(escape)?;
    (!head.ends_with(escape)).then_some(head)
}

/// Line and column from 1 of a byte offset.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations_are_joined() {
        for (text, expected) in [
            ("a b\nc", "a b"),
            ("a \\\n  b \\\n# no\n\n  c\nd", "a   b   c"),
            ("a \\  \nb", "a b"),
            ("a\\\n", "a"),
            ("a \\\\\nb", "a \\\\"),
            ("a \\\\ \\\nb", "a \\\\ b"),
            ("", ""),
        ] {
            assert_eq!(logical_line(text, '\\'), expected, "{text:?}");
        }
        assert_eq!(position("ab\ncd", 4), (2, 2));
    }
}
