//! Keeps decisions in the API, as ScalingDecisions of a group of our own, and fills in afterwards what became of the
//! pods that they asked for.
//!
//! Bounded: so many per autoscaler and in all, so many bytes; changes of size and the rest have shares of their own,
//! so that load that trembles around a limit does not push out why the size is what it is. Each is owned by its
//! autoscaler and goes with it. An API server that does not serve the group (a stock one) is no trouble: decisions then
//! are only in the log.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use autoscale::Decision;
use autoscale::record::{Followed, GROUP, KIND, LABEL, PLURAL, Phase, Record, VERSION, gist};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::follow::{Follower, Pending};
use super::record::{DecisionRecord, DecisionSink};
use crate::error::{is_not_found, status_code};
use crate::informer::Informer;
use crate::objects;

/// Decisions that wait to be written; the oldest give way.
const QUEUE_MAX: usize = 256;
/// Changes of size that are kept per autoscaler.
const RESCALES_MAX: usize = 60;
/// Other decisions that are kept per autoscaler.
const OTHERS_MAX: usize = 40;
/// What all decisions of one autoscaler may take, as JSON.
const AUTOSCALER_BYTES_MAX: usize = 2 << 20;
/// Decisions that are kept in all.
const ALL_MAX: usize = 5000;
/// What all decisions may take, as JSON.
const ALL_BYTES_MAX: usize = 24 << 20;
/// Inputs larger than this are not kept (some 1000 pods): the sentences are.
const INPUTS_BYTES_MAX: usize = 512 << 10;
/// Time between two looks at what is waited for.
const TICK: Duration = Duration::from_millis(250);
/// Time between two writes of what became of the pods of one decision, until all are ready.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Attempts at one write.
const ATTEMPTS: u32 = 5;
const PAGE: u32 = 100;

/// The sink: hands decisions over to [`run`]. Cheap to clone.
#[derive(Clone, Default)]
pub struct KeptDecisions {
    queue: Arc<Mutex<VecDeque<DecisionRecord>>>,
    arrived: Arc<Notify>,
}

impl DecisionSink for KeptDecisions {
    fn record(&self, record: DecisionRecord) {
        let mut queue = self.queue.lock();
        if queue.len() >= QUEUE_MAX {
            tracing::warn!("a scaling decision is not kept: the API does not keep up");
            queue.pop_front();
        }
        queue.push_back(record);
        drop(queue);
        self.arrived.notify_one();
    }
}

impl KeptDecisions {
    async fn next(&self) -> DecisionRecord {
        loop {
            let record = self.queue.lock().pop_front();
            if let Some(record) = record {
                return record;
            }
            self.arrived.notified().await;
        }
    }
}

/// Writes what comes until `shutdown` is cancelled.
pub(crate) async fn run(
    client: Client,
    pods: Informer<Pod>,
    decisions: KeptDecisions,
    shutdown: CancellationToken,
) {
    let keeper = tokio::select! {
        () = shutdown.cancelled() => return,
        keeper = Keeper::load(client) => keeper,
    };
    let Some(mut keeper) = keeper else {
        tracing::info!("the API does not serve {GROUP}: scaling decisions are in the log only");
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = decisions.next() => {}
            }
        }
    };
    let mut changes = std::pin::pin!(pods.stream());
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let waiting = !keeper.follower.pending.is_empty();
        tokio::select! {
            // Pods first: their times are those at which they are seen.
            biased;
            () = shutdown.cancelled() => return,
            Some(pod) = changes.next() => {
                let there = pods.get(Some(objects::namespace(&*pod)), objects::name(&*pod));
                let gone = there.is_none_or(|there| objects::uid(&*there) != objects::uid(&*pod));
                keeper.follower.saw(&pod, gone, Timestamp::now());
            }
            record = decisions.next() => keeper.keep(record).await,
            _ = ticks.tick(), if waiting => {
                keeper.follower.tidy(Timestamp::now());
                keeper.write_statuses().await;
            }
        }
    }
}

/// One that is kept, oldest first among those of its autoscaler.
struct Kept {
    namespace: String,
    name: String,
    time: Timestamp,
    rescale: bool,
    bytes: usize,
}

