//! The rows agree with each other.

use super::*;

#[test]
fn rows_are_consistent() {
    let mut seen = std::collections::HashSet::new();
    for kind in all() {
        assert!(
            seen.insert((kind.group, kind.version, kind.plural)),
            "{} twice",
            kind.plural
        );
        assert!(
            !kind.kind.is_empty() && !kind.singular.is_empty(),
            "{}",
            kind.plural
        );
        if kind.storage.is_empty() {
            continue;
        }
        assert!(
            kind.storage.starts_with("/registry/") && !kind.storage.ends_with('/'),
            "{}",
            kind.plural
        );
        // Kinds under one prefix share a watch cache, so one reads the fields of the other.
        let first = all()
            .iter()
            .find(|k| k.storage == kind.storage)
            .expect("itself at least");
        assert_eq!(first.fields.len(), kind.fields.len(), "{}", kind.plural);
        for (a, b) in first.fields.iter().zip(kind.fields) {
            assert_eq!(a.path, b.path, "{}", kind.plural);
        }
    }
}
