//! Secrets of type `kubernetes.io/service-account-token`: people still make them for tokens that do not end. They get a
//! token, the cluster's certificate and the namespace, and go with their account (upstream's tokens controller; like it
//! since 1.24, no account gets one by itself).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::error::{Error, is_not_found, status_code};
use crate::informer::Informer;
use crate::objects;
use crate::shared::{Shared, in_namespace};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The longest that can be asked for: such tokens end with their secret.
const SECONDS: i64 = 1 << 32;

/// Runs the controller until `shutdown`. `ca_pem` is what secrets get as `ca.crt`.
pub async fn run(shared: Shared, ca_pem: String, shutdown: CancellationToken) {
    let secrets: Informer<Secret> = Informer::start(
        Api::all(shared.client.clone()),
        watcher::Config::default()
            .any_semantic()
            .fields(&format!("type={TYPE}")),
        |secret| vec![in_namespace(objects::namespace(secret))],
        |_| {},
        shutdown.clone(),
    );
    let accounts: Informer<ServiceAccount> = Informer::start(
        Api::all(shared.client.clone()),
        watcher::Config::default().any_semantic(),
        |_| Vec::new(),
        |_| {},
        shutdown.clone(),
    );
    if !(secrets.ready().await && accounts.ready().await) {
        return;
    }
    let of_account = secrets.clone();
    let controller = Controller::for_shared_stream(secrets.stream(), secrets.store())
        .watches_shared_stream(accounts.stream(), move |account| {
            let secrets = of_account.by_index(&in_namespace(objects::namespace(&*account)));
            let named = secrets.into_iter().filter(|secret| {
                objects::annotation(&**secret, ACCOUNT) == Some(objects::name(&*account))
            });
            let refs: Vec<_> = named.map(|secret| ObjectRef::from_obj(&*secret)).collect();
            refs
        });
    let context = Arc::new(Context {
        client: shared.client,
        ca_pem,
    });
    drive(
        "serviceaccount-tokens",
        controller,
        shutdown,
        move |secret| {
            let context = context.clone();
            async move { context.reconcile(&secret).await }
        },
    )
    .await;
}

/// What to do with a secret.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Nothing,
    /// Its account is not there, or is another one of the same name.
    Delete,
    /// Something is missing; a token too, if that is said.
    Fill {
        token: bool,
    },
}

/// Compares a secret with its account.
fn decide(secret: &Secret, account: Option<&ServiceAccount>, ca_pem: &str) -> Step {
    if objects::is_terminating(secret) {
        return Step::Nothing;
    }
    let Some(account) = account else {
        return Step::Delete;
    };
    match objects::annotation(secret, ACCOUNT_UID) {
        Some(uid) if !uid.is_empty() && uid != objects::uid(account) => return Step::Delete,
        _ => {}
    }
    let data = |key: &str| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        data.map(|bytes| bytes.0.as_slice()).unwrap_or_default()
    };
    let token = data("token").is_empty();
    let uid = objects::annotation(secret, ACCOUNT_UID) == Some(objects::uid(account));
    let whole = uid
        && data("namespace") == objects::namespace(secret).as_bytes()
        && (ca_pem.is_empty() || data("ca.crt") == ca_pem.as_bytes());
    if whole && !token {
        Step::Nothing
    } else {
        Step::Fill { token }
    }
}

struct Context {
    client: kube::Client,
    ca_pem: String,
}

