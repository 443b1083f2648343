//! From text to [`Dockerfile`]: syntax by the `parse-dockerfile` crate, names and values split here.

use std::collections::BTreeMap;

use parse_dockerfile as pd;

use super::heredoc::{self, Heredocs};
use super::lines::{logical_line, position};
use super::step::{Copy, Dockerfile, Flag, Form, Kind, Script, Source, Stage, Step};
use super::words::split;
use crate::build::BuildError;

/// Larger files are refused: nobody wrote them.
const BYTES_MAX: usize = 4 << 20;

/// Parses a whole file.
///
/// # Errors
/// [`BuildError::Syntax`].
pub(crate) fn parse(text: &str) -> Result<Dockerfile, BuildError> {
    if text.len() > BYTES_MAX {
        return Err(BuildError::Request(
            "the Dockerfile is larger than 4 MiB".into(),
        ));
    }
    if text.trim().is_empty() {
        return Err(BuildError::Request("the Dockerfile cannot be empty".into()));
    }
    let Heredocs { masked, scripts } = heredoc::take(text)?;
    let parsed = pd::parse(&masked).map_err(|e| match e.line() {
        // Nothing that could have a place: comments, or only arguments.
        0 => BuildError::Request(format!("the Dockerfile builds nothing: {e}")),
        line => BuildError::Syntax {
            line,
            column: e.column(),
            reason: e.to_string(),
        },
    })?;
    let escape = parsed
        .parser_directives
        .escape
        .as_ref()
        .map_or('\\', |d| d.value.value);
    let reader = Reader {
        text,
        escape,
        scripts,
    };
    let mut file = Dockerfile {
        escape,
        arguments: Vec::new(),
        stages: Vec::new(),
        warnings: Vec::new(),
    };
    for instruction in &parsed.instructions {
        if let pd::Instruction::From(from) = instruction {
            file.stages.push(reader.stage(from)?);
            continue;
        }
        let step = reader.step(instruction)?;
        if let Kind::Maintainer(_) = step.kind {
            file.warnings.push(format!(
                "line {}: MAINTAINER is deprecated, use a LABEL",
                step.line
            ));
        }
        match file.stages.last_mut() {
            Some(stage) => stage.steps.push(step),
            None => file.arguments.push(step),
        }
    }
    Ok(file)
}

/// Reads a Dockerfile without building it; its number of stages.
///
/// # Errors
/// [`BuildError::Syntax`] with line and column, [`BuildError::Request`] for an empty or oversized file.
pub fn check_dockerfile(text: &str) -> Result<usize, BuildError> {
    parse(text).map(|file| file.stages.len())
}

/// Parses one instruction, as ONBUILD keeps it.
///
/// # Errors
/// [`BuildError::Syntax`] with the position in that text.
pub(crate) fn parse_trigger(text: &str, line: usize) -> Result<Step, BuildError> {
    let file = parse(&format!("FROM scratch\n{text}\n"))?;
    let mut steps = file
        .stages
        .into_iter()
        .next()
        .map(|s| s.steps)
        .unwrap_or_default();
    match (steps.pop(), steps.is_empty()) {
        (Some(step), true) => Ok(Step { line, ..step }),
        _ => Err(BuildError::Syntax {
            line,
            column: 1,
            reason: "ONBUILD takes one instruction".into(),
        }),
    }
}

struct Reader<'a> {
    text: &'a str,
    escape: char,
    /// Heredocs of RUN by its offset.
    scripts: BTreeMap<usize, Vec<Script>>,
}

