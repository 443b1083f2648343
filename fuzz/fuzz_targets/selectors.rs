//! Any bytes as a label selector and as a field selector.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    plimsoll_fuzz::selectors(bytes);
});
