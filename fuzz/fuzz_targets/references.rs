//! Any text as an image reference and as a `.dockerignore` file.
#![no_main]

use image::{IgnorePatterns, Reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Reference::parse(text);
    let _ = IgnorePatterns::parse(text);
});