impl Reader<'_> {
    fn stage(&self, from: &pd::FromInstruction<'_>) -> Result<Stage, BuildError> {
        let start = from.from.span.start;
        let mut platform = None;
        for flag in flags(&from.options) {
            match (flag.name.as_str(), flag.value) {
                ("platform", Some(value)) => platform = Some(value),
                (name, _) => return Err(self.syntax(start, format!("unknown flag: --{name}"))),
            }
        }
        let name = from.as_.as_ref().map(|(_, name)| name.value.to_lowercase());
        if let Some(name) = &name {
            let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
            let rest = name.bytes().all(|b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
            });
            if !first || !rest || name == "scratch" || name == "context" {
                return Err(self.syntax(start, format!("invalid name for build stage: {name:?}")));
            }
        }
        Ok(Stage {
            line: position(self.text, start).0,
            text: self.line_at(start),
            image: from.image.value.to_string(),
            name,
            platform,
            steps: Vec::new(),
        })
    }

    fn step(&self, instruction: &pd::Instruction<'_>) -> Result<Step, BuildError> {
        let (start, kind) = self.kind(instruction)?;
        Ok(Step {
            line: position(self.text, start).0,
            text: self.line_at(start),
            kind,
        })
    }

    fn kind(&self, instruction: &pd::Instruction<'_>) -> Result<(usize, Kind), BuildError> {
        use pd::Instruction as I;
        Ok(match instruction {
            I::Run(i) => {
                let at = i.run.span.start;
                let command = self.form(&i.arguments);
                let scripts = self.scripts.get(&at).cloned().unwrap_or_default();
                if matches!(command, Form::Exec(_)) && !scripts.is_empty() {
                    let reason = "a heredoc needs the shell form of RUN";
                    return Err(self.syntax(at, reason.into()));
                }
                (
                    at,
                    Kind::Run {
                        command,
                        scripts,
                        flags: flags(&i.options),
                    },
                )
            }
            I::Cmd(i) => (i.cmd.span.start, Kind::Cmd(self.form(&i.arguments))),
            I::Entrypoint(i) => (
                i.entrypoint.span.start,
                Kind::Entrypoint(match self.form(&i.arguments) {
                    Form::Shell(line) if is_empty_array(&line) => Form::Exec(Vec::new()),
                    form => form,
                }),
            ),
            I::Env(i) => {
                let at = i.env.span.start;
                (at, Kind::Env(self.pairs(at, "ENV", &i.arguments.value)?))
            }
            I::Label(i) => {
                let at = i.label.span.start;
                (
                    at,
                    Kind::Label(self.pairs(at, "LABEL", &i.arguments.value)?),
                )
            }
            I::Arg(i) => {
                let at = i.arg.span.start;
                let words = split(&i.arguments.value, self.escape);
                let pair = |word: String| match word.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (word, None),
                };
                let pairs: Vec<_> = words.into_iter().map(pair).collect();
                if pairs.iter().any(|(name, _)| name.is_empty()) {
                    return Err(self.syntax(at, "ARG names can not be blank".into()));
                }
                (at, Kind::Arg(pairs))
            }
            I::Workdir(i) => (
                i.workdir.span.start,
                Kind::Workdir(i.arguments.value.to_string()),
            ),
            I::Add(i) => (
                i.add.span.start,
                self.copy(true, i.add.span.start, &i.options, &i.src, &i.dest),
            ),
            I::Copy(i) => (
                i.copy.span.start,
                self.copy(false, i.copy.span.start, &i.options, &i.src, &i.dest),
            ),
            I::Expose(i) => (i.expose.span.start, Kind::Expose(strings(&i.arguments))),
            I::User(i) => (i.user.span.start, Kind::User(i.arguments.value.to_string())),
            I::Volume(i) => {
                let words = match &i.arguments {
                    pd::JsonOrStringArray::Json(words) => strings(&words.value),
                    pd::JsonOrStringArray::String(words) => strings(words),
                };
                if words.is_empty() || words.iter().any(|w| w.trim().is_empty()) {
                    return Err(self.syntax(
                        i.volume.span.start,
                        "VOLUME specified can not be an empty string".into(),
                    ));
                }
                (i.volume.span.start, Kind::Volume(words))
            }
            I::Stopsignal(i) => (
                i.stopsignal.span.start,
                Kind::StopSignal(i.arguments.value.to_string()),
            ),
            I::Healthcheck(i) => {
                let command = match &i.arguments {
                    pd::HealthcheckArguments::Cmd { arguments, .. } => Some(self.form(arguments)),
                    _ => None,
                };
                (
                    i.healthcheck.span.start,
                    Kind::Healthcheck {
                        flags: flags(&i.options),
                        command,
                    },
                )
            }
            I::Onbuild(i) => {
                let at = i.onbuild.span.start;
                let (inner, _) = match &*i.instruction {
                    I::From(_) | I::Maintainer(_) | I::Onbuild(_) => {
                        return Err(self.syntax(
                            at,
                            "FROM, MAINTAINER and ONBUILD are not allowed as ONBUILD trigger"
                                .into(),
                        ));
                    }
                    other => self.kind(other)?,
                };
                (at, Kind::Onbuild(self.line_at(inner)))
            }
            I::Maintainer(i) => (
                i.maintainer.span.start,
                Kind::Maintainer(i.name.value.to_string()),
            ),
            I::Shell(i) => (i.shell.span.start, Kind::Shell(strings(&i.arguments))),
            _ => {
                return Err(BuildError::Request(
                    "the Dockerfile has an instruction that is not supported".into(),
                ));
            }
        })
    }

    fn copy(
        &self,
        add: bool,
        start: usize,
        options: &[pd::Flag<'_>],
        sources: &[pd::Source<'_>],
        destination: &pd::UnescapedString<'_>,
    ) -> Kind {
        let mut heredocs = 0;
        let sources = sources
            .iter()
            .map(|source| match source {
                pd::Source::HereDoc(heredoc) => {
                    heredocs += 1;
                    Source::Inline(self.script(heredoc, start, heredocs - 1))
                }
                pd::Source::Path(path) => Source::Path(path.value.to_string()),
                _ => Source::Path(String::new()),
            })
            .collect();
        Kind::Copy(Copy {
            add,
            flags: flags(options),
            sources,
            destination: destination.value.to_string(),
        })
    }

    /// The n-th heredoc of the instruction at `start`; its name stands in the instruction's own line.
    fn script(&self, heredoc: &pd::HereDoc<'_>, start: usize, n: usize) -> Script {
        let line = self.line_at(start);
        let name = line.split("<<").nth(n + 1).unwrap_or("");
        let name = name
            .trim_start_matches('-')
            .split_whitespace()
            .next()
            .unwrap_or("");
        let name = name.trim_matches(['"', '\'']).to_owned();
        Script {
            name,
            content: heredoc.value.to_string(),
            expand: heredoc.expand,
        }
    }

    fn form(&self, command: &pd::Command<'_>) -> Form {
        match command {
            pd::Command::Exec(words) => Form::Exec(strings(&words.value)),
            pd::Command::Shell(line) => {
                Form::Shell(logical_line(&self.text[line.span.clone()], self.escape))
            }
            _ => Form::Shell(String::new()),
        }
    }

    /// `a=b c=d`, or `a b c` for the one variable a.
    fn pairs(
        &self,
        start: usize,
        keyword: &str,
        text: &str,
    ) -> Result<Vec<(String, String)>, BuildError> {
        let words = split(text, self.escape);
        if words.first().is_some_and(|w| !w.contains('=')) {
            let text = text.trim_start();
            let (name, value) = text
                .split_once(char::is_whitespace)
                .ok_or_else(|| self.syntax(start, format!("{keyword} must have two arguments")))?;
            return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
        }
        let mut pairs = Vec::new();
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| {
                self.syntax(
                    start,
                    format!(
                        "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
                    ),
                )
            })?;
            if name.is_empty() {
                return Err(self.syntax(start, format!("{keyword} names can not be blank")));
            }
            pairs.push((name.to_owned(), value.to_owned()));
        }
        Ok(pairs)
    }

    fn line_at(&self, start: usize) -> String {
        logical_line(self.text.get(start..).unwrap_or(""), self.escape)
    }

    fn syntax(&self, at: usize, reason: String) -> BuildError {
        let (line, column) = position(self.text, at);
        BuildError::Syntax {
            line,
            column,
            reason,
        }
    }
}

