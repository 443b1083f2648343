//! Tokens of service accounts: JSON Web Tokens (RFC 7519) signed with ES256 by a key of the instance, bound to an
//! object, expiring; upstream's claims (`pkg/serviceaccount/claims.go`), so that its clients can read them.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::Error;
use crate::object::text;

/// File of the signing key beneath `pki/`.
const KEY_FILE: &str = "sa.key";
/// No token of ours is longer.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// A clock may be so much behind the one that signed.
const LEEWAY_SECONDS: i64 = 60;

/// Where the discovery document and the keys are asked for.
pub(crate) const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";
pub(crate) const JWKS_PATH: &str = "/openid/v1/jwks";
/// A coordinate of a point on P-256.
const COORDINATE_BYTES: usize = 32;

/// Signs and reads tokens.
pub(crate) struct Tokens {
    key: EcdsaKeyPair,
    key_id: String,
    issuer: String,
}

/// What a token is made for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grant {
    pub namespace: String,
    pub account: String,
    pub account_uid: String,
    /// Kind in small letters (`pod`, `secret`, `node`), name and uid of the object that it ends with.
    pub bound: Option<(&'static str, String, String)>,
    /// Name and uid of the node that a bound pod runs on; told, and no condition.
    pub node: Option<(String, String)>,
    /// Empty means this server.
    pub audiences: Vec<String>,
    pub seconds: i64,
}

impl Tokens {
    /// Opens the key in `pki_dir`, making it when there is none yet.
    pub fn open(pki_dir: &Path, cluster_domain: &str) -> Result<Self, Error> {
        let fail = |attempt: &str, reason: &dyn std::fmt::Display| Error::Certificate {
            attempt: attempt.to_owned(),
            reason: reason.to_string(),
        };
        crate::pki::make_dir(pki_dir)?;
        let path = pki_dir.join(KEY_FILE);
        let pem = match std::fs::read_to_string(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let pem = rcgen::KeyPair::generate()
                    .map_err(|e| fail("make the key of service-account tokens", &e))?
                    .serialize_pem();
                crate::pki::write_private(&path, &pem)?;
                pem
            }
            Err(source) => {
                return Err(Error::File {
                    attempt: "read",
                    path,
                    source,
                });
            }
        };
        let attempt = "read the key of service-account tokens";
        let der = rustls::pki_types::PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|e| fail(attempt, &e))?;
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            der.secret_pkcs8_der(),
            &SystemRandom::new(),
        )
        .map_err(|e| fail(attempt, &e))?;
        let key_id = URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(key.public_key().as_ref()));
        Ok(Self {
            key,
            key_id,
            issuer: format!("https://kubernetes.default.svc.{cluster_domain}"),
        })
    }

    /// Who issues, and the audience of tokens that name none.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The issuer's discovery document (OpenID Connect Discovery 1.0) for a server of this address (`HOST:PORT`).
    pub fn discovery(&self, address: &str) -> Value {
        json!({
            "issuer": self.issuer, "jwks_uri": format!("https://{address}{JWKS_PATH}"),
            "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// The public key as a set of JSON Web Keys (RFC 7517).
    pub fn key_set(&self) -> Value {
        // an uncompressed point: 4, x, y
        let point = self.key.public_key().as_ref();
        let (x, y) = point
            .get(1..)
            .unwrap_or_default()
            .split_at(COORDINATE_BYTES.min(point.len().saturating_sub(1)));
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256", "x": part(x), "y": part(y),
        }]})
    }

    /// A token that is valid from `now` (seconds since 1970) on.
    pub fn issue(&self, grant: &Grant, now: i64) -> Result<String, String> {
        let audiences = if grant.audiences.is_empty() {
            vec![self.issuer.clone()]
        } else {
            grant.audiences.clone()
        };
        let mut private = json!({
            "namespace": grant.namespace,
            "serviceaccount": {"name": grant.account, "uid": grant.account_uid},
        });
        if let Some((kind, name, uid)) = &grant.bound {
            private[*kind] = json!({"name": name, "uid": uid});
        }
        if let Some((name, uid)) = &grant.node {
            private["node"] = json!({"name": name, "uid": uid});
        }
        let claims = json!({
            "aud": audiences, "exp": now + grant.seconds, "iat": now, "nbf": now, "iss": self.issuer,
            "jti": crate::handlers::new_uid(), "kubernetes.io": private,
            "sub": user_name(&grant.namespace, &grant.account),
        });
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|e| format!("a token could not be signed: {e}"))?;
        Ok(format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(signature.as_ref())
        ))
    }

    /// The audiences that this server is one of.
    pub fn audiences(&self) -> Vec<String> {
        vec![self.issuer.clone()]
    }

    /// The claims of a token that this instance signed, that is for one of the audiences (none: for this server), and
    /// whose time is now. Whether the objects that it names still exist is not looked at.
    pub fn read(&self, token: &str, now: i64, audiences: &[String]) -> Option<Value> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Value = serde_json::from_slice(&bytes(header)?).ok()?;
        // what else a header may ask for (other algorithms, other keys) is not ours
        if header["alg"] != "ES256" || header["kid"] != self.key_id.as_str() {
            return None;
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &bytes(signature)?)
            .ok()?;
        let claims: Value = serde_json::from_slice(&bytes(claims)?).ok()?;
        let meant = |audience: &Value| match audiences {
            [] => audience == self.issuer.as_str(),
            wanted => wanted.iter().any(|one| audience == one.as_str()),
        };
        let ours = crate::object::items(&claims, &["aud"]).iter().any(meant);
        let begun = claims["nbf"].as_i64()? <= now + LEEWAY_SECONDS;
        let over = claims["exp"].as_i64()? <= now;
        (ours && begun && !over && text(&claims, &["iss"]) == self.issuer).then_some(claims)
    }
}