impl Context {
    async fn reconcile(&self, secret: &Secret) -> Result<Option<Duration>, Error> {
        let (namespace, name) = (objects::namespace(secret), objects::name(secret));
        let Some(of) = objects::annotation(secret, ACCOUNT) else {
            return Ok(None);
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        // asked for itself: an account that the cache does not have yet must not cost a secret its life
        let account = accounts.get_opt(of).await.map_err(Error::api(
            "get ServiceAccount",
            format!("{namespace}/{of}"),
        ))?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let what = format!("{namespace}/{name}");
        match decide(secret, account.as_ref(), &self.ca_pem) {
            Step::Nothing => Ok(None),
            Step::Delete => {
                let parameters = DeleteParams {
                    preconditions: Some(Preconditions {
                        uid: secret.metadata.uid.clone(),
                        ..Preconditions::default()
                    }),
                    ..DeleteParams::default()
                };
                match secrets.delete(name, &parameters).await {
                    Ok(_) => Ok(None),
                    // it is gone, or is another one
                    Err(error) if matches!(status_code(&error), Some(404 | 409)) => Ok(None),
                    Err(error) => Err(Error::api("delete Secret", what)(error)),
                }
            }
            Step::Fill { token } => {
                let token = match token {
                    true => Some(self.token(&accounts, of, secret).await?),
                    false => None,
                };
                let uid = account.as_ref().map(objects::uid);
                let change = json!({
                    "metadata": {
                        "resourceVersion": secret.metadata.resource_version, "uid": secret.metadata.uid,
                        "annotations": {ACCOUNT_UID: uid},
                    },
                    "data": self.data(namespace, token),
                });
                match secrets
                    .patch(name, &PatchParams::default(), &Patch::Merge(&change))
                    .await
                {
                    Ok(_) => Ok(None),
                    Err(error) if is_not_found(&error) => Ok(None),
                    Err(error) => Err(Error::api("update Secret", what)(error)),
                }
            }
        }
    }

    fn data(&self, namespace: &str, token: Option<String>) -> BTreeMap<&'static str, ByteString> {
        let mut data = BTreeMap::from([("namespace", ByteString(namespace.into()))]);
        if !self.ca_pem.is_empty() {
            data.insert("ca.crt", ByteString(self.ca_pem.clone().into_bytes()));
        }
        if let Some(token) = token {
            data.insert("token", ByteString(token.into_bytes()));
        }
        data
    }

    /// A token that ends with the secret.
    async fn token(
        &self,
        accounts: &Api<ServiceAccount>,
        account: &str,
        secret: &Secret,
    ) -> Result<String, Error> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Secret".into()),
                    name: secret.metadata.name.clone(),
                    uid: secret.metadata.uid.clone(),
                }),
                expiration_seconds: Some(SECONDS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer: TokenRequest = accounts
            .create_subresource("token", account, &PostParams::default(), &request)
            .await
            .map_err(Error::api("request a token of ServiceAccount", account))?;
        let token = answer.status.and_then(|status| status.token);
        Ok(token.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn what_is_done_with_a_secret() {
        let account: ServiceAccount = serde_json::from_value(
            json!({"metadata": {"namespace": "n", "name": "a", "uid": "u"}}),
        )
        .expect("an account");
        let secret = |uid: Value, data: Value| -> Secret {
            serde_json::from_value(json!({
                "metadata": {"namespace": "n", "name": "s", "annotations": {ACCOUNT: "a", ACCOUNT_UID: uid}}, "data": data,
            }))
            .expect("a secret")
        };
        // `n`, `PEM`, `x`
        let whole = json!({"namespace": "bg==", "ca.crt": "UEVN", "token": "eA=="});
        let without = |key: &str| {
            let mut data = whole.clone();
            data.as_object_mut().expect("an object").remove(key);
            data
        };
        let fill = |token| Step::Fill { token };
        let cases = [
            (secret(json!("u"), whole.clone()), Step::Nothing),
            (secret(json!(""), json!({})), fill(true)),
            (secret(json!(""), whole.clone()), fill(false)),
            (secret(json!("u"), without("token")), fill(true)),
            (secret(json!("u"), without("ca.crt")), fill(false)),
            (secret(json!("u"), without("namespace")), fill(false)),
            (secret(json!("other"), whole.clone()), Step::Delete),
        ];
        for (secret, expected) in cases {
            assert_eq!(
                decide(&secret, Some(&account), "PEM"),
                expected,
                "{secret:?}"
            );
            assert_eq!(decide(&secret, None, "PEM"), Step::Delete);
        }
        let mut leaving = secret(json!("u"), whole);
        leaving.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
        assert_eq!(decide(&leaving, None, "PEM"), Step::Nothing);
    }
}
