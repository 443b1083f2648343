//! Any text as what a kubelet's `/metrics/resource` answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for line in metrics::samples(text) {
        let _ = line.is_ok();
    }
});
