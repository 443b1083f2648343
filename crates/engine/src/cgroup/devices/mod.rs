//! Which devices a container may make, read and write. What no rule names is refused.
//!
//! On v1 the rules are written to the controller `devices`; on v2 they become a BPF program of the container's cgroup. Either way
//! they hold for every process in it, however it got there.

mod bpf;
mod program;

pub use bpf::{attach, supported};

use crate::spec::Security;

/// One permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub kind: Kind,
    /// `None`: every number.
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: Access,
}

/// Character or block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Character,
    Block,
}

/// What a permission is for: bits as the kernel has them (`BPF_DEVCG_ACC_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// Making device files only: without a right to open them that does no harm.
    pub const MAKE: Access = Access(1);
    pub const ALL: Access = Access(7);
    /// In the order in which they are written.
    const LETTERS: [(char, u8); 3] = [('r', 2), ('w', 4), ('m', 1)];

    /// Of letters, at least one, none twice.
    pub fn of(letters: &str) -> Option<Access> {
        let mut bits = 0;
        for letter in letters.chars() {
            let (_, bit) = Access::LETTERS.iter().find(|(known, _)| *known == letter)?;
            if bits & bit != 0 {
                return None;
            }
            bits |= bit;
        }
        (bits != 0).then_some(Access(bits))
    }

    fn letters(self) -> String {
        let letters = Access::LETTERS.iter();
        letters
            .filter(|(_, bit)| self.0 & bit != 0)
            .map(|(letter, _)| letter)
            .collect()
    }
}

/// What every container may use, as runc and Docker have it: `/dev/null`, `zero`, `full`, `random`, `urandom`, `tty`, and
/// terminals of its own.
const DEFAULT: [Rule; 10] = [
    make(Kind::Character),
    make(Kind::Block),
    character(1, Some(3)),
    character(1, Some(5)),
    character(1, Some(7)),
    character(1, Some(8)),
    character(1, Some(9)),
    character(5, Some(0)),
    character(5, Some(2)),
    character(136, None),
];

const fn make(kind: Kind) -> Rule {
    Rule {
        kind,
        major: None,
        minor: None,
        access: Access::MAKE,
    }
}

const fn character(major: u32, minor: Option<u32>) -> Rule {
    Rule {
        kind: Kind::Character,
        major: Some(major),
        minor,
        access: Access::ALL,
    }
}

/// The permissions of a container that was given these beside; `None` when nothing is refused.
pub fn rules(security: &Security, given: impl Iterator<Item = Rule>) -> Option<Vec<Rule>> {
    (!security.privileged).then(|| DEFAULT.into_iter().chain(given).collect())
}

impl Rule {
    /// The line that `devices.allow` takes (the kernel's cgroup-v1/devices document).
    pub fn line(&self) -> String {
        let kind = match self.kind {
            Kind::Character => 'c',
            Kind::Block => 'b',
        };
        let number = |number: Option<u32>| {
            number.map_or_else(|| "*".to_owned(), |number| number.to_string())
        };
        let access = self.access.letters();
        format!(
            "{kind} {}:{} {access}",
            number(self.major),
            number(self.minor)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_default() {
        let lines: Vec<String> = DEFAULT.iter().map(Rule::line).collect();
        let expected = [
            "c *:* m",
            "b *:* m",
            "c 1:3 rwm",
            "c 1:5 rwm",
            "c 1:7 rwm",
            "c 1:8 rwm",
            "c 1:9 rwm",
            "c 5:0 rwm",
            "c 5:2 rwm",
            "c 136:* rwm",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn letters_are_rights() {
        for (letters, expected) in [
            ("rwm", Some("rwm")),
            ("mwr", Some("rwm")),
            ("r", Some("r")),
            ("mr", Some("rm")),
            ("", None),
            ("rr", None),
            ("rx", None),
        ] {
            let access = Access::of(letters).map(Access::letters);
            assert_eq!(access.as_deref(), expected, "{letters}");
        }
    }

    #[test]
    fn only_the_privileged_have_no_rules() {
        let privileged = Security {
            privileged: true,
            ..Security::default()
        };
        let none = std::iter::empty;
        assert_eq!(rules(&privileged, none()), None);
        assert_eq!(
            rules(&Security::default(), none()).map(|rules| rules.len()),
            Some(10)
        );
    }
}
