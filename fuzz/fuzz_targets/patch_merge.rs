//! Any bytes as a merge patch of a Deployment.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    plimsoll_fuzz::patch_merge(bytes);
});
