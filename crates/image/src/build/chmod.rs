//! `--chmod` of COPY and ADD: a number, or changes in letters.
//!
//! Behaviour: POSIX chmod(1) with a umask of 0, as BuildKit since Dockerfile 1.14.

/// What modes become.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Chmod {
    /// This, whatever they were.
    Octal(u32),
    /// Changed one after the other.
    Symbolic(Vec<Change>),
}

/// `u+x`: one operation on one set of classes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    /// Bits that may change.
    who: u32,
    operation: char,
    /// Bits that are named by letters of permissions.
    bits: u32,
    /// `X`: execution where there is some already, and for directories.
    some_execution: bool,
    /// Shifts of the classes whose permissions are taken over.
    classes: Vec<u32>,
}

const SET_IDS: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const EXECUTION: u32 = 0o111;

impl Chmod {
    /// Reads the flag's value.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Chmod, String> {
        let bad = || {
            format!(
                "invalid chmod parameter: {text:?}: an octal number up to 7777 or changes such as u=rwX,go=rX are needed"
            )
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o7777);
            return mode.map(Chmod::Octal).ok_or_else(bad);
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            clause_of(clause, &mut changes).ok_or_else(bad)?;
        }
        Ok(Chmod::Symbolic(changes))
    }

    /// The mode of a file that had another.
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Chmod::Octal(mode) => *mode,
            Chmod::Symbolic(changes) => {
                let executable = directory || mode & EXECUTION != 0;
                changes
                    .iter()
                    .fold(mode & 0o7777, |mode, change| change.apply(mode, executable))
            }
        }
    }
}

impl Change {
    fn apply(&self, mode: u32, executable: bool) -> u32 {
        let mut bits = self.bits;
        if self.some_execution && (executable || self.operation == '-') {
            bits |= EXECUTION;
        }
        for shift in &self.classes {
            bits |= (mode >> shift & 0o7) * EXECUTION;
        }
        bits &= self.who;
        match self.operation {
            '+' => mode | bits,
            '-' => mode & !bits,
            // The sticky bit goes by its own letter alone.
            _ => mode & !(self.who & !STICKY | bits) | bits,
        }
    }
}

/// `[ugoa]*` and then `[-+=][rwxXst]*` or `[-+=][ugo]*`, at least once.
fn clause_of(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let operations = clause.find(['+', '-', '='])?;
    let (classes, mut rest) = clause.split_at(operations);
    let mut who = 0;
    for class in classes.chars() {
        who |= match class {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o0007,
            'a' => SET_IDS | 0o777,
            _ => return None,
        };
    }
    if who == 0 {
        who = SET_IDS | 0o777;
    }
    // Set-id and sticky mean nothing to others alone.
    if who != 0o007 {
        who |= STICKY;
    }
    while let Some(operation) = rest.chars().next() {
        rest = &rest[1..];
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        let mut change = Change {
            who,
            operation,
            bits: 0,
            some_execution: false,
            classes: Vec::new(),
        };
        for letter in rest[..end].chars() {
            match letter {
                'r' => change.bits |= 0o444,
                'w' => change.bits |= 0o222,
                'x' => change.bits |= EXECUTION,
                's' => change.bits |= SET_IDS,
                't' => change.bits |= STICKY,
                'X' => change.some_execution = true,
                'u' => change.classes.push(6),
                'g' => change.classes.push(3),
                'o' => change.classes.push(0),
                _ => return None,
            }
        }
        changes.push(change);
        rest = &rest[end..];
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_become_what_chmod_makes_of_them() {
        for (text, file, expected) in [
            ("755", 0o644, 0o755),
            ("0", 0o644, 0),
            ("+x", 0o644, 0o755),
            ("a+x", 0o640, 0o751),
            ("u+x", 0o644, 0o744),
            ("go-rwx", 0o755, 0o700),
            ("u=rwX,go=rX", 0o600, 0o644),
            ("u=rwX,go=rX", 0o700, 0o755),
            ("g=u", 0o640, 0o660),
            ("go=u-w", 0o700, 0o755),
            ("o=", 0o777, 0o770),
            ("=r", 0o777, 0o444),
            ("=r", 0o1777, 0o1444),
            ("u+s,g+s", 0o755, 0o6755),
            ("o+s", 0o755, 0o755),
            ("+t", 0o755, 0o1755),
            ("u=rw,u+x", 0o000, 0o700),
            ("-x", 0o755, 0o644),
            ("-X", 0o755, 0o644),
        ] {
            let chmod = Chmod::parse(text).unwrap();
            let made = chmod.apply(file, false);
            assert_eq!(made, expected, "{text} of {file:o}: {made:o}");
        }
        let rest = Chmod::parse("go=rX").unwrap();
        assert_eq!(rest.apply(0o700, true), 0o755, "a directory");
        assert_eq!(rest.apply(0o600, true), 0o655, "a directory");
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in [
            "", "9", "10000", "7a", "abc", "u", "u+q", "x+r", "u=r,", ",u=r", "ü+x", "+ü",
        ] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
