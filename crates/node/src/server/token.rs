//! Whom a bearer token names: the API server is asked (TokenReview), as upstream's kubelet does where nothing else is said.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::authorize::Client;

/// For so long an answer stands, as upstream's.
const STANDS: Duration = Duration::from_secs(120);
const ANSWERS_MAX: usize = 1000;

/// A token is kept as its digest.
type Key = [u8; 32];

/// Answers of the API server that still stand.
pub struct Tokens {
    client: kube::Client,
    answers: Mutex<HashMap<Key, (Option<Client>, Instant)>>,
}

impl Tokens {
    pub fn new(client: kube::Client) -> Self {
        Self {
            client,
            answers: Mutex::default(),
        }
    }

    /// Whom the token of a request names; `None`: it has none, or one that is worth nothing.
    ///
    /// # Errors
    /// When the API server gives no answer.
    pub async fn client_of(&self, headers: &HeaderMap) -> Result<Option<Client>, kube::Error> {
        let Some(token) = bearer(headers) else {
            return Ok(None);
        };
        let key: Key = Sha256::digest(token.as_bytes()).into();
        if let Some((client, until)) = self.answers.lock().get(&key)
            && Instant::now() < *until
        {
            return Ok(client.clone());
        }
        let spec = TokenReviewSpec {
            token: token.to_owned(),
            ..TokenReviewSpec::default()
        };
        let review = TokenReview {
            spec,
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let status = reviews.create(&PostParams::default(), &review).await?;
        let status = status.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        let client = user.map(|user| Client {
            user: user.username.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
        });
        let mut answers = self.answers.lock();
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        answers.insert(key, (client.clone(), Instant::now() + STANDS));
        Ok(client)
    }
}

/// The token in `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_headers() {
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Basic abc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, header.parse().expect("a header"));
            assert_eq!(bearer(&headers), token, "{header}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
