//! The EndpointSlice mirroring controller: what Endpoints made by hand say is said by slices, too, which is what proxies and
//! name servers read.
//!
//! Follows `pkg/controller/endpointslicemirroring`. Only Endpoints of a Service without a selector are mirrored. Slices
//! belong to their Endpoints and are collected with them.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::Controller;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::endpointslice::{MANAGED_BY, of_service, service_name};
use crate::error::{Error, is_namespace_terminating, is_not_found};
use crate::events::{Recorder, Severity};
use crate::informer::Informer;
use crate::objects;
use crate::own_version::{CACHE_WAIT, OwnVersions};
use crate::shared::Shared;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// `true` on Endpoints that somebody else makes slices for.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// On Endpoints that are a lock.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

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
    let endpoints = &shared.endpoints;
    let controller = Controller::for_shared_stream(endpoints.stream(), endpoints.store())
        .watches_shared_stream(shared.services.stream(), |service: Arc<Service>| {
            [ObjectRef::new(objects::name(&*service)).within(objects::namespace(&*service))]
        })
        .watches_shared_stream(slices.stream(), |slice: Arc<EndpointSlice>| {
            [ObjectRef::new(service_name(&slice)).within(objects::namespace(&*slice))]
        });
    let context = Arc::new(Context {
        recorder: Recorder::start(shared.client.clone(), "endpoint-slice-mirroring-controller"),
        shared: shared.clone(),
        slices,
        written: OwnVersions::default(),
    });
    drive("endpointslicemirroring", controller, shutdown, move |one| {
        let context = context.clone();
        async move { context.reconcile(one).await }
    })
    .await;
}

struct Context {
    shared: Shared,
    recorder: Recorder,
    slices: Informer<EndpointSlice>,
    written: OwnVersions,
}

impl Context {
    async fn reconcile(&self, endpoints: Arc<Endpoints>) -> Result<Option<Duration>, Error> {
        if objects::is_terminating(&*endpoints) {
            return Ok(None);
        }
        let (namespace, name) = (objects::namespace(&*endpoints), objects::name(&*endpoints));
        let key = objects::key(&*endpoints);
        if self.written.is_behind(&self.slices, &key) {
            return Ok(Some(CACHE_WAIT));
        }
        let existing = self.slices.by_index(&of_service(namespace, name));
        let service = self.shared.services.get(Some(namespace), name);
        let plan = if service.is_some_and(|service| is_mirrored(&endpoints, &service)) {
            plan::plan(&endpoints, &existing)
        } else {
            let names = existing
                .iter()
                .map(|slice| objects::name(&**slice).to_owned());
            plan::Plan {
                delete: names.collect(),
                ..Default::default()
            }
        };
        self.tell(&endpoints, &plan);
        self.write(&key, namespace, plan).await?;
        Ok(None)
    }

    fn tell(&self, endpoints: &Endpoints, plan: &plan::Plan) {
        if plan.invalid > 0 {
            let message = format!(
                "Skipped {} invalid IP addresses when mirroring to EndpointSlices",
                plan.invalid
            );
            self.recorder
                .record(endpoints, Severity::Warning, "InvalidIPAddress", message);
        }
        if plan.beyond > 0 {
            let message = format!(
                "A max of {} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                plan::ADDRESSES_MAX,
                plan.beyond + plan.invalid
            );
            self.recorder.record(
                endpoints,
                Severity::Warning,
                "TooManyAddressesToMirror",
                message,
            );
        }
    }

    async fn write(&self, key: &str, namespace: &str, plan: plan::Plan) -> Result<(), Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.shared.client.clone(), namespace);
        for slice in &plan.create {
            match api.create(&PostParams::default(), slice).await {
                Ok(slice) => self.written.wrote(key, &slice),
                Err(error) if is_namespace_terminating(&error) => return Ok(()),
                Err(error) => return Err(Error::api("mirror Endpoints", key)(error)),
            }
        }
        for slice in &plan.update {
            let written = api
                .replace(objects::name(slice), &PostParams::default(), slice)
                .await
                .map_err(Error::api("mirror Endpoints", key))?;
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

fn is_mirrored(endpoints: &Endpoints, service: &Service) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    let skipped = labels
        .and_then(|labels| labels.get(SKIP))
        .map(String::as_str)
        == Some("true");
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    !skipped
        && objects::annotation(endpoints, LEADER).is_none()
        && selector.is_none_or(|selector| selector.is_empty())
}
