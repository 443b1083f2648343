//! Gives every namespace its `default` ServiceAccount and the `kube-root-ca.crt` ConfigMap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::error::{Error, is_namespace_terminating, is_not_found, reason};
use crate::informer::Informer;
use crate::objects;
use crate::shared::Shared;

const ACCOUNT: &str = "default";
const BUNDLE: &str = "kube-root-ca.crt";
const BUNDLE_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
     distributions of Kubernetes clusters.";

/// Runs the controller until `shutdown`. `ca_pem` is what the bundle holds.
pub async fn run(shared: Shared, ca_pem: String, shutdown: CancellationToken) {
    let named = |name: &str| {
        watcher::Config::default()
            .any_semantic()
            .fields(&format!("metadata.name={name}"))
    };
    let accounts: Informer<ServiceAccount> = Informer::start(
        Api::all(shared.client.clone()),
        named(ACCOUNT),
        |_| Vec::new(),
        |_| {},
        shutdown.clone(),
    );
    let bundles: Informer<ConfigMap> = Informer::start(
        Api::all(shared.client.clone()),
        named(BUNDLE),
        |_| Vec::new(),
        |_| {},
        shutdown.clone(),
    );
    if !accounts.ready().await || !bundles.ready().await {
        return;
    }
    let controller =
        Controller::for_shared_stream(shared.namespaces.stream(), shared.namespaces.store())
            .watches_shared_stream(accounts.stream(), |account: Arc<ServiceAccount>| {
                (objects::name(&*account) == ACCOUNT)
                    .then(|| ObjectRef::new(objects::namespace(&*account)))
            })
            .watches_shared_stream(bundles.stream(), |bundle: Arc<ConfigMap>| {
                (objects::name(&*bundle) == BUNDLE)
                    .then(|| ObjectRef::new(objects::namespace(&*bundle)))
            });
    let context = Arc::new(Context {
        shared,
        accounts,
        bundles,
        ca_pem,
    });
    drive(
        "namespace-furniture",
        controller,
        shutdown,
        move |namespace| {
            let context = context.clone();
            async move { context.reconcile(namespace).await }
        },
    )
    .await;
}

struct Context {
    shared: Shared,
    accounts: Informer<ServiceAccount>,
    bundles: Informer<ConfigMap>,
    ca_pem: String,
}

impl Context {
    async fn reconcile(&self, namespace: Arc<Namespace>) -> Result<Option<Duration>, Error> {
        if objects::is_terminating(&*namespace) {
            return Ok(None);
        }
        let name = objects::name(&*namespace);
        if self.accounts.get(Some(name), ACCOUNT).is_none() {
            let account = ServiceAccount {
                metadata: meta(name, ACCOUNT),
                ..Default::default()
            };
            let api: Api<ServiceAccount> = Api::namespaced(self.shared.client.clone(), name);
            settle(api.create(&PostParams::default(), &account).await).map_err(Error::api(
                "create ServiceAccount",
                format!("{name}/{ACCOUNT}"),
            ))?;
        }
        if !self.ca_pem.is_empty() {
            self.bundle(name).await?;
        }
        Ok(None)
    }

    async fn bundle(&self, namespace: &str) -> Result<(), Error> {
        let data = BTreeMap::from([(BUNDLE_KEY.to_owned(), self.ca_pem.clone())]);
        let api: Api<ConfigMap> = Api::namespaced(self.shared.client.clone(), namespace);
        let object = || format!("{namespace}/{BUNDLE}");
        match self.bundles.get(Some(namespace), BUNDLE) {
            None => {
                let mut metadata = meta(namespace, BUNDLE);
                metadata.annotations = Some(
                    [(
                        "kubernetes.io/description".to_owned(),
                        DESCRIPTION.to_owned(),
                    )]
                    .into(),
                );
                let bundle = ConfigMap {
                    metadata,
                    data: Some(data),
                    ..Default::default()
                };
                settle(api.create(&PostParams::default(), &bundle).await)
                    .map_err(Error::api("create ConfigMap", object()))
            }
            Some(known) if known.data.as_ref() != Some(&data) => {
                let mut bundle = ConfigMap::clone(&known);
                bundle.data = Some(data);
                settle(api.replace(BUNDLE, &PostParams::default(), &bundle).await)
                    .map_err(Error::api("update ConfigMap", object()))
            }
            Some(_) => Ok(()),
        }
    }
}

fn meta(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..Default::default()
    }
}

/// There already, or the namespace is on its way out: both are as good.
fn settle<K>(result: Result<K, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if reason(&error) == "AlreadyExists" => Ok(()),
        Err(error) if is_namespace_terminating(&error) || is_not_found(&error) => Ok(()),
        other => other.map(drop),
    }
}
