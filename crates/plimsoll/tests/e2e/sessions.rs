//! Sessions at a shell, one file a verb, beside what people expect to see: `tests/sessions/*.txt`.
//!
//! A file is what a terminal would show. Lines that begin with `$ ` are commands, run by `sh` with kubectl, helm and the
//! others on its path and a namespace of the file's own; lines that begin with `> ` continue a command; what follows is its
//! output, errors among it, and `[1]` at the end its exit code, unless that is 0. `[..]` in a line stands for any text,
//! a line `...` for any lines; runs of blanks count as one. A command that begins with `~$ ` is repeated until it says what is
//! expected. Lines that begin with `# ` are for readers.
//!
//! Each file but those of [`ONLY_NEW`] is played twice: by the kubectl and helm of today, and by an older pair
//! (`sessions_1_33::NAME`), in a namespace of its own: where the file says `session-NAME`, `session-1-33-NAME` is meant then.
//! A line that begins with `1.37| ` or `1.33| ` is only there for clients of that version, whatever stands behind the mark: a
//! command, a line of output, an exit code.
//!
//! With `PLIMSOLL_RECORD=1` the files are written anew where they differ, as the clients of today have it, but for files with
//! lines of one version; what changes from run to run is then made `[..]` by hand.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use libtest_mimic::Trial;

use crate::support::{
    NO_SIGNER, Root, Run, Space, context, deadline, repository, skipped_apart, stand_in_image,
};

const RECORD_VARIABLE: &str = "PLIMSOLL_RECORD";

/// A kubectl and a helm of one time.
#[derive(Clone, Copy, PartialEq)]
enum Clients {
    /// kubectl 1.37, helm 4.3
    New,
    /// kubectl 1.33, helm 4.1
    Older,
}

/// Files that neither kubectl nor helm of the pair act in, or only on files.
const ONLY_NEW: [&str; 1] = ["python"];

impl Clients {
    /// What lines that are for them alone begin with.
    fn mark(self) -> &'static str {
        match self {
            Self::New => "1.37| ",
            Self::Older => "1.33| ",
        }
    }

    /// Where they lie, the first first.
    fn path(self) -> String {
        let clients = repository("target/clients");
        let clients = clients.display();
        match self {
            Self::New => format!("{clients}"),
            Self::Older => format!("{clients}/1.33:{clients}"),
        }
    }

    /// The namespace of a session, and what it calls its own beyond it.
    fn space(self, name: &str) -> String {
        match self {
            Self::New => format!("session-{name}"),
            Self::Older => format!("session-1-33-{name}"),
        }
    }

    fn test(self, name: &str) -> String {
        match self {
            Self::New => format!("sessions::{name}"),
            Self::Older => format!("sessions_1_33::{name}"),
        }
    }
}

/// One test a file and pair of clients.
pub fn trials() -> Vec<Trial> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder())
        .expect("tests/sessions")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no session is there");
    let mut trials = Vec::new();
    for clients in [Clients::New, Clients::Older] {
        for file in files.clone() {
            let name = name_of(&file);
            if clients == Clients::Older && ONLY_NEW.contains(&&*name) {
                continue;
            }
            trials.push(Trial::test(clients.test(&name), move || {
                play(&file, clients);
                Ok(())
            }));
        }
    }
    trials
}

fn name_of(file: &Path) -> String {
    let name = file.file_stem().expect("a name");
    name.to_string_lossy().into_owned()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sessions")
}

/// A command and what it should say.
struct Step {
    /// What stands before it in the file: comments, empty lines.
    before: String,
    command: String,
    patient: bool,
    expected: Vec<String>,
    code: i32,
    line: usize,
}

