//! Any bytes as a quantity, a JSONPath, a query string and a path.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    plimsoll_fuzz::scalars(bytes);
});
