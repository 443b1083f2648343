//! One command: run to its end or in the background, with everything it said shown when it did not do what was expected.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::Terminal;
use super::disk::ANY_DISK;
use super::poll::{deadline, patience};

/// No command of a test takes longer, unless it says so: one that does hangs.
const LIMIT_SECONDS: u32 = 100;

/// A command that has not run yet.
pub struct Run {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, OsString)>,
    limit_seconds: u32,
    shown: String,
    stdin: Vec<u8>,
    directory: Option<PathBuf>,
}

/// What a command said and how it ended.
pub struct Ran {
    shown: String,
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// Splits at spaces; `'...'` keeps them.
pub fn words(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let (mut quoted, mut begun) = (false, false);
    for c in text.chars() {
        match c {
            '\'' => (quoted, begun) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if begun {
                    found.push(String::new());
                }
                begun = false;
            }
            c => {
                begun = true;
                found.last_mut().expect("never empty").push(c);
            }
        }
    }
    if !begun {
        found.pop();
    }
    found
}

impl Run {
    /// A program with its arguments as one would type them (see [`words`]).
    pub fn new(program: impl AsRef<Path>, arguments: &str) -> Self {
        let program = program.as_ref();
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut environment: Vec<(String, OsString)> = ANY_DISK
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.into()))
            .collect();
        environment.push(("PATH".into(), format!("{path}:/usr/sbin:/sbin").into()));
        Self {
            program: program.to_owned(),
            arguments: words(arguments),
            environment,
            limit_seconds: LIMIT_SECONDS,
            shown: format!("{name} {arguments}"),
            stdin: Vec::new(),
            directory: None,
        }
    }

    /// One more argument, as it is.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Where it runs.
    pub fn within(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// For the few commands that take longer than all others.
    pub fn limit_seconds(mut self, seconds: u32) -> Self {
        self.limit_seconds = seconds;
        self
    }

    /// Errors come where output does.
    pub fn errors_to_output(mut self) -> Self {
        let program = self.program.to_string_lossy().into_owned();
        let shell = ["-c", "exec \"$@\" 2>&1", "sh", &program].map(str::to_owned);
        self.arguments.splice(0..0, shell);
        self.program = "sh".into();
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command
            .args([
                "--kill-after=5",
                &(self.limit_seconds * patience()).to_string(),
            ])
            .arg(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// What the command reads; nothing unless given.
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = text.into();
        self
    }

    /// Runs to the end, whatever that is.
    #[track_caller]
    pub fn ran(self) -> Ran {
        let mut child = self
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.shown));
        let (mut pipe, input) = (child.stdin.take().expect("a pipe"), self.stdin);
        // a program may end without reading everything
        let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let output = child.wait_with_output().expect("output");
        writer.join().expect("the writer does not panic");
        let ran = Ran {
            shown: self.shown,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        };
        assert!(ran.code != 124 && ran.code != -1, "it hangs: {ran}");
        ran
    }

    /// Runs; it must succeed. Returns standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        let ran = self.ran();
        assert!(ran.code == 0, "expected success from {ran}");
        ran.stdout
    }

    /// Runs; it must fail with this code. Returns standard output and error together.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        let ran = self.ran();
        assert!(ran.code == code, "expected exit code {code} from {ran}");
        ran.both()
    }

    /// Starts it at a terminal of its own, in a window of this size.
    #[track_caller]
    pub fn at_terminal(self, rows: u16, columns: u16) -> Terminal {
        let mut command = Command::new("setsid");
        let limit = (self.limit_seconds * patience()).to_string();
        command
            .args(["--ctty", "--wait", "timeout", "--foreground", &limit])
            .arg(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        Terminal::start(command, &self.shown, rows, columns)
    }

    /// Starts it; it ends with what is returned, at the latest.
    #[track_caller]
    pub fn background(self) -> Background {
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.shown));
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Background {
            child,
            lines,
            shown: self.shown,
        }
    }
}

impl Ran {
    pub fn both(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (exit code {})", self.shown, self.code)?;
        write!(
            f,
            "\n--- stdout\n{}\n--- stderr\n{}\n---",
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

/// A command that runs beside the test.
pub struct Background {
    child: Child,
    lines: Receiver<String>,
    shown: String,
}

impl Background {
    /// Waits for a line of its output that holds `part`; returns the line.
    #[track_caller]
    pub fn line_with(&self, part: &str) -> String {
        let until = Instant::now() + deadline();
        let mut before = Vec::new();
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => before.push(line),
                Err(error) => panic!(
                    "`{}` never said {part:?} ({error}); it said:\n{}",
                    self.shown,
                    before.join("\n")
                ),
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // `timeout` hands a SIGTERM on to what it runs
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}
