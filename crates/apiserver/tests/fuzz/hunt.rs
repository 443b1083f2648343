//! One target's hunt: damage, run, keep what was answered in a new way.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::targets::Heard;

/// Longest input, in bytes, that is kept to be damaged further.
const KEPT_BYTES_MAX: usize = 16 << 10;
/// Most inputs that are kept; later ones take the places of others.
const KEPT_MAX: usize = 2000;

/// Damages `documents` and what came of them, and puts it to `target`: `count` times, or for `PLIMSOLL_FUZZ_SECONDS`.
///
/// # Panics
///
/// Where the target does; the input is then in a file that the message names. Also when nearly nothing, or everything,
/// is accepted: nothing would be tested.
pub fn hunt(name: &str, count: usize, documents: &[Vec<u8>], target: fn(&[u8]) -> Heard) {
    let seconds = std::env::var("PLIMSOLL_FUZZ_SECONDS").ok();
    let end = seconds
        .and_then(|seconds| seconds.parse().ok())
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let more = |runs: usize| end.map_or(runs < count, |end| Instant::now() < end);
    let (mut runs, mut accepted) = (0, 0);
    let mut prey = Prey::new(name, documents);
    while more(runs) {
        let input = prey.next(runs);
        let heard = catch_unwind(AssertUnwindSafe(|| target(&input)));
        let heard = heard.unwrap_or_else(|panic| {
            let file = keep(name, &input);
            eprintln!("{name}, run {runs}: the input that did it is in {file}");
            resume_unwind(panic)
        });
        runs += 1;
        accepted += usize::from(matches!(heard, Heard::Accepted(_)));
        prey.learn(input, &heard);
    }
    println!(
        "{name}: {runs} runs, {accepted} accepted, {} kinds of answers",
        prey.seen.len()
    );
    assert!(
        accepted > runs / 200,
        "{accepted} of {runs} came through: nothing is tested"
    );
    assert!(accepted < runs, "all came through: nothing is damaged");
}

/// What is damaged: the documents, and inputs that were answered in a new way.
struct Prey<'a> {
    dice: Dice,
    documents: &'a [Vec<u8>],
    kept: Vec<Vec<u8>>,
    seen: HashSet<String>,
}

impl<'a> Prey<'a> {
    fn new(name: &str, documents: &'a [Vec<u8>]) -> Self {
        Prey {
            dice: Dice::new(name),
            documents,
            kept: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Every second input comes from a document as it was.
    fn next(&mut self, run: usize) -> Vec<u8> {
        let base = if run.is_multiple_of(2) || self.kept.is_empty() {
            &self.documents[run / 2 % self.documents.len()]
        } else {
            &self.kept[self.dice.below(self.kept.len())]
        };
        let other = &self.documents[self.dice.below(self.documents.len())];
        self.dice.damage(base, other)
    }

    fn learn(&mut self, input: Vec<u8>, heard: &Heard) {
        let (Heard::Accepted(shape) | Heard::Refused(shape)) = heard;
        if input.len() > KEPT_BYTES_MAX || !self.seen.insert(outline(shape)) {
            return;
        }
        if self.kept.len() < KEPT_MAX {
            self.kept.push(input);
        } else {
            let place = self.dice.below(KEPT_MAX);
            self.kept[place] = input;
        }
    }
}

/// A message without what it says of one input: numbers, and what is in quotes.
fn outline(message: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    for letter in message.chars() {
        match quote {
            Some(end) if letter == end => quote = None,
            Some(_) => {}
            None if matches!(letter, '"' | '\'' | '`') => quote = Some(letter),
            None if letter.is_ascii_digit() => {}
            None => out.push(letter),
        }
        if out.len() > 200 {
            break;
        }
    }
    out
}

/// Writes the input to a file; what to call it.
fn keep(name: &str, input: &[u8]) -> String {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
    match std::fs::write(&file, input) {
        Ok(()) => file.display().to_string(),
        Err(error) => format!("no file ({error}): {}", input.escape_ascii()),
    }
}

/// Fails for `[[{`, which the documents have nothing of: there are three steps to it, each answered differently.
fn trap(input: &[u8]) -> Heard {
    let has = |wanted: &[u8]| input.windows(wanted.len()).any(|found| found == wanted);
    assert!(!has(b"[[{"), "the trap");
    match (has(b"[["), has(b"[")) {
        (true, _) => Heard::Accepted("two".into()),
        (_, true) => Heard::Refused("one".into()),
        _ => Heard::Refused("none".into()),
    }
}

#[test]
fn a_planted_fault_is_found_and_its_input_kept() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz-trap");
    let _ = std::fs::remove_file(&file);
    let documents = [b"abcdefghijklmnopqrstuvwxyz".to_vec()];
    let found = catch_unwind(|| hunt("trap", 200_000, &documents, trap));
    assert!(found.is_err(), "the trap was not found");
    let input = std::fs::read(file).expect("the input that did it");
    assert!(catch_unwind(|| trap(&input)).is_err());
}

#[test]
fn what_a_message_says_of_one_input_does_not_make_it_new() {
    assert_eq!(
        outline("line 3: unknown field \"a7\""),
        outline("line 41: unknown field \"b\"")
    );
    assert_ne!(outline("line 3: unknown"), outline("line 3: duplicate"));
}