struct Keeper {
    client: Client,
    resource: ApiResource,
    /// By the autoscaler's uid.
    kept: HashMap<String, VecDeque<Kept>>,
    /// The gist of each autoscaler's newest, by uid.
    newest: HashMap<String, String>,
    follower: Follower,
    statuses_at: tokio::time::Instant,
}

impl Keeper {
    /// Reads what earlier runs kept; nothing if the API does not serve the group.
    async fn load(client: Client) -> Option<Self> {
        let resource = ApiResource {
            group: GROUP.to_owned(),
            version: VERSION.to_owned(),
            api_version: format!("{GROUP}/{VERSION}"),
            kind: KIND.to_owned(),
            plural: PLURAL.to_owned(),
        };
        let mut keeper = Self {
            client,
            resource,
            kept: HashMap::new(),
            newest: HashMap::new(),
            follower: Follower::default(),
            statuses_at: tokio::time::Instant::now(),
        };
        let mut pause = Duration::from_millis(100);
        loop {
            match keeper.read(true).await {
                Ok(()) => return Some(keeper),
                Err(error) if is_not_found(&error) => return None,
                Err(error) => {
                    tracing::warn!(%error, "kept scaling decisions cannot be read, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(10));
                }
            }
        }
    }

    /// Reads what is there; follows what was still waited for, on the first time.
    async fn read(&mut self, follow: bool) -> Result<(), kube::Error> {
        let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &self.resource);
        let mut kept: HashMap<String, VecDeque<Kept>> = HashMap::new();
        let mut page = ListParams::default().limit(PAGE);
        let now = Timestamp::now();
        loop {
            let list = all.list(&page).await?;
            for object in list.items {
                let Some((uid, one, record)) = understood(&object) else {
                    continue;
                };
                let status = object.data.get("status");
                let followed = status.and_then(|status| Followed::deserialize(status).ok());
                if let Some(followed) = followed.filter(|_| follow) {
                    let pending = Pending::new(&one.namespace, &one.name, &record, followed);
                    if let Some(pending) = pending {
                        self.follower.follow(pending, now);
                    }
                }
                let others = kept.entry(uid.clone()).or_default();
                if others.iter().all(|other| other.time <= one.time) {
                    let decision = record.decision.as_ref();
                    let decision = decision.and_then(|value| Decision::deserialize(value).ok());
                    if let Some(decision) = decision {
                        self.newest.insert(uid, gist(&decision));
                    }
                }
                others.push_back(one);
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = ListParams::default().limit(PAGE).continue_token(&token),
                None => break,
            }
        }
        for ones in kept.values_mut() {
            ones.make_contiguous().sort_by_key(|one| one.time);
        }
        self.newest.retain(|uid, _| kept.contains_key(uid));
        self.kept = kept;
        Ok(())
    }

    async fn keep(&mut self, decision: DecisionRecord) {
        let DecisionRecord {
            uid,
            inputs,
            decision,
        } = decision;
        let gist = gist(&decision);
        let rescale = decision.rescale.is_some();
        // After a restart the first look at an autoscaler differs from nothing known, and still is no news.
        if !rescale && self.newest.get(&uid) == Some(&gist) {
            return;
        }
        let record = Record::new(&inputs, &decision, INPUTS_BYTES_MAX);
        let namespace = inputs.hpa.namespace.clone();
        let name = name(&record);
        let followed = Followed::begin(&record);
        let object = object(&self.resource, &namespace, &name, &uid, &record, &followed);
        let bytes = object.data.to_string().len();
        if !self.create(&namespace, &object).await {
            return;
        }
        self.newest.insert(uid.clone(), gist);
        if let Some(pending) = Pending::new(&namespace, &name, &record, followed) {
            self.follower.follow(pending, Timestamp::now());
        }
        self.kept.entry(uid.clone()).or_default().push_back(Kept {
            namespace,
            name,
            time: record.time,
            rescale,
            bytes,
        });
        self.bound(&uid).await;
    }

