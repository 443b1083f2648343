//! ResourceQuotas: what is used is counted again when something goes or shrinks, and now and then (upstream's resourcequota controller).
//! The API server charges what is created; `quota` is the arithmetic of both.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, Service};
use kube::api::{ListParams, PostParams};
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::discovery::ApiResource;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use quota::count::{Found, Needed, needed, same, status};
use quota::recent::Recent;
use quota::{amounts, to_value};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::error::{Error, is_not_found, status_code};
use crate::informer::Informer;
use crate::objects;
use crate::own_writes::OwnWrites;
use crate::shared::{Shared, in_namespace};

/// The longest wait for a write of our own to come back by the watch.
const LOST_EVENT: Duration = Duration::from_secs(60);
/// So often a quota is counted whose kinds all tell when something of them goes.
const RESYNC: Duration = Duration::from_secs(60);
/// So often one that counts kinds which nobody here watches; their number costs one small request each.
const POLL: Duration = Duration::from_secs(2);
/// What the API server charged within this time may not be stored yet, and is not taken back.
const SETTLED: Duration = Duration::from_millis(500);
/// Kinds of groups that were looked up; all are forgotten at this number.
const KINDS_MAX: usize = 1000;

/// Runs the controller until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    let quotas: Informer<ResourceQuota> = Informer::start(
        Api::all(shared.client.clone()),
        watcher::Config::default().any_semantic(),
        |quota| vec![in_namespace(objects::namespace(quota))],
        |_| {},
        shutdown.clone(),
    );
    if !quotas.ready().await {
        return;
    }
    let context = Arc::new(Context {
        client: shared.client.clone(),
        own_writes: OwnWrites::default(),
        charged: Mutex::default(),
        kinds: Mutex::default(),
    });
    let (of_pod, of_service) = (quotas.clone(), quotas.clone());
    let (pods, counted) = (shared.pods.clone(), Counted::default());
    let controller = Controller::for_shared_stream(quotas.stream(), quotas.store())
        .watches_shared_stream(shared.pods.stream(), move |pod: Arc<Pod>| {
            let there = pods.get(Some(objects::namespace(&*pod)), objects::name(&*pod));
            let there = there.is_some_and(|there| objects::uid(&*there) == objects::uid(&*pod));
            match counted.changes(&pod, there) {
                true => beside(&of_pod, &*pod),
                false => Vec::new(),
            }
        })
        .watches_shared_stream(shared.services.stream(), move |service: Arc<Service>| {
            beside(&of_service, &*service)
        });
    drive("resource-quota", controller, shutdown, move |quota| {
        let context = context.clone();
        async move { context.reconcile(&quota).await }
    })
    .await;
}

/// The quotas of an object's namespace.
fn beside<K: Resource>(
    quotas: &Informer<ResourceQuota>,
    object: &K,
) -> Vec<ObjectRef<ResourceQuota>> {
    let here = quotas.by_index(&in_namespace(objects::namespace(object)));
    here.iter().map(|one| ObjectRef::from_obj(&**one)).collect()
}

/// What of each pod counts, by uid: most of what happens to pods changes nothing of it, and all pods of a namespace are read
/// to count.
#[derive(Default)]
struct Counted(Mutex<HashMap<String, u64>>);

impl Counted {
    /// Whether less may be used since this event. A new pod has been charged.
    fn changes(&self, pod: &Pod, there: bool) -> bool {
        let mut counted = self.0.lock();
        if !there {
            counted.remove(objects::uid(pod));
            return true;
        }
        let now = of_pod(pod);
        match counted.insert(objects::uid(pod).to_owned(), now) {
            Some(before) => before != now,
            None => !objects::is_active(pod),
        }
    }
}

/// Tells two states of a pod apart that count differently.
fn of_pod(pod: &Pod) -> u64 {
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|spec| {
        let init = spec.init_containers.iter().flatten();
        spec.containers.iter().chain(init)
    });
    let resources: Vec<_> = containers.map(|one| &one.resources).collect();
    let status = pod.status.as_ref();
    let statuses = status.and_then(|status| status.container_statuses.as_ref());
    let given: Vec<_> = statuses
        .into_iter()
        .flatten()
        .map(|one| (&one.resources, &one.allocated_resources))
        .collect();
    let of_pod = spec.map(|spec| &spec.resources);
    let all = serde_json::to_string(&(resources, of_pod, given)).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    (all, objects::is_active(pod)).hash(&mut hasher);
    hasher.finish()
}

struct Context {
    client: Client,
    own_writes: OwnWrites,
    /// By uid of a quota.
    charged: Mutex<HashMap<String, Recent>>,
    /// By group and plural.
    kinds: Mutex<HashMap<(String, String), ApiResource>>,
}

impl Context {
    async fn reconcile(&self, quota: &ResourceQuota) -> Result<Option<Duration>, Error> {
        if objects::is_terminating(quota) {
            return Ok(None);
        }
        if self.own_writes.is_behind(quota) {
            return Ok(Some(LOST_EVENT));
        }
        let object = serde_json::to_value(quota).unwrap_or_default();
        let old = &object["status"];
        self.see(quota, &old["used"]);
        let needed = needed(&object);
        let again = match needed.iter().all(watched) {
            true => RESYNC,
            false => POLL,
        };
        let mut found = Vec::new();
        for kind in needed {
            if let Some(of_kind) = self.find(objects::namespace(quota), &kind).await? {
                found.push((kind, of_kind));
            }
        }
        let mut new = status(&object, &found, Timestamp::now());
        let (used, late) = self.settled(quota, &new["used"]);
        new["used"] = used;
        let again = if late { SETTLED } else { again };
        if !same(old, &new) {
            self.write(quota, new).await?;
        }
        Ok(Some(again))
    }

