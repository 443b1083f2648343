//! Any bytes, in any pieces, as a pod's page.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|pieces: Vec<Vec<u8>>| {
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let kept = metrics::read_page(&pieces, &metrics::Limits::default());
    assert!(kept.is_none_or(|kept| kept <= metrics::Limits::default().series_per_pod_max));
});