    /// Creates, trying again when the API is away for a moment; false if it cannot be kept.
    async fn create(&self, namespace: &str, object: &DynamicObject) -> bool {
        let api = self.api(namespace);
        let mut pause = Duration::from_millis(100);
        for attempt in 1..=ATTEMPTS {
            let error = match api.create(&PostParams::default(), object).await {
                Ok(_) => return true,
                Err(error) => error,
            };
            match status_code(&error) {
                // An earlier attempt came through.
                Some(409) => return attempt > 1,
                // The namespace is on its way out.
                Some(403 | 404) => return false,
                _ if attempt == ATTEMPTS => {
                    tracing::warn!(%error, "a scaling decision is not kept");
                }
                _ => {
                    tokio::time::sleep(pause).await;
                    pause *= 3;
                }
            }
        }
        false
    }

    /// Deletes what is too much, of this autoscaler and of all.
    async fn bound(&mut self, uid: &str) {
        let mut extra = self.kept.get_mut(uid).map(surplus).unwrap_or_default();
        if self.is_too_much() {
            // Those of autoscalers that are gone went with them, unnoticed by us.
            if let Err(error) = self.read(false).await {
                tracing::debug!(%error, "kept scaling decisions cannot be read");
            }
        }
        while self.is_too_much() {
            // The one that takes most gives, so that busy autoscalers do not push out the quiet ones' reasons.
            let largest = self.kept.values_mut();
            let largest = largest.max_by_key(|ones| (bytes(ones), ones.len()));
            match largest.and_then(VecDeque::pop_front) {
                Some(one) => extra.push(one),
                None => break,
            }
        }
        for one in extra {
            let api = self.api(&one.namespace);
            match api.delete(&one.name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(error) => tracing::debug!(%error, "an old scaling decision is not deleted"),
            }
        }
    }

    fn is_too_much(&self) -> bool {
        let count: usize = self.kept.values().map(VecDeque::len).sum();
        let size: usize = self.kept.values().map(bytes).sum();
        count > ALL_MAX || size > ALL_BYTES_MAX
    }

    /// Writes what became of pods where it is news.
    async fn write_statuses(&mut self) {
        let due = self.statuses_at.elapsed() >= STATUS_EVERY;
        let mut pending = std::mem::take(&mut self.follower.pending);
        for one in &mut pending {
            let is_settled = one.followed.phase != Phase::Waiting;
            if one.followed == one.written || !(due || is_settled) {
                continue;
            }
            let mut status = json!(one.followed);
            if one.followed.message.is_empty() {
                status["message"] = Value::Null;
            }
            let patch = Patch::Merge(json!({ "status": status }));
            let written = self
                .api(&one.namespace)
                .patch_status(&one.name, &PatchParams::default(), &patch)
                .await;
            match written {
                Ok(_) => one.written = one.followed.clone(),
                Err(error) if is_not_found(&error) => {
                    // It went with its autoscaler.
                    one.followed.phase = Phase::Ended;
                    one.written = one.followed.clone();
                }
                Err(error) => {
                    tracing::debug!(%error, "what became of a decision's pods is not written");
                }
            }
        }
        pending.retain(|one| one.written.phase == Phase::Waiting);
        self.follower.pending = pending;
        if due {
            self.statuses_at = tokio::time::Instant::now();
        }
    }

    fn api(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &self.resource)
    }
}

fn bytes(ones: &VecDeque<Kept>) -> usize {
    ones.iter().map(|one| one.bytes).sum()
}

/// Takes out what one autoscaler has too many of, the oldest first.
fn surplus(ones: &mut VecDeque<Kept>) -> Vec<Kept> {
    let mut extra = Vec::new();
    for (rescale, most) in [(true, RESCALES_MAX), (false, OTHERS_MAX)] {
        let count = ones.iter().filter(|one| one.rescale == rescale).count();
        for _ in most..count {
            let oldest = ones.iter().position(|one| one.rescale == rescale);
            extra.extend(oldest.and_then(|index| ones.remove(index)));
        }
    }
    while bytes(ones) > AUTOSCALER_BYTES_MAX && ones.len() > 1 {
        extra.extend(ones.pop_front());
    }
    extra
}