fn play(file: &Path, clients: Clients) {
    let name = name_of(file);
    if name == "certificate" && skipped_apart(NO_SIGNER) {
        return;
    }
    let text = fs::read_to_string(file).expect("readable");
    let own = clients.space(&name);
    let text = text.replace(&Clients::New.space(&name), &own);
    let (steps, after) = read(lines_for(clients, &text));
    assert!(!steps.is_empty(), "{name} has no command");
    let space = Space::new(&own);
    if text.contains("FROM stand-in:e2e") {
        stand_in_image(&space.instance);
    }
    let directory = Root::home().join(&own);
    fs::create_dir_all(&directory).expect("a directory");
    let cache = Root::home().join(clients.space(&space.instance.name));
    let path = std::env::var("PATH").unwrap_or_default();
    let socket = space.instance.run_dir().join("docker.sock");
    let run = |step: &Step| {
        Run::new("sh", "")
            .argument("-c")
            .argument(&format!("exec 2>&1\n{}", step.command))
            .within(&directory)
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", clients.path()))
            .env("KUBECONFIG", context(&space.instance, &space.name))
            .env("KUBECACHEDIR", &cache)
            .env("HOME", Root::home())
            .env("NAMESPACE", &space.name)
            .env("SHARED", repository("../shared/data"))
            .env("CLIENTS", repository("crates/plimsoll/tests/clients"))
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .env("DOCKER_BUILDKIT", "0")
            .env("TERM", "dumb")
            .env("LC_ALL", "C.UTF-8")
            .env("TMPDIR", &directory)
            .ran()
    };
    let record = std::env::var_os(RECORD_VARIABLE).is_some()
        && clients == Clients::New
        && text.lines().count() == lines_for(clients, &text).count();
    let mut written = String::new();
    for step in &steps {
        let until = Instant::now() + deadline();
        let (lines, code) = loop {
            let ran = run(step);
            let lines = ran.stdout.trim_end().lines();
            let lines = lines.filter(|line| !is_of_the_clients_own(line));
            let lines = lines.map(str::to_owned);
            let lines: Vec<String> = lines.collect();
            let fits = ran.code == step.code && same(&step.expected, &lines);
            if fits {
                break (step.expected.clone(), step.code);
            }
            if !step.patient || Instant::now() > until {
                assert!(
                    record,
                    "{}:{}: $ {}\nexpected (exit code {}):\n{}\nsaid (exit code {}):\n{}",
                    file.display(),
                    step.line,
                    step.command,
                    step.code,
                    step.expected.join("\n"),
                    ran.code,
                    ran.stdout
                );
                break (lines, ran.code);
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        };
        if record {
            written += &show(step, &lines, code);
        }
    }
    if record {
        fs::write(file, written + &after).expect("written");
    }
}

fn show(step: &Step, lines: &[String], code: i32) -> String {
    let sign = if step.patient { "~$" } else { "$" };
    let mut text = step.before.clone();
    let command = step.command.replace('\n', "\n> ");
    writeln!(text, "{sign} {command}").expect("text");
    for line in lines {
        writeln!(text, "{}", line.trim_end()).expect("text");
    }
    if code != 0 {
        writeln!(text, "[{code}]").expect("text");
    }
    text
}

/// The lines of a file that are there for these clients, without marks, each with its number.
fn lines_for(clients: Clients, text: &str) -> impl Iterator<Item = (usize, &str)> {
    let other = match clients {
        Clients::New => Clients::Older,
        Clients::Older => Clients::New,
    };
    text.lines()
        .enumerate()
        .filter(move |(_, line)| !line.starts_with(other.mark()))
        .map(move |(at, line)| (at + 1, line.strip_prefix(clients.mark()).unwrap_or(line)))
}

/// The steps of a file, and what stands behind the last one.
fn read<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> (Vec<Step>, String) {
    let mut steps: Vec<Step> = Vec::new();
    let mut before = String::new();
    for (number, line) in lines {
        let command = line.strip_prefix("$ ").or(line.strip_prefix("~$ "));
        let code = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']')?.parse().ok());
        match steps.last_mut() {
            _ if command.is_some() => steps.push(Step {
                before: std::mem::take(&mut before),
                command: command.unwrap_or_default().to_owned(),
                patient: line.starts_with('~'),
                expected: Vec::new(),
                code: 0,
                line: number,
            }),
            Some(step) if line.starts_with("> ") && step.expected.is_empty() => {
                write!(step.command, "\n{}", &line[2..]).expect("text");
            }
            Some(step) if code.is_some() => step.code = code.unwrap_or_default(),
            Some(step) if before.is_empty() && !line.starts_with("# ") => {
                step.expected.push(line.to_owned());
            }
            _ => writeln!(before, "{line}").expect("text"),
        }
    }
    // empty lines at the end of an output are for readers
    for at in 0..steps.len() {
        while steps[at].expected.last().is_some_and(String::is_empty) {
            steps[at].expected.pop();
            match steps.get_mut(at + 1) {
                Some(next) => next.before.insert(0, '\n'),
                None => before.insert(0, '\n'),
            }
        }
    }
    (steps, before)
}

/// Whether the lines are what is expected of them.
fn same(expected: &[String], lines: &[String]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=lines.len()).any(|skipped| same(rest, &lines[skipped..]))
        }
        Some((first, rest)) => {
            lines.first().is_some_and(|line| fits(first, line)) && same(rest, &lines[1..])
        }
    }
}

fn fits(pattern: &str, line: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (pattern, line) = (plain(pattern), plain(line));
    let Some((head, rest)) = pattern.split_once("[..]") else {
        return pattern == line;
    };
    let Some(mut line) = line.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split("[..]").collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        match line.find(part) {
            Some(at) => line = &line[at + part.len()..],
            None => return false,
        }
    }
    line.ends_with(tail)
}

/// What a client logs of itself on a busy machine is no part of a session: its own pace, a watch that it ended while an event
/// was on its way.
fn is_of_the_clients_own(line: &str) -> bool {
    line.contains("client-side throttling")
        || line.contains("reflector.go") && line.contains("context canceled")
}
