//! The EndpointSlice controller: lists the addresses behind each Service that has a selector.
//!
//! Follows `staging/src/k8s.io/endpointslice` and `pkg/controller/endpointslice`.

mod endpoints;
mod plan;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::Controller;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::error::{Error, is_namespace_terminating, is_not_found};
use crate::informer::{Informer, revision_of};
use crate::objects;
use crate::shared::{Shared, in_namespace};

pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const MANAGER: &str = "endpointslice-controller.k8s.io";

/// How long a cache that is behind our own writes is waited for.
const CACHE_WAIT: Duration = Duration::from_secs(5);

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
        members: Mutex::default(),
        written: Mutex::default(),
    });
    let of_pods = context.clone();
    let controller =
        Controller::for_shared_stream(shared.services.stream(), shared.services.store())
            .watches_shared_stream(shared.pods.stream(), move |pod| of_pods.services_of(&pod))
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
    /// The pods that each service had when last looked at: one that stops matching must still lead to it.
    members: Mutex<HashMap<String, HashSet<String>>>,
    /// The newest resourceVersion written for each service.
    written: Mutex<HashMap<String, (u64, Instant)>>,
}

impl Context {
    fn services_of(&self, pod: &Pod) -> Vec<ObjectRef<Service>> {
        let services = self
            .shared
            .services
            .by_index(&in_namespace(objects::namespace(pod)));
        let members = self.members.lock();
        services
            .iter()
            .filter(|service| {
                selects(service, pod)
                    || members
                        .get(&objects::key(&***service))
                        .is_some_and(|uids| uids.contains(objects::uid(pod)))
            })
            .map(|service| ObjectRef::from_obj(&**service))
            .collect()
    }

    async fn reconcile(&self, service: Arc<Service>) -> Result<Option<Duration>, Error> {
        if objects::is_terminating(&*service) || selector(&service).is_none() {
            return Ok(None);
        }
        let key = objects::key(&*service);
        if self.is_behind(&key) {
            return Ok(Some(CACHE_WAIT));
        }
        let namespace = objects::namespace(&*service);
        let pods: Vec<Arc<Pod>> = self
            .shared
            .pods
            .by_index(&in_namespace(namespace))
            .into_iter()
            .filter(|pod| selects(&service, pod))
            .collect();
        self.remember(&key, &pods);
        let existing = self
            .slices
            .by_index(&of_service(namespace, objects::name(&*service)));
        let plan = plan::plan(&service, &pods, &existing);
        self.write(&key, namespace, plan).await?;
        Ok(None)
    }

    async fn write(&self, key: &str, namespace: &str, plan: plan::Plan) -> Result<(), Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.shared.client.clone(), namespace);
        for slice in &plan.create {
            match api.create(&PostParams::default(), slice).await {
                Ok(slice) => self.wrote(key, &slice),
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
            self.wrote(key, &written);
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

    fn wrote(&self, key: &str, slice: &EndpointSlice) {
        let version = (revision_of(slice), Instant::now());
        self.written.lock().insert(key.to_owned(), version);
    }

    /// The cache of slices does not show what was written for this service: planning with it would make doubles.
    fn is_behind(&self, key: &str) -> bool {
        let mut written = self.written.lock();
        let Some((version, at)) = written.get(key) else {
            return false;
        };
        let behind = self.slices.progress().0 < *version && at.elapsed() < CACHE_WAIT;
        if !behind {
            written.remove(key);
        }
        behind
    }

    fn remember(&self, key: &str, pods: &[Arc<Pod>]) {
        let uids = pods
            .iter()
            .map(|pod| objects::uid(&**pod).to_owned())
            .collect();
        let mut members = self.members.lock();
        members.insert(key.to_owned(), uids);
        let services = self.shared.services.store().len();
        if members.len() > services + 64 {
            let live: HashSet<String> = self
                .shared
                .services
                .all()
                .iter()
                .map(|one| objects::key(&**one))
                .collect();
            members.retain(|key, _| live.contains(key));
        }
    }
}

fn selector(service: &Service) -> Option<&std::collections::BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector
        .as_ref()
        .filter(|selector| !selector.is_empty())
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    selector(service).is_some_and(|selector| {
        selector
            .iter()
            .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    })
}

fn service_name(slice: &EndpointSlice) -> &str {
    let labels = slice.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(SERVICE_NAME))
        .map(String::as_str)
        .unwrap_or_default()
}

fn of_service(namespace: &str, service: &str) -> String {
    format!("service/{namespace}/{service}")
}
