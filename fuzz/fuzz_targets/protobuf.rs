//! Any bytes as a protobuf body.
#![no_main]

use apiserver::codec;
use apiserver::schema::Gvk;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let hint = Gvk::gvk("apps", "v1", "Deployment");
    let mut enveloped = b"k8s\0".to_vec();
    enveloped.extend_from_slice(body);
    for body in [body, &enveloped] {
        let _ = codec::decode("application/vnd.kubernetes.protobuf", body, Some(&hint));
    }
});
