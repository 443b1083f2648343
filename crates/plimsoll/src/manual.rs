//! Completions and man pages, from the one definition of the command line.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;

const NAME: &str = "plimsoll";

/// Prints the completions of a shell.
pub fn completions(shell: Shell) -> Result<ExitCode> {
    io::stdout().write_all(&completions_of(shell))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the program's man page, or writes one for it and one for each verb.
pub fn pages(directory: Option<&Path>) -> Result<ExitCode> {
    match directory {
        None => io::stdout().write_all(&page(&Cli::command())?)?,
        Some(directory) => {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
            for (name, text) in all_pages()? {
                let path = directory.join(name);
                fs::write(&path, text)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The completions as a file's content.
pub fn completions_of(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut text);
    text
}

/// (file name, content) of each man page.
pub fn all_pages() -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut command = Cli::command();
    // gives subcommands their whole names and the global flags
    command.build();
    let mut pages = vec![(PathBuf::from(format!("{NAME}.1")), page(&command)?)];
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        if verb.get_name() == "help" {
            continue;
        }
        let name = format!("{NAME}-{}", verb.get_name());
        let verb = verb.clone().display_name(&name);
        pages.push((PathBuf::from(format!("{name}.1")), page(&verb)?));
    }
    Ok(pages)
}

fn page(command: &Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_completions() {
        let pages = all_pages().expect("pages");
        let bash = String::from_utf8(completions_of(Shell::Bash)).expect("text");
        let command = Cli::command();
        let verbs: Vec<&str> = command
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set())
            .map(Command::get_name)
            .collect();
        assert!(verbs.len() > 15, "{verbs:?}");
        for verb in verbs {
            let name = PathBuf::from(format!("plimsoll-{verb}.1"));
            let (_, text) = pages
                .iter()
                .find(|(path, _)| *path == name)
                .unwrap_or_else(|| panic!("no page for {verb}"));
            let text = String::from_utf8_lossy(text);
            assert!(text.contains(".TH") && text.contains("SYNOPSIS"), "{text}");
            assert!(bash.contains(verb), "{verb} is not completed");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
