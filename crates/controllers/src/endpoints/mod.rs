//! The Endpoints controller: lists the addresses behind each Service that has a selector in one object of its name.
//!
//! Follows `pkg/controller/endpoint`. Services without a selector are left alone: their Endpoints are made by hand, and
//! go with them.

mod plan;
mod subsets;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::Controller;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::endpointslice::{Members, selector};
use crate::error::{Error, is_namespace_terminating, is_not_found};
use crate::events::{Recorder, Severity};
use crate::objects;
use crate::own_version::{CACHE_WAIT, OwnVersions};
use crate::shared::Shared;
use plan::Write;

/// An object of more addresses than this is written once in [`PAUSE`] at most: each write carries all of them.
const LARGE: usize = 100;
const PAUSE: Duration = Duration::from_secs(1);

/// Runs the controller until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let context = Arc::new(Context {
        recorder: Recorder::start(shared.client.clone(), "endpoint-controller"),
        shared: shared.clone(),
        members: Members::default(),
        written: OwnVersions::default(),
        large: Mutex::default(),
    });
    let (of_pods, of_services) = (context.clone(), context.clone());
    let controller =
        Controller::for_shared_stream(shared.services.stream(), shared.services.store())
            .watches_shared_stream(shared.pods.stream(), move |pod| {
                of_pods.members.services_of(&of_pods.shared, &pod)
            })
            .watches_shared_stream(shared.endpoints.stream(), |endpoints: Arc<Endpoints>| {
                [
                    ObjectRef::new(objects::name(&*endpoints))
                        .within(objects::namespace(&*endpoints)),
                ]
            });
    let stop = shutdown.clone();
    let reconciling = drive("endpoints", controller, shutdown, move |service| {
        let context = context.clone();
        async move { context.reconcile(service).await }
    });
    tokio::join!(reconciling, of_services.follow_deletions(stop));
}

struct Context {
    shared: Shared,
    recorder: Recorder,
    members: Members,
    written: OwnVersions,
    /// When large objects were last written.
    large: Mutex<HashMap<String, Instant>>,
}

impl Context {
    async fn reconcile(&self, service: Arc<Service>) -> Result<Option<Duration>, Error> {
        if selector(&service).is_none() {
            return Ok(None);
        }
        let key = objects::key(&*service);
        if self.written.is_behind(&self.shared.endpoints, &key) {
            return Ok(Some(CACHE_WAIT));
        }
        let (namespace, name) = (objects::namespace(&*service), objects::name(&*service));
        let pods = self.members.look(&self.shared, &service);
        let existing = self.shared.endpoints.get(Some(namespace), name);
        let write = plan::plan(&service, &pods, existing.as_deref());
        if let (Write::Update(_), Some(wait)) = (&write, self.wait(&key)) {
            return Ok(Some(wait));
        }
        let api: Api<Endpoints> = Api::namespaced(self.shared.client.clone(), namespace);
        let parameters = PostParams::default();
        let (result, action, word) = match &write {
            Write::Nothing => return Ok(None),
            Write::Create(new) => (
                api.create(&parameters, new).await,
                "create Endpoints",
                "Create",
            ),
            Write::Update(new) => (
                api.replace(name, &parameters, new).await,
                "update Endpoints",
                "Update",
            ),
        };
        match result {
            Ok(written) => {
                self.written.wrote(&key, &written);
                if let Write::Create(_) = &write {
                    // the Service may have gone meanwhile, and with it who would take these along
                    self.delete_orphan(namespace, name).await;
                }
                self.note(
                    &key,
                    subsets::len(written.subsets.as_deref().unwrap_or_default()),
                );
                Ok(None)
            }
            Err(error) if is_namespace_terminating(&error) => Ok(None),
            Err(error) => {
                let failed = Error::api(action, key.clone())(error);
                if !failed.is_stale() {
                    let reason = format!("FailedTo{word}Endpoint");
                    let what = match write {
                        Write::Create(_) => format!("create endpoint for service {key}"),
                        _ => format!("update endpoint {key}"),
                    };
                    let message = format!("Failed to {what}: {}", failed.cause());
                    self.recorder
                        .record(&*service, Severity::Warning, &reason, message);
                }
                Err(failed)
            }
        }
    }

    /// How long a large object is still left as it is.
    fn wait(&self, key: &str) -> Option<Duration> {
        let since = self.large.lock().get(key)?.elapsed();
        PAUSE.checked_sub(since).filter(|wait| !wait.is_zero())
    }

    fn note(&self, key: &str, addresses: usize) {
        let mut large = self.large.lock();
        if addresses > LARGE {
            large.insert(key.to_owned(), Instant::now());
        } else {
            large.remove(key);
        }
    }

    /// Endpoints go with their Service, also those that were made by hand. Of those that lost it while nobody looked, only
    /// this controller's own go.
    async fn follow_deletions(&self, shutdown: CancellationToken) {
        for endpoints in self.shared.endpoints.all() {
            let labels = endpoints.metadata.labels.iter().flatten();
            let own = labels
                .clone()
                .any(|(key, value)| key == plan::MANAGED_BY && value == plan::MANAGER);
            if own {
                self.delete_orphan(objects::namespace(&*endpoints), objects::name(&*endpoints))
                    .await;
            }
        }
        let services = self.shared.services.stream();
        let mut services = std::pin::pin!(services.take_until(shutdown.cancelled_owned()));
        while let Some(service) = services.next().await {
            self.delete_orphan(objects::namespace(&*service), objects::name(&*service))
                .await;
        }
    }

    async fn delete_orphan(&self, namespace: &str, name: &str) {
        if self.shared.services.get(Some(namespace), name).is_some() {
            return;
        }
        self.large.lock().remove(&format!("{namespace}/{name}"));
        let api: Api<Endpoints> = Api::namespaced(self.shared.client.clone(), namespace);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => {}
            Err(error) => {
                tracing::warn!(endpoints = %format!("{namespace}/{name}"), %error, "cannot delete Endpoints of a Service that is gone");
            }
        }
    }
}