/// The autoscaler's uid, what is kept, and the record of an object that is one of ours.
fn understood(object: &DynamicObject) -> Option<(String, Kept, Record)> {
    let record = Record::deserialize(object.data.get("spec")?).ok()?;
    let mut owners = object.metadata.owner_references.iter().flatten();
    let uid = owners.next()?.uid.clone();
    let kept = Kept {
        namespace: object.metadata.namespace.clone()?,
        name: object.metadata.name.clone()?,
        time: record.time,
        rescale: record.is_rescale(),
        bytes: object.data.to_string().len(),
    };
    Some((uid, kept, record))
}

/// The autoscaler's name and the time in milliseconds, which sorts as text: unique, and known before it is written.
fn name(record: &Record) -> String {
    let time = format!("{:011x}", record.time.as_millisecond().max(0));
    let room = 253 - time.len() - 1;
    let start: String = record.autoscaler.chars().take(room).collect();
    format!("{}-{time}", start.trim_end_matches(['-', '.']))
}

fn object(
    resource: &ApiResource,
    namespace: &str,
    name: &str,
    uid: &str,
    record: &Record,
    followed: &Followed,
) -> DynamicObject {
    let mut metadata = json!({
        "name": name,
        "namespace": namespace,
        "ownerReferences": [{
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "name": record.autoscaler,
            "uid": uid,
        }],
    });
    // A label is shorter than a name may be.
    if record.autoscaler.len() <= 63 {
        metadata["labels"] = json!({ LABEL: record.autoscaler });
    }
    let mut object = DynamicObject::new(name, resource);
    object.metadata = serde_json::from_value(metadata).unwrap_or_default();
    object.data = json!({ "spec": record, "status": followed });
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(index: i64, rescale: bool, bytes: usize) -> Kept {
        Kept {
            namespace: "default".to_owned(),
            name: format!("web-{index}"),
            time: Timestamp::from_second(index).unwrap(),
            rescale,
            bytes,
        }
    }

    #[test]
    fn the_oldest_of_each_sort_give_way() {
        let mut ones: VecDeque<Kept> = (0..500).map(|i| kept(i, i % 50 == 0, 1000)).collect();
        let extra = surplus(&mut ones);
        assert_eq!(
            (ones.len(), extra.len()),
            (10 + OTHERS_MAX, 490 - OTHERS_MAX)
        );
        assert!(extra.iter().all(|one| !one.rescale), "changes of size stay");
        assert_eq!(ones.back().map(|one| one.name.as_str()), Some("web-499"));

        let mut ones: VecDeque<Kept> = (0..500).map(|i| kept(i, true, 1000)).collect();
        surplus(&mut ones);
        let first = ones.front().map(|one| one.name.clone());
        assert_eq!(
            (ones.len(), first),
            (RESCALES_MAX, Some("web-440".to_owned()))
        );

        let mut large: VecDeque<Kept> = (0..10).map(|i| kept(i, true, 1 << 20)).collect();
        assert_eq!(surplus(&mut large).len(), 8);
        let mut huge: VecDeque<Kept> = [kept(0, true, 1 << 30)].into();
        assert!(surplus(&mut huge).is_empty(), "the last one stays");
    }

    #[test]
    fn names_are_short_enough_and_sort_by_time() {
        let named = |autoscaler: &str, time: i64| {
            let record = json!({"autoscaler": autoscaler, "target": "", "reason": "", "message": "",
                "time": Timestamp::from_millisecond(time).unwrap()});
            name(&serde_json::from_value(record).unwrap())
        };
        assert_eq!(named("web", 1_700_000_000_123), "web-18bcfe5687b");
        assert!(named("web", 1_700_000_000_123) < named("web", 1_700_000_000_124));
        assert!(named("web", 999) < named("web", 1_700_000_000_000));
        let long = named(
            &format!("{}.{}", "a".repeat(240), "b".repeat(12)),
            1_700_000_000_123,
        );
        assert_eq!(long, format!("{}-18bcfe5687b", "a".repeat(240)));
    }
}
