//! Any bytes as a YAML body.
#![no_main]

use apiserver::codec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let _ = codec::decode("application/yaml", body, None);
});
