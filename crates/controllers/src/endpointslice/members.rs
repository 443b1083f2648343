//! Which Services a pod belongs to, or belonged to when they were last looked at.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;

use crate::objects;
use crate::shared::{Shared, in_namespace};

/// The pods that each Service had when last looked at: one that stops matching must still lead to it.
#[derive(Default)]
pub struct Members(Mutex<HashMap<String, HashSet<String>>>);

impl Members {
    /// The Services that a changed pod matters to.
    pub fn services_of(&self, shared: &Shared, pod: &Pod) -> Vec<ObjectRef<Service>> {
        let services = shared
            .services
            .by_index(&in_namespace(objects::namespace(pod)));
        let members = self.0.lock();
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

    /// The pods that the Service selects, which are remembered.
    pub fn look(&self, shared: &Shared, service: &Service) -> Vec<Arc<Pod>> {
        let pods: Vec<Arc<Pod>> = shared
            .pods
            .by_index(&in_namespace(objects::namespace(service)))
            .into_iter()
            .filter(|pod| selects(service, pod))
            .collect();
        let uids = pods
            .iter()
            .map(|pod| objects::uid(&**pod).to_owned())
            .collect();
        let mut members = self.0.lock();
        members.insert(objects::key(service), uids);
        if members.len() > shared.services.store().len() + 64 {
            let live: HashSet<String> = shared
                .services
                .all()
                .iter()
                .map(|one| objects::key(&**one))
                .collect();
            members.retain(|key, _| live.contains(key));
        }
        pods
    }
}

/// The selector of a Service whose endpoints are found by one.
pub fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
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
