//! The supervising process and its runtime children as a program of their own, for tests.

use std::ffi::OsString;

fn main() {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(word) if word == "supervise" => engine::supervise_main(args),
        Some(word) if word == "runtime" => engine::runtime_main(args),
        other => {
            eprintln!(
                "engine-supervisor: expected `supervise` or `runtime`, got {:?}",
                other.unwrap_or_else(OsString::new)
            );
            std::process::exit(2)
        }
    }
}
