//! `plimsoll doctor`: what this machine must offer, what it has, and how to mend the difference.
//!
//! [`facts`] looks at the machine; [`findings`] judges what was seen, and is a pure function.

mod facts;
mod findings;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::cli::Output;
use crate::settings::Settings;
use findings::{Finding, State};

/// Checks everything; exit code 1 if something must be mended before plimsoll can work here.
pub fn run(data_dir: &Path, settings: &Settings, output: Output) -> Result<ExitCode> {
    let findings = findings::judge(&facts::gather(data_dir, settings));
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
        Output::Yaml => print!("{}", serde_saphyr::to_string(&findings)?),
        Output::Text => print!("{}", text(&findings)),
    }
    let failed = findings
        .iter()
        .any(|finding| finding.state == State::Failure);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.state {
            State::Ok => "ok  ",
            State::Warning => "WARN",
            State::Failure => "FAIL",
        };
        text.push_str(&format!("{mark}  {}: {}\n", finding.check, finding.found));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("      → {remedy}\n"));
        }
    }
    let count = |state| {
        findings
            .iter()
            .filter(|finding| finding.state == state)
            .count()
    };
    let (failures, warnings) = (count(State::Failure), count(State::Warning));
    text.push_str(&match (failures, warnings) {
        (0, 0) => "\nThis machine has everything that is needed.\n".to_owned(),
        (0, n) => format!("\nThis machine has what is needed; {n} to look at.\n"),
        (n, _) => format!("\n{n} to mend before plimsoll can work here.\n"),
    });
    text
}
