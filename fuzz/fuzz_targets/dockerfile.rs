//! Any text as a Dockerfile: what is wrong has a place in it.
#![no_main]

use image::{BuildError, check_dockerfile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(BuildError::Syntax { line, .. }) = check_dockerfile(text) {
        let lines = text.lines().count().max(1);
        assert!(line >= 1 && line <= lines + 1, "line {line} of {lines}");
    }
});
