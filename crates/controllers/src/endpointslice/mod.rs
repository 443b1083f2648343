//! The EndpointSlice controller: lists the addresses behind each Service that has a selector.
//!
//! Follows `staging/src/k8s.io/endpointslice` and `pkg/controller/endpointslice`.

mod endpoints;
mod members;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::Controller;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::error::{Error, is_namespace_terminating, is_not_found};
use crate::informer::Informer;
use crate::objects;
use crate::own_version::{CACHE_WAIT, OwnVersions};
use crate::shared::Shared;

pub(crate) use endpoints::target;
pub(crate) use members::{Members, selector};

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const MANAGER: &str = "endpointslice-controller.k8s.io";

/// Runs the controller until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let slices: Informer<EndpointSlice> = Informer::start(
        Api::all(shared.client.clone()),
        watcher::Config::default()
            .any_semantic()
            .labels(&format!("{MANAGED_BY}={MANAGER}")),
        |slice| vec![of_service(objects::namespace(slice), service_name(slice))],
        |_| {},
        shutdown.clone(),
    );
    if !slices.ready().await {
        return;
    }
    let context = Arc::new(Context {
        shared: shared.clone(),
        slices: slices.clone(),
        members: Members::default(),
        written: OwnVersions::default(),
    });
    let of_pods = context.clone();
    let controller =
        Controller::for_shared_stream(shared.services.stream(), shared.services.store())
            .watches_shared_stream(shared.pods.stream(), move |pod| {
                of_pods.members.services_of(&of_pods.shared, &pod)
            })
            .watches_shared_stream(slices.stream(), |slice: Arc<EndpointSlice>| {
                [ObjectRef::new(service_name(&slice)).within(objects::namespace(&*slice))]
            });
    drive("endpointslice", controller, shutdown, move |service| {
        let context = context.clone();
        async move { context.reconcile(service).await }
    })
    .await;
}

struct Context {
    shared: Shared,
    slices: Informer<EndpointSlice>,
    members: Members,
    written: OwnVersions,
}

impl Context {
    async fn reconcile(&self, service: Arc<Service>) -> Result<Option<Duration>, Error> {
        if selector(&service).is_none() {
            return Ok(None);
        }
        let key = objects::key(&*service);
        if self.written.is_behind(&self.slices, &key) {
            return Ok(Some(CACHE_WAIT));
        }
        let namespace = objects::namespace(&*service);
        let pods = self.members.look(&self.shared, &service);
        let existing = self
            .slices
            .by_index(&of_service(namespace, objects::name(&*service)));
        let mut plan = plan::plan(&service, &pods, &existing);
        if objects::is_terminating(&*service) {
            // what is there is kept true until it goes, nothing new is made
            plan.create.clear();
        }
        self.write(&key, namespace, plan).await?;
        Ok(None)
    }

    async fn write(&self, key: &str, namespace: &str, plan: plan::Plan) -> Result<(), Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.shared.client.clone(), namespace);
        for slice in &plan.create {
            match api.create(&PostParams::default(), slice).await {
                Ok(slice) => self.written.wrote(key, &slice),
                Err(error) if is_namespace_terminating(&error) => return Ok(()),
                Err(error) => {
                    return Err(Error::api("create an EndpointSlice for Service", key)(
                        error,
                    ));
                }
            }
        }
        for slice in &plan.update {
            let written = api
                .replace(objects::name(slice), &PostParams::default(), slice)
                .await
                .map_err(Error::api("update EndpointSlice", objects::key(slice)))?;
            self.written.wrote(key, &written);
        }
        for name in &plan.delete {
            match api.delete(name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    return Err(Error::api(
                        "delete EndpointSlice",
                        format!("{namespace}/{name}"),
                    )(error));
                }
            }
        }
        Ok(())
    }
}

/// The Service that a slice is of.
pub(crate) fn service_name(slice: &EndpointSlice) -> &str {
    let labels = slice.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(SERVICE_NAME))
        .map(String::as_str)
        .unwrap_or_default()
}

/// Index entry of the slices of a Service.
pub(crate) fn of_service(namespace: &str, service: &str) -> String {
    format!("service/{namespace}/{service}")
}
