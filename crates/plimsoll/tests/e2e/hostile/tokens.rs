//! Tokens of service accounts that are not what they should be, to the real daemon; some are signed with its own key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};

use crate::support::{Run, Space, holds};

/// What `GET PATH` with this token is answered: the response's code and body.
fn ask(space: &Space, token: &str, path: &str) -> (String, String) {
    let instance = &space.instance;
    let authority = instance.data_dir.join("pki/ca.crt");
    let said = Run::new("curl", "-sS -m 60 -w '\n%{http_code}'")
        .argument("--cacert")
        .argument(&authority.to_string_lossy())
        .argument("-H")
        .argument(&format!("Authorization: Bearer {token}"))
        .argument(&format!("https://127.0.0.1:{}{path}", instance.api_port))
        .ok();
    let (body, code) = said.rsplit_once('\n').expect("a code");
    (code.to_owned(), body.to_owned())
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn read(part: &str) -> Value {
    let text = URL_SAFE_NO_PAD.decode(part).expect("base64");
    serde_json::from_slice(&text).expect("JSON")
}

/// A token that a holder of this key makes.
fn signed(key: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
    let text = format!("{}.{}", part(header), part(claims));
    let signature = key
        .sign(&SystemRandom::new(), text.as_bytes())
        .expect("a signature");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

fn key(der: &[u8]) -> EcdsaKeyPair {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new())
        .expect("a key")
}

pub fn tokens_of_another_time_key_or_audience_open_nothing() {
    let space = Space::new("hostile-tokens");
    space.kubectl("create serviceaccount robot").ok();
    space
        .kubectl(
            "create rolebinding robot --clusterrole=view --serviceaccount=hostile-tokens:robot",
        )
        .ok();
    let path = "/api/v1/namespaces/hostile-tokens/configmaps";
    let good = space.kubectl("create token robot").ok();
    let good = good.trim();
    assert_eq!(ask(&space, good, path).0, "200");
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims) = (read(parts[0]), read(parts[1]));
    let own = space.instance.data_dir.join("pki/sa.key");
    let own = PrivatePkcs8KeyDer::from_pem_file(own).expect("a key");
    let own = key(own.secret_pkcs8_der());
    // the key is the right one: what it signs is believed, unless something else is wrong
    assert_eq!(ask(&space, &signed(&own, &header, &claims), path).0, "200");
    let with = |changes: &[(&str, Value)]| {
        let mut claims = claims.clone();
        for (name, value) in changes {
            claims[*name] = value.clone();
        }
        claims
    };
    let now = claims["iat"].as_i64().expect("a time");
    let other = rcgen::KeyPair::generate().expect("a key");
    let other = key(&other.serialize_der());
    let none = json!({"alg": "none", "kid": header["kid"]});
    let elsewhere = space.kubectl("create token robot --audience=vault").ok();
    let refused = [
        (
            "expired",
            signed(
                &own,
                &header,
                &with(&[
                    ("exp", (now - 60).into()),
                    ("iat", (now - 3600).into()),
                    ("nbf", (now - 3600).into()),
                ]),
            ),
        ),
        (
            "not yet valid",
            signed(&own, &header, &with(&[("nbf", (now + 3600).into())])),
        ),
        (
            "without an end",
            signed(&own, &header, &with(&[("exp", Value::Null)])),
        ),
        (
            "another issuer",
            signed(&own, &header, &with(&[("iss", "https://elsewhere".into())])),
        ),
        ("another audience", elsewhere.trim().to_owned()),
        (
            "no audience",
            signed(&own, &header, &with(&[("aud", json!([]))])),
        ),
        (
            "an account that is not there",
            signed(
                &own,
                &header,
                &with(&[
                    (
                        "kubernetes.io",
                        json!({"namespace": "hostile-tokens", "serviceaccount": {"name": "nobody", "uid": "1"}}),
                    ),
                    ("sub", "system:serviceaccount:hostile-tokens:nobody".into()),
                ]),
            ),
        ),
        (
            "an account of the same name",
            signed(
                &own,
                &header,
                &with(&[(
                    "kubernetes.io",
                    json!({"namespace": "hostile-tokens", "serviceaccount": {"name": "robot", "uid": "1"}}),
                )]),
            ),
        ),
        ("another key", signed(&other, &header, &claims)),
        ("no signature", format!("{}.{}.", part(&none), parts[1])),
        (
            "another's signature",
            format!(
                "{}.{}.{}",
                parts[0],
                part(&with(&[("exp", (now + 1_000_000).into())])),
                parts[2]
            ),
        ),
        ("cut", good[..good.len() - 4].to_owned()),
        ("enormous", "a".repeat(60_000)),
    ];
    for (what, token) in &refused {
        let (code, body) = ask(&space, token, path);
        assert_eq!(code, "401", "{what}: {body}");
        let status: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(status["reason"], "Unauthorized", "{what}: {status}");
        // reviewed, it is nobody's
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let said = space
            .kubectl("create -o json -f -")
            .stdin(review.to_string())
            .ok();
        let review: Value = serde_json::from_str(&said).expect("JSON");
        assert_ne!(review["status"]["authenticated"], true, "{what}: {review}");
    }
    // what another audience is meant for, it may be asked about by that audience
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": elsewhere.trim(), "audiences": ["vault"]}});
    let said = space
        .kubectl("create -o json -f -")
        .stdin(review.to_string())
        .ok();
    holds(&said, "system:serviceaccount:hostile-tokens:robot");
    // and with the account, its token ends
    assert_eq!(ask(&space, good, path).0, "200");
    space.kubectl("delete serviceaccount robot").ok();
    assert_eq!(ask(&space, good, path).0, "401");
}
