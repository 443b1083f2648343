//! Any bytes as a JSON body: what is accepted is JSON, and reads as serde_json reads it.
#![no_main]

use apiserver::codec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let _ = codec::json_duplicates(body);
    if let Ok((value, duplicates)) = codec::decode("application/json", body, None) {
        let plain: serde_json::Value = serde_json::from_slice(body).expect("accepted JSON is JSON");
        if duplicates.is_empty() {
            assert_eq!(value, plain);
        }
    }
});
