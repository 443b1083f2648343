//! The command of a RUN with its heredocs, as one argument of the shell.

use super::metadata::words_of;
use crate::dockerfile::step::{Form, Script};

/// Words to execute. `RUN <<EOF` alone runs the body as a script; heredocs of a command are left to the shell.
pub(super) fn argv(command: &Form, scripts: &[Script], shell: &Option<Vec<String>>) -> Vec<String> {
    let line = match command {
        Form::Shell(line) if !scripts.is_empty() => line.trim(),
        _ => return words_of(command, shell),
    };
    let line = match scripts {
        [script] if !line.contains(char::is_whitespace) => {
            match script.content.strip_prefix("#!") {
                Some(shebang) => interpreted(shebang, &script.content),
                None => script.content.clone(),
            }
        }
        _ => scripts.iter().fold(line.to_owned(), |line, script| {
            format!("{line}\n{}{}", script.content, script.name)
        }),
    };
    words_of(&Form::Shell(line), shell)
}

/// The interpreter reads the script from a file; a shell can hand it one without leaving anything behind.
fn interpreted(shebang: &str, content: &str) -> String {
    let interpreter = shebang.lines().next().unwrap_or("").trim();
    let mut mark = "PLIMSOLL".to_owned();
    while content.contains(&mark) {
        mark.push('_');
    }
    format!("{interpreter} /dev/stdin <<'{mark}'\n{content}{mark}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heredocs_become_commands() {
        let script = |name: &str, content: &str| Script {
            name: name.into(),
            content: content.into(),
            expand: true,
        };
        let one = |content: &str| vec![script("E", content)];
        for (command, scripts, expected) in [
            ("ls", vec![], "ls"),
            ("<<E", one("a\nb\n"), "a\nb\n"),
            ("cat <<'E' > /x", one("a\n"), "cat <<'E' > /x\na\nE"),
            ("<<E cat", one("a\n"), "<<E cat\na\nE"),
            (
                "cat <<A - 3<<B",
                vec![script("A", "a\n"), script("B", "b\n")],
                "cat <<A - 3<<B\na\nA\nb\nB",
            ),
            (
                "<<E",
                one("#!/bin/awk -f\nx\n"),
                "/bin/awk -f /dev/stdin <<'PLIMSOLL'\n#!/bin/awk -f\nx\nPLIMSOLL",
            ),
        ] {
            let argv = argv(&Form::Shell(command.into()), &scripts, &None);
            assert_eq!(argv, ["/bin/sh", "-c", expected]);
        }
    }
}
