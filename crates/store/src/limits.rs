//! How large keys and values may be, checked before anything is queued.

use crate::Error;

/// The longest key, in bytes. Kubernetes' longest names make keys of about 800 bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// The longest value, in bytes (1.5 MiB): etcd's default `--max-request-bytes`, which Kubernetes
/// users know as the limit of an object.
pub const VALUE_BYTES_MAX: usize = 3 * 512 * 1024;

/// Whether a key can be written.
pub(crate) fn check_key(key: &str) -> Result<(), Error> {
    if key.is_empty() {
        return Err(Error::EmptyKey);
    }
    check("key", key.len(), KEY_BYTES_MAX)
}

/// Whether a value can be written.
pub(crate) fn check_value(value: &[u8]) -> Result<(), Error> {
    check("value", value.len(), VALUE_BYTES_MAX)
}

fn check(what: &'static str, size_bytes: usize, limit_bytes: usize) -> Result<(), Error> {
    if size_bytes > limit_bytes {
        return Err(Error::TooLarge {
            what,
            size_bytes,
            limit_bytes,
        });
    }
    Ok(())
}
