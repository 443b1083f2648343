//! The two embedded data files, decompressed when first asked for.

/// Names, types and struct tags of every field of every built-in kind: see `data/README.md` for the columns.
const TYPES: &[u8] = include_bytes!("../../data/types.tsv.zst");
/// Upstream's OpenAPI schemas, one a line: name, kinds, JSON text.
const OPENAPI: &[u8] = include_bytes!("../../data/openapi.tsv.zst");

/// More than either file unpacks to; a guard, since both are part of the program.
const UNPACKED_BYTES_MAX: usize = 8 << 20;

/// The table of types as text.
pub(super) fn types() -> String {
    unpack(TYPES)
}

/// The OpenAPI schemas as text. One megabyte that nobody keeps: documents are made on request.
pub(super) fn openapi() -> String {
    unpack(OPENAPI)
}

/// The OpenAPI schemas as they are embedded.
pub(super) fn openapi_packed() -> &'static [u8] {
    OPENAPI
}

fn unpack(packed: &[u8]) -> String {
    let bytes = zstd::bulk::decompress(packed, UNPACKED_BYTES_MAX).unwrap_or_default();
    debug_assert!(!bytes.is_empty(), "embedded schema data is damaged");
    String::from_utf8(bytes).unwrap_or_default()
}
