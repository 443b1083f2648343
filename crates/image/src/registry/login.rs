//! A token for a repository, as the registry's challenge asks for it.
//!
//! Protocol: the distribution project's token authentication and its OAuth 2 form (docs "Token Authentication Specification",
//! "Oauth2 Token Authentication").

use oci_client::RegistryOperation;
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::token_cache::{RegistryToken, RegistryTokenType};
use reqwest::header::WWW_AUTHENTICATE;

use super::Remote;
use super::answers::{self, TOKEN_BYTES_MAX};
use crate::error::Error;
use crate::model::Auth;

/// What a registry asks for.
#[derive(Debug, PartialEq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: String },
}

impl Remote {
    /// Asks for a token, or for another one in place of what the registry no longer takes.
    ///
    /// # Errors
    /// The token server's refusal; the requests themselves would only tell that they lack a token.
    pub async fn login(&self, operation: RegistryOperation) -> Result<(), Error> {
        let what = "the login";
        let token = self.soon(what, self.token(operation)).await??;
        let reference = self.reference(None);
        let registry = reference.resolve_registry();
        let fallback = match &token {
            None => return Ok(()),
            Some(RegistryTokenType::Bearer(token)) => token.token().to_owned(),
            Some(RegistryTokenType::Basic(..)) => String::new(),
        };
        // With credentials of its own the client would ask for tokens by itself, and read whatever comes.
        let fallback = RegistryAuth::Bearer(fallback);
        self.client.store_auth_if_needed(registry, &fallback).await;
        if let Some(token) = token {
            for operation in [RegistryOperation::Pull, RegistryOperation::Push] {
                let tokens = &self.client.tokens;
                tokens.insert(&reference, operation, token.clone()).await;
            }
            *self.token.lock() = Some(token);
        }
        Ok(())
    }

    async fn token(
        &self,
        operation: RegistryOperation,
    ) -> Result<Option<RegistryTokenType>, Error> {
        if let Some(Auth::Bearer(token)) = &self.auth {
            let token = token.clone();
            return Ok(Some(RegistryTokenType::Bearer(RegistryToken::Token {
                token,
            })));
        }
        let failed = |error: OciDistributionError| self.error("the login", error);
        let base = self.http.get(self.url("")).send().await;
        let base = base.map_err(|e| failed(e.into()))?;
        let asked = base.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenge = asked
            .filter_map(|value| challenge(value.to_str().ok()?))
            // A token is preferred to the password itself.
            .max_by_key(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let (realm, service) = match (challenge, &self.auth) {
            (None, _) => return Ok(None),
            (Some(Challenge::Basic), Some(Auth::Basic { username, password })) => {
                let (username, password) = (username.clone(), password.clone());
                return Ok(Some(RegistryTokenType::Basic(username, password)));
            }
            (Some(Challenge::Basic), _) => return Ok(None),
            (Some(Challenge::Bearer { realm, service }), _) => (realm, service),
        };
        let action = match operation {
            RegistryOperation::Pull => "pull",
            RegistryOperation::Push => "pull,push",
        };
        let scope = format!("repository:{}:{action}", self.reference(None).repository());
        let mut query = vec![("scope", scope.as_str())];
        if !service.is_empty() {
            query.push(("service", service.as_str()));
        }
        let request = match &self.auth {
            Some(Auth::Refresh(token)) => {
                query.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "plimsoll"),
                    ("refresh_token", token.as_str()),
                ]);
                let mut form = reqwest::Url::parse("form:/")
                    .map_err(|e| failed(OciDistributionError::GenericError(Some(e.to_string()))))?;
                form.query_pairs_mut().extend_pairs(&query);
                let form = form.query().unwrap_or_default().to_owned();
                let kind = "application/x-www-form-urlencoded";
                let request = self.http.post(realm).body(form);
                request.header(reqwest::header::CONTENT_TYPE, kind)
            }
            Some(Auth::Basic { username, password }) => {
                let request = self.http.get(realm).query(&query);
                request.basic_auth(username, Some(password))
            }
            _ => self.http.get(realm).query(&query),
        };
        let answer = request.send().await.map_err(|e| failed(e.into()))?;
        if answer.status() != reqwest::StatusCode::OK {
            let reason = answers::reason(answer).await;
            let reason = String::from_utf8_lossy(&reason).into_owned();
            return Err(failed(OciDistributionError::AuthenticationFailure(reason)));
        }
        let body = answers::body(answer, TOKEN_BYTES_MAX)
            .await
            .map_err(failed)?;
        let malformed =
            |reason: String| Error::malformed(format!("token for {}", self.name), reason);
        let body = body.ok_or_else(|| malformed("it is larger than 1 MiB".into()))?;
        let token: RegistryToken =
            serde_json::from_slice(&body).map_err(|e| malformed(e.to_string()))?;
        Ok(Some(RegistryTokenType::Bearer(token)))
    }
}

/// Reads `Basic …` and `Bearer realm="…",service="…"`; `None` for other schemes.
fn challenge(header: &str) -> Option<Challenge> {
    let (scheme, mut rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service) = (None, String::new());
    while let Some((name, value)) = rest.split_once('=') {
        let value = value.trim_start();
        let (value, next) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => value.split_once(',').unwrap_or((value, "")),
        };
        match name.trim_matches([' ', ',']).to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value.to_owned()),
            "service" => service = value.to_owned(),
            _ => {}
        }
        rest = next;
    }
    realm.map(|realm| Challenge::Bearer { realm, service })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: &str| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.into(),
            })
        };
        for (header, expected) in [
            (
                "Bearer realm=\"https://a/token\",service=\"s s\",scope=\"repository:a:pull,push\"",
                bearer("https://a/token", "s s"),
            ),
            (
                "bearer service=s, realm=https://a",
                bearer("https://a", "s"),
            ),
            ("Bearer realm=\"https://a", bearer("https://a", "")),
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            ("Bearer", None),
            ("Bearer service=\"s\"", None),
            ("Negotiate x", None),
            ("", None),
        ] {
            assert_eq!(challenge(header), expected, "{header:?}");
        }
    }
}
