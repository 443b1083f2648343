//! How the program is linked.
//!
//! At a fixed address: a position-independent program writes to every page that holds an address when it starts. For a
//! supervising process that is memory of its own, and for it and every runtime child it is time.
//!
//! A release with identical functions folded: the same (de)serialisation of the same types comes out of every crate that
//! uses it. Only where the linker is LLVM's by default, which knows how.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-no-pie");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("TARGET", "x86_64-unknown-linux-gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
