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

    /// The claims of a token that this instance signed, that is for this server, and whose time is now. Whether the
    /// objects that it names still exist is not looked at.
    pub fn read(&self, token: &str, now: i64) -> Option<Value> {
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
        let ours = crate::object::items(&claims, &["aud"])
            .iter()
            .any(|audience| audience == self.issuer.as_str());
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
        let claims = ours.read(&token, 1000).expect("valid");
        assert_eq!(claims["sub"], "system:serviceaccount:n:a");
        assert_eq!(claims["kubernetes.io"]["pod"]["uid"], "pu");
        assert!(ours.read(&token, 1599).is_some() && ours.read(&token, 1600).is_none());
        assert!(ours.read(&token, 900).is_none(), "not yet");
        assert!(
            tokens(&dir.path().join("a")).read(&token, 1000).is_some(),
            "the key is kept"
        );
        assert!(tokens(&dir.path().join("b")).read(&token, 1000).is_none());
        let elsewhere = Grant {
            audiences: vec!["vault".into()],
            ..grant
        };
        let other = ours.issue(&elsewhere, 1000).expect("signed");
        assert!(ours.read(&other, 1000).is_none(), "for somebody else");
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
            assert!(ours.read(&forged, 1000).is_none(), "{forged}");
        }
    }
}
