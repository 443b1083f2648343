//! Patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/text}`: `*` and `?`, as in shells.

/// `${v#p}`, `${v##p}`, `${v%p}`, `${v%%p}`.
pub(super) fn trim(value: &str, pattern: &str, front: bool, greedy: bool, escape: char) -> String {
    let mut cuts: Vec<usize> = value
        .char_indices()
        .map(|(i, _)| i)
        .chain([value.len()])
        .collect();
    if front == greedy {
        cuts.reverse();
    }
    let pattern = Glob::new(pattern, escape);
    for cut in cuts {
        let (head, tail) = value.split_at(cut);
        if front && pattern.matches(head) {
            return tail.to_owned();
        }
        if !front && pattern.matches(tail) {
            return head.to_owned();
        }
    }
    value.to_owned()
}

/// `${v/p/r}` and `${v//p/r}`: the longest match at the earliest place.
pub(super) fn replace(
    value: &str,
    pattern: &str,
    replacement: &str,
    all: bool,
    escape: char,
) -> String {
    // Matching is quadratic in places: names and paths are short, hostile values are not worth more.
    if value.len() > 4096 {
        return value.to_owned();
    }
    let pattern = Glob::new(pattern, escape);
    let mut out = String::new();
    let mut rest = value;
    while !rest.is_empty() {
        let ends: Vec<usize> = rest
            .char_indices()
            .map(|(i, c)| i + c.len_utf8())
            .rev()
            .collect();
        match ends.into_iter().find(|end| pattern.matches(&rest[..*end])) {
            Some(end) => {
                out.push_str(replacement);
                rest = &rest[end..];
                if !all {
                    break;
                }
            }
            None => {
                let step = rest.chars().next().map_or(0, char::len_utf8);
                out.push_str(&rest[..step]);
                rest = &rest[step..];
            }
        }
    }
    out + rest
}

/// `*` and `?` only.
struct Glob(Vec<Piece>);

#[derive(PartialEq)]
enum Piece {
    Char(char),
    One,
    Many,
}

impl Glob {
    fn new(pattern: &str, escape: char) -> Glob {
        let mut pieces = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                '*' => Piece::Many,
                '?' => Piece::One,
                c if c == escape => Piece::Char(chars.next().unwrap_or(c)),
                c => Piece::Char(c),
            });
        }
        Glob(pieces)
    }

    fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut p, mut t) = (0, 0);
        let mut back = None;
        loop {
            match self.0.get(p) {
                Some(Piece::Many) => {
                    back = Some((p, t));
                    p += 1;
                    continue;
                }
                Some(piece)
                    if t < text.len()
                        && (*piece == Piece::One || *piece == Piece::Char(text[t])) =>
                {
                    p += 1;
                    t += 1;
                    continue;
                }
                None if t == text.len() => return true,
                _ => {}
            }
            match back {
                Some((star, at)) if at < text.len() => {
                    back = Some((star, at + 1));
                    p = star + 1;
                    t = at + 1;
                }
                _ => return false,
            }
        }
    }
}
