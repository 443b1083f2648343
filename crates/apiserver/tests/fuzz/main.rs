//! Damaged documents for what reads strangers' bytes: valid bodies, patches and selectors are bent, cut and spliced, and
//! what gets an answer of a new kind is damaged further. Whatever comes of it, a decoder answers with a value or an
//! error, and what it answers is not out of proportion to what it read.
//!
//! Each target runs some thousand times, the same ones in each run; `PLIMSOLL_FUZZ_SECONDS` lets it run so long instead
//! (`.ci/run`: a minute), `PLIMSOLL_SEED` gives other damage. `fuzz/` has the same targets for libFuzzer.

mod corpus;
mod dice;
mod hunt;
mod targets;

use hunt::hunt;

#[test]
fn protobuf() {
    hunt("protobuf", 6000, &corpus::files("pb"), targets::protobuf);
}

#[test]
fn json() {
    hunt("json", 6000, &corpus::files("json"), targets::json);
}

#[test]
fn yaml() {
    hunt("yaml", 2000, &corpus::yaml(), targets::yaml);
}

#[test]
fn patch_json() {
    hunt(
        "patch_json",
        3000,
        &corpus::json_patches(),
        targets::patch_json,
    );
}

#[test]
fn patch_merge() {
    hunt(
        "patch_merge",
        3000,
        &corpus::merge_patches(),
        targets::patch_merge,
    );
}

#[test]
fn patch_strategic() {
    hunt(
        "patch_strategic",
        3000,
        &corpus::strategic_patches(),
        targets::patch_strategic,
    );
}

#[test]
fn selectors() {
    hunt("selectors", 8000, &corpus::selectors(), targets::selectors);
}

#[test]
fn scalars() {
    hunt("scalars", 8000, &corpus::scalars(), targets::scalars);
}
