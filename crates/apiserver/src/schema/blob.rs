//! The embedded data files, decompressed when first asked for.

/// Names, types and struct tags of every field of every built-in kind: see `data/README.md` for the columns.
const TYPES: &[u8] = include_bytes!("../../data/types.tsv.zst");
/// Upstream's OpenAPI schemas, one a line: name, kinds, JSON text.
const OPENAPI: &[u8] = include_bytes!("../../data/openapi.tsv.zst");
/// The same two for the kinds of our own groups, written by hand.
const OWN_TYPES: &str = include_str!("../../data/own-types.tsv");
const OWN_OPENAPI: &str = include_str!("../../data/own-openapi.tsv");

/// More than either file unpacks to; a guard, since both are part of the program.
const UNPACKED_BYTES_MAX: usize = 8 << 20;

/// The table of types as text.
pub(super) fn types() -> String {
    unpack(TYPES, OWN_TYPES)
}

/// The OpenAPI schemas as text. One megabyte that nobody keeps: documents are made on request.
pub(super) fn openapi() -> String {
    unpack(OPENAPI, OWN_OPENAPI)
}

/// The OpenAPI schemas as they are embedded, upstream's and our own.
pub(super) fn openapi_packed() -> [&'static [u8]; 2] {
    [OPENAPI, OWN_OPENAPI.as_bytes()]
}

fn unpack(packed: &[u8], own: &str) -> String {
    let bytes = zstd::bulk::decompress(packed, UNPACKED_BYTES_MAX).unwrap_or_default();
    debug_assert!(!bytes.is_empty(), "embedded schema data is damaged");
    let mut text = String::from_utf8(bytes).unwrap_or_default();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(own);
    text
}
