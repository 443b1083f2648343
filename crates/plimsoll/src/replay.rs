//! `plimsoll autoscale replay`: decisions made again from files, each compared with what is expected of it.
//!
//! Validation cases are put to the API server's own validation as well as to `autoscale`'s: both must find what the
//! case expects. Nothing here needs an instance, root or a network.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use apiserver::registry::{Problems, validate};
use autoscale::replay::{self, Case, CaseResult};
use clap::Subcommand;
use serde::Serialize;

use crate::cli::Output;

/// Larger files are refused: parsed they take some ten times as much memory.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What the autoscaler's decisions can be put to.
#[derive(Subcommand)]
pub enum Verb {
    /// Decide again: recorded decisions, hand-written inputs, case files; exit code 1 if anything differs
    #[command(
        long_about = "Decide again what files hold, and compare with what they expect.\n\nA file holds recorded decisions (as `plimsoll why hpa/NAME -o json` gives them), hand-written inputs with what is expected of them, or case files made from Kubernetes' own tests. One JSON object is printed per case (at a terminal: a line for people), then a last line `N passed, M failed`. The exit code is 1 if a case differs or cannot be evaluated."
    )]
    Replay {
        /// JSON, or YAML by its name's ending; - reads standard input
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Default: text at a terminal, else json
        #[arg(short, long, value_enum)]
        output: Option<Output>,
    },
}

/// Does what the verb says.
pub fn run(verb: Verb) -> Result<ExitCode> {
    let Verb::Replay { files, output } = verb;
    let mut out = std::io::stdout().lock();
    let output = output.unwrap_or(if out.is_terminal() {
        Output::Text
    } else {
        Output::Json
    });
    let (mut passed, mut failed) = (0u64, 0u64);
    for file in &files {
        for result in results(file) {
            *(if result.passed {
                &mut passed
            } else {
                &mut failed
            }) += 1;
            let line = Line {
                file: file.display().to_string(),
                result,
            };
            match output {
                Output::Json => writeln!(out, "{}", serde_json::to_string(&line)?)?,
                Output::Yaml => write!(out, "---\n{}", serde_saphyr::to_string(&line)?)?,
                Output::Text => write!(out, "{}", told(&line.result))?,
            }
        }
    }
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[derive(Serialize)]
struct Line {
    file: String,
    #[serde(flatten)]
    result: CaseResult,
}

/// Every case of a file; one that failed if the file cannot be read.
fn results(file: &Path) -> Vec<CaseResult> {
    let cases = text(file).and_then(|text| parse(file, &text));
    match cases {
        Ok(cases) => cases.iter().map(evaluate).collect(),
        Err(error) => vec![CaseResult {
            name: file.display().to_string(),
            table: String::new(),
            passed: false,
            differences: vec![format!("cannot be evaluated: {error}")],
            decided: None,
        }],
    }
}

fn text(file: &Path) -> Result<String, String> {
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(|error| error.to_string())?)
    };
    let mut bytes = Vec::new();
    source
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "it is larger than {} MiB; split it",
            FILE_BYTES_MAX >> 20
        ));
    }
    String::from_utf8(bytes).map_err(|error| format!("not text: {error}"))
}

fn parse(file: &Path, text: &str) -> Result<Vec<Case>, String> {
    let ending = file.extension().and_then(|ending| ending.to_str());
    if !matches!(ending, Some("yaml" | "yml")) {
        return replay::read(text);
    }
    let documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(text).map_err(|error| format!("not YAML: {error}"))?;
    let mut cases = Vec::new();
    for document in documents {
        cases.extend(replay::cases(document)?);
    }
    Ok(cases)
}

fn evaluate(case: &Case) -> CaseResult {
    let mut result = replay::evaluate_case(case);
    if matches!(result.table.as_str(), "validate_hpa" | "validate_scale") {
        let found = replay::compare_validation(&case.value, |table, object, least| {
            let mut problems = Problems::default();
            if table == "validate_scale" {
                validate::scale(object, &mut problems);
            } else {
                validate::hpa_from(object, least.into(), &mut problems);
            }
            let each = problems.0.into_iter();
            each.map(|cause| format!("{}: {}", cause.field, cause.message))
                .collect()
        });
        let found = found.unwrap_or_else(|error| vec![format!("cannot be evaluated: {error}")]);
        let found = found
            .into_iter()
            .map(|difference| format!("API server: {difference}"));
        result.differences.extend(found);
        result.passed = result.differences.is_empty();
    }
    result
}

/// The result as a person reads it.
fn told(result: &CaseResult) -> String {
    let word = if result.passed { "ok    " } else { "FAILED" };
    let mut text = format!("{word} {}", result.name);
    if !result.table.is_empty() {
        text.push_str(&format!(" [{}]", result.table));
    }
    if let Some(decided) = &result.decided {
        let shown = |replicas: Option<i32>| {
            replicas.map_or_else(|| "?".to_owned(), |replicas| replicas.to_string())
        };
        let (from, to) = (decided.from, decided.to.or(decided.from));
        text.push_str(&format!(": {} → {}", shown(from), shown(to)));
    }
    text.push('\n');
    let written = result.table == "decision";
    if let Some(decided) = result
        .decided
        .as_ref()
        .filter(|_| written || !result.passed)
    {
        for sentence in &decided.sentences {
            text.push_str(&format!("         {sentence}\n"));
        }
    }
    for difference in &result.differences {
        text.push_str(&format!("       ! {difference}\n"));
    }
    text
}
