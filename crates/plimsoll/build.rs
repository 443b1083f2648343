//! Links the program at a fixed address.
//!
//! A position-independent program writes to every page that holds an address when it starts: for a supervising process that is
//! memory of its own, and for it and every runtime child it is time.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-no-pie");
}