/// The user that a service account is.
pub(crate) fn user_name(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(dir: &Path) -> Tokens {
        Tokens::open(dir, "cluster.local").expect("a key")
    }

    #[test]
    fn only_our_own_tokens_for_us_and_in_their_time() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-tokens-")
            .tempdir()
            .expect("a directory");
        let ours = tokens(&dir.path().join("a"));
        let grant = Grant {
            namespace: "n".into(),
            account: "a".into(),
            account_uid: "u".into(),
            bound: Some(("pod", "p".into(), "pu".into())),
            seconds: 600,
            ..Grant::default()
        };
        let token = ours.issue(&grant, 1000).expect("signed");
        let claims = ours.read(&token, 1000, &[]).expect("valid");
        assert_eq!(claims["sub"], "system:serviceaccount:n:a");
        assert_eq!(claims["kubernetes.io"]["pod"]["uid"], "pu");
        assert!(ours.read(&token, 1599, &[]).is_some() && ours.read(&token, 1600, &[]).is_none());
        assert!(ours.read(&token, 900, &[]).is_none(), "not yet");
        assert!(
            tokens(&dir.path().join("a"))
                .read(&token, 1000, &[])
                .is_some(),
            "the key is kept"
        );
        assert!(
            tokens(&dir.path().join("b"))
                .read(&token, 1000, &[])
                .is_none()
        );
        let elsewhere = Grant {
            audiences: vec!["vault".into()],
            ..grant
        };
        let other = ours.issue(&elsewhere, 1000).expect("signed");
        assert!(ours.read(&other, 1000, &[]).is_none(), "for somebody else");
        let vault = ["a".to_owned(), "vault".to_owned()];
        assert!(ours.read(&other, 1000, &vault).is_some());
        assert!(ours.read(&token, 1000, &vault).is_none());
        let parts: Vec<&str> = token.split('.').collect();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        for forged in [
            format!("{none}.{}.", parts[1]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode("{}"), parts[2]),
            String::new(),
            "..".into(),
            "a.b.c".into(),
        ] {
            assert!(ours.read(&forged, 1000, &[]).is_none(), "{forged}");
        }
    }

    #[test]
    fn others_can_check_a_token_with_what_is_published() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-tokens-")
            .tempdir()
            .expect("a directory");
        let ours = tokens(dir.path());
        let discovery = ours.discovery("10.0.0.1:6443");
        assert_eq!(discovery["issuer"], ours.issuer());
        assert_eq!(
            discovery["jwks_uri"],
            "https://10.0.0.1:6443/openid/v1/jwks"
        );
        let key = &ours.key_set()["keys"][0];
        let part = |name: &str| {
            URL_SAFE_NO_PAD
                .decode(key[name].as_str().expect("text"))
                .expect("base64")
        };
        let point = [vec![4], part("x"), part("y")].concat();
        let token = ours.issue(&Grant::default(), 0).expect("signed");
        let (signed, signature) = token.rsplit_once('.').expect("a signature");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &signature)
            .expect("the published key fits");
        let header = signed.split('.').next().expect("a header");
        let header: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).expect("base64")).expect("JSON");
        assert_eq!(header["kid"], key["kid"]);
    }
}