    /// What is used by the status, before anything is counted.
    fn see(&self, quota: &ResourceQuota, used: &Value) {
        let (used, now) = (amounts(used), Instant::now());
        let mut charged = self.charged.lock();
        if charged.len() >= KINDS_MAX {
            charged.clear();
        }
        match charged.get_mut(objects::uid(quota)) {
            Some(recent) => recent.see(used, now),
            None => {
                let recent = Recent::new(used, SETTLED, now);
                charged.insert(objects::uid(quota).to_owned(), recent);
            }
        }
    }

    /// What the status should say of what was counted, and whether it is to be counted again soon.
    fn settled(&self, quota: &ResourceQuota, counted: &Value) -> (Value, bool) {
        match self.charged.lock().get_mut(objects::uid(quota)) {
            Some(recent) => {
                let (used, late) = recent.settled(amounts(counted), Instant::now());
                (to_value(&used), late)
            }
            None => (counted.clone(), false),
        }
    }

    /// The objects of a kind or their number; nothing when there is no such kind.
    async fn find(&self, namespace: &str, kind: &Needed) -> Result<Option<Found>, Error> {
        let Some(resource) = self.resource(kind).await? else {
            return Ok(None);
        };
        if let Some(found) = self.find_by(namespace, kind, &resource).await? {
            return Ok(Some(found));
        }
        // the version that is remembered may not be served any more
        let key = (kind.group.clone(), kind.plural.clone());
        if self.kinds.lock().remove(&key).is_none() {
            return Ok(None);
        }
        match self.resource(kind).await? {
            Some(other) if other.version != resource.version => {
                self.find_by(namespace, kind, &other).await
            }
            _ => Ok(None),
        }
    }

    async fn find_by(
        &self,
        namespace: &str,
        kind: &Needed,
        resource: &ApiResource,
    ) -> Result<Option<Found>, Error> {
        let what = format!("all {} in {namespace}", kind.plural);
        if kind.objects {
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), namespace, resource);
            let list = api
                .list(&ListParams::default())
                .await
                .map_err(Error::api("list", what))?;
            let objects = list.items.iter();
            let objects = objects.map(|one| serde_json::to_value(one).unwrap_or_default());
            return Ok(Some(Found::Objects(objects.collect())));
        }
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::namespaced_with(self.client.clone(), namespace, resource);
        match api.list_metadata(&ListParams::default().limit(1)).await {
            Ok(list) => {
                let more = list.metadata.remaining_item_count.unwrap_or(0);
                let first = i64::try_from(list.items.len()).unwrap_or(0);
                Ok(Some(Found::Number(first + more)))
            }
            Err(error) if matches!(status_code(&error), Some(404 | 405)) => Ok(None),
            Err(error) => Err(Error::api("count", what)(error)),
        }
    }

    async fn resource(&self, kind: &Needed) -> Result<Option<ApiResource>, Error> {
        if kind.group.is_empty() {
            return Ok(Some(ApiResource {
                group: String::new(),
                version: "v1".into(),
                api_version: "v1".into(),
                kind: String::new(),
                plural: kind.plural.clone(),
            }));
        }
        let key = (kind.group.clone(), kind.plural.clone());
        if let Some(known) = self.kinds.lock().get(&key) {
            return Ok(Some(known.clone()));
        }
        let group = match kube::discovery::group(&self.client, &kind.group).await {
            Ok(group) => group,
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(kube::Error::Discovery(_)) => return Ok(None),
            Err(error) => return Err(Error::api("discover", kind.group.clone())(error)),
        };
        let found = group
            .resources_by_stability()
            .into_iter()
            .map(|(resource, _)| resource)
            .find(|resource| resource.plural == kind.plural);
        if let Some(found) = &found {
            let mut kinds = self.kinds.lock();
            if kinds.len() >= KINDS_MAX {
                kinds.clear();
            }
            kinds.insert(key, found.clone());
        }
        Ok(found)
    }

    async fn write(&self, quota: &ResourceQuota, status: Value) -> Result<(), Error> {
        let api: Api<ResourceQuota> =
            Api::namespaced(self.client.clone(), objects::namespace(quota));
        let used = amounts(&status["used"]);
        let mut changed = quota.clone();
        changed.status = serde_json::from_value(status).ok();
        let written = api
            .replace_status(objects::name(quota), &PostParams::default(), &changed)
            .await;
        match written {
            Ok(written) => {
                self.own_writes.wrote(&written);
                if let Some(recent) = self.charged.lock().get_mut(objects::uid(quota)) {
                    recent.wrote(used);
                }
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => {
                let what = "update the status of ResourceQuota";
                Err(Error::api(what, objects::key(quota))(error))
            }
        }
    }
}

/// Whether a change of such objects leads here.
fn watched(kind: &Needed) -> bool {
    kind.group.is_empty() && matches!(kind.plural.as_str(), "pods" | "services")
}
