//! Tokens of a pod's service account: asked for when a volume wants one, kept while they are young, asked for again when most
//! of their time is over.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

/// The longest that a token is used, whatever its own time.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(24);

/// The tokens of one pod, by audience and duration.
#[derive(Debug, Default)]
pub struct Tokens {
    kept: HashMap<(String, i64), Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    token: String,
    renew_at: Timestamp,
}

impl Tokens {
    /// A token that the pod may use now.
    pub async fn get(
        &mut self,
        client: &Client,
        pod: &Pod,
        wanted: &ServiceAccountTokenProjection,
    ) -> Result<String, kube::Error> {
        let seconds = wanted.expiration_seconds.unwrap_or(3600);
        let key = (wanted.audience.clone().unwrap_or_default(), seconds);
        let now = Timestamp::now();
        if let Some(kept) = self.kept.get(&key).filter(|kept| now < kept.renew_at) {
            return Ok(kept.token.clone());
        }
        let spec = pod.spec.as_ref();
        let account = spec
            .and_then(|spec| spec.service_account_name.clone())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned());
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(vec![key.0.clone()]).filter(|_| !key.0.is_empty()),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                expiration_seconds: Some(seconds),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> =
            Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let answer: TokenRequest = accounts
            .create_subresource("token", &account, &PostParams::default(), &request)
            .await?;
        let status = answer.status.unwrap_or_default();
        let kept = Kept {
            renew_at: renewal(now, status.expiration_timestamp.map_or(now, |time| time.0)),
            token: status.token.unwrap_or_default(),
        };
        let token = kept.token.clone();
        self.kept.insert(key, kept);
        Ok(token)
    }

    /// When the first of them wants to be renewed.
    pub fn renew_at(&self) -> Option<Timestamp> {
        self.kept.values().map(|kept| kept.renew_at).min()
    }
}

/// After four fifths of its time, or after a day.
fn renewal(now: Timestamp, end: Timestamp) -> Timestamp {
    let life = end.duration_since(now).max(SignedDuration::ZERO);
    now.checked_add((life / 5 * 4).min(AGE_MAX)).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewed_in_time() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        for (life, want) in [(600, 480), (3607, 2885), (0, 0), (1 << 32, 24 * 3600)] {
            assert_eq!(
                renewal(at(1000), at(1000 + life)).as_second(),
                1000 + want,
                "{life}"
            );
        }
        assert_eq!(renewal(at(1000), at(0)), at(1000), "over already");
    }
}