/// `[]`, which the syntax parser refuses.
fn is_empty_array(line: &str) -> bool {
    let inner = line
        .trim()
        .strip_prefix('[')
        .and_then(|l| l.strip_suffix(']'));
    inner.is_some_and(|inner| inner.trim().is_empty())
}

fn strings(words: &[pd::UnescapedString<'_>]) -> Vec<String> {
    words.iter().map(|w| w.value.to_string()).collect()
}

fn flags(options: &[pd::Flag<'_>]) -> Vec<Flag> {
    let flag = |f: &pd::Flag<'_>| Flag {
        name: f.name.value.to_lowercase(),
        value: f.value.as_ref().map(|v| v.value.to_string()),
    };
    options.iter().map(flag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_builds_nothing_is_told_without_a_place() {
        for text in ["#L", "# only\n# comments\n", "", " \n"] {
            assert!(
                matches!(parse(text), Err(BuildError::Request(_))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn instructions_become_steps() {
        let file = parse(concat!(
            "# syntax=docker/dockerfile:1\nARG V=1\nFROM --platform=$BUILDPLATFORM a:$V AS Build\n",
            "RUN echo \\\n  # comment\n  hi\nENV a=\"b c\" d=e\nENV old form here\nLABEL x=y\nRUN [\"a\", \"b\"]\n",
            "COPY --from=x --chown=1:2 a b /c/\nCOPY <<\"END\" /f\nhello $x\nEND\nRUN <<EOF\necho 1\necho 2\nEOF\n",
            "HEALTHCHECK --interval=5s CMD true\nVOLUME [\"/a\"]\nEXPOSE 80/tcp 90\nONBUILD RUN x\nMAINTAINER me\n",
        ))
        .unwrap();
        assert_eq!(
            file.arguments[0].kind,
            Kind::Arg(vec![("V".into(), Some("1".into()))])
        );
        let stage = &file.stages[0];
        assert_eq!(
            (stage.name.as_deref(), stage.image.as_str()),
            (Some("build"), "a:$V")
        );
        let kinds: Vec<String> = stage
            .steps
            .iter()
            .map(|s| format!("{} {:?}", s.line, s.kind))
            .collect();
        assert_eq!(
            kinds[0],
            r#"4 Run { command: Shell("echo   hi"), scripts: [], flags: [] }"#
        );
        assert_eq!(kinds[1], r#"7 Env([("a", "\"b c\""), ("d", "e")])"#);
        assert_eq!(kinds[2], r#"8 Env([("old", "form here")])"#);
        assert_eq!(
            kinds[4],
            r#"10 Run { command: Exec(["a", "b"]), scripts: [], flags: [] }"#
        );
        let Kind::Copy(copy) = &stage.steps[6].kind else {
            panic!("{:?}", stage.steps[6])
        };
        let expected = Script {
            name: "END".into(),
            content: "hello $x\n".into(),
            expand: false,
        };
        assert_eq!(copy.sources, [Source::Inline(expected)]);
        let Kind::Run {
            command, scripts, ..
        } = &stage.steps[7].kind
        else {
            panic!()
        };
        assert_eq!(*command, Form::Shell("<<EOF".into()));
        assert_eq!(scripts[0].content, "echo 1\necho 2\n");
        assert_eq!(stage.steps[11].kind, Kind::Onbuild("RUN x".into()));
        assert_eq!(file.warnings.len(), 1);
    }

    #[test]
    fn an_empty_entrypoint_and_two_escapes_are_read_as_written() {
        let file = parse(concat!(
            "FROM a\nENTRYPOINT []\nENTRYPOINT \\\n [ ]\nONBUILD ENTRYPOINT []\nRUN echo a \\\\\nRUN echo b\n",
            "COPY <<E /x\nENTRYPOINT []\nE\n"
        ))
        .unwrap();
        let steps: Vec<&Kind> = file.stages[0].steps.iter().map(|s| &s.kind).collect();
        let empty = Kind::Entrypoint(Form::Exec(Vec::new()));
        assert_eq!(steps[..2], [&empty, &empty]);
        assert_eq!(*steps[2], Kind::Onbuild("ENTRYPOINT []".into()));
        assert_eq!(parse_trigger("ENTRYPOINT []", 1).unwrap().kind, empty);
        let Kind::Run { command, .. } = steps[3] else {
            panic!("{steps:?}")
        };
        assert_eq!(*command, Form::Shell("echo a \\\\".into()));
        let Kind::Copy(copy) = steps[5] else {
            panic!("{steps:?}")
        };
        let [Source::Inline(script)] = &copy.sources[..] else {
            panic!("{copy:?}")
        };
        assert_eq!(script.content, "ENTRYPOINT []\n");
    }

    #[test]
    fn errors_have_a_position() {
        for (text, at) in [
            ("FROM a\nRUNN x\n", "line 2"),
            ("RUN x\n", "line 1"),
            ("FROM a\nENV x\n", "line 2"),
            ("FROM a\nENV a=b c\n", "line 2"),
            ("FROM a\n\nONBUILD FROM b\n", "line 3"),
            ("FROM a\nCOPY x\n", "line 2"),
            ("FROM a AS 1a\n", "line 1"),
            ("FROM --x=y a\n", "line 1"),
            ("FROM a\nVOLUME [\"\"]\n", "line 2"),
            ("FROM a AS x\nFROM b AS x\n", "line 2"),
            ("FROM a\nRUN cat <<A <<B\nA\nB\nNO\n", "line 5"),
            ("FROM a\nRUN x <<A\n", "line 2, column 7"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(at), "{text:?}: {error}");
        }
        assert!(parse("").is_err());
        assert!(parse("# only\n").is_err());
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(
            lines in proptest::collection::vec("(FROM|RUN|COPY|ADD|ENV|ARG|LABEL|VOLUME|ONBUILD|CMD|USER|HEALTHCHECK|SHELL) [a-c=\"'$<\\[\\]{},\\\\ -]{0,16}", 0..6),
        ) {
            let _ = parse(&format!("FROM a\n{}", lines.join("\n")));
        }
    }
}
