//! Any text as a label selector and as a field selector.
#![no_main]

use apiserver::selector::{FieldSelector, LabelSelector};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = LabelSelector::parse(text) {
        let labels = [("a".to_owned(), "b".to_owned()), ("n".to_owned(), "5".to_owned())];
        let _ = selector.matches(&labels);
    }
    let _ = FieldSelector::parse(text);
});
