//! What several tests need.

/// A file of the shared test data, or a loud word that its tests did not run.
pub(crate) fn shared_data(path: &str) -> Option<String> {
    let full = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(path);
    match std::fs::read_to_string(&full) {
        Ok(text) => Some(text),
        Err(error) => {
            eprintln!("SKIPPED: {}: {error}", full.display());
            None
        }
    }
}
