//! What is fuzzed of the API server: the functions that its own tests hunt with (`crates/apiserver/tests/fuzz`).

#[path = "../../crates/apiserver/tests/fuzz/targets.rs"]
mod targets;

pub use targets::*;
