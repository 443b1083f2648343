//! Commands and what came of them; waiting.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Generous: it bounds a failing test, it measures nothing.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a command said.
pub struct Ran {
    shown: String,
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// It must have succeeded; its standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "{self}");
        self.out
    }

    /// It must have failed and said this.
    #[track_caller]
    pub fn fails(self, part: &str) -> String {
        let said = format!("{}{}", self.out, self.err);
        assert!(self.code != 0 && self.code != 124, "it must fail: {self}");
        assert!(said.contains(part), "{part:?} is not in {self}");
        said
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ended with {}:\n{}{}",
            self.shown, self.code, self.out, self.err
        )
    }
}

/// A command with words as in a shell without quotes, ended after two minutes.
pub fn command(program: impl AsRef<Path>, words: &str) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", "120"])
        .arg(program.as_ref());
    command.args(words.split_whitespace());
    command
}

/// Runs it to its end.
#[track_caller]
pub fn run(mut command: Command) -> Ran {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("it can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        shown: format!("{:?}", command.get_args().skip(2).collect::<Vec<_>>()),
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// Tries until it works.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) if began.elapsed() > PATIENCE => {
                panic!("not after {PATIENCE:?}: {what}; at last: {last}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
