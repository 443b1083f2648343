//! What is handed out, written down where every server of a store sees it: an address and a node port each have a key that
//! only one server can make.
//!
//! An address is an IPAddress object, as upstream's allocator keeps it; a node port has a record of this program's own.
//! What servers remember ([`super::Taken`]) only saves them tries. A crash can leave a record without its Service, or (from
//! before there were records) a Service without: [`repair`] mends both.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use store::{Change, Expect, Store, WatchItem};

use super::{Addresses, Claim, Taken, addresses_of, ports_of};
use crate::Error;
use crate::object::{self, text};
use crate::server::State;
use crate::status::ApiError;

const ADDRESSES: &str = "/registry/ipaddresses/";
const PORTS: &str = "/registry/plimsoll.dev/nodeports/";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";
/// Other servers may have taken what this one believes to be free.
const ATTEMPTS: usize = 64;
/// A record that is younger may be of a Service that is being made.
const GRACE: SignedDuration = SignedDuration::from_secs(60);
const REPAIR_INTERVAL: Duration = Duration::from_secs(180);
/// Writes at one time when many records are missing.
const WRITES: usize = 64;

/// A claim that is written down; dropping it takes the records back.
pub(crate) struct Recorded {
    claim: Option<Claim>,
    store: Arc<dyn Store>,
    made: Vec<String>,
    /// The Service is being written.
    writing: bool,
}

impl Recorded {
    /// The Service is written from now on. Whose request ends before it is known whether that has happened leaves the claim.
    pub fn writing(&mut self) {
        self.writing = true;
    }

    /// The write has not happened: dropping it gives everything back.
    pub fn failed(&mut self) {
        self.writing = false;
    }

    /// The write has happened: what the Service gave up is free.
    pub async fn keep(mut self) {
        self.made.clear();
        let Some(claim) = self.claim.take() else {
            return;
        };
        let freed = keys(&claim.dropped_addresses, &claim.dropped_ports);
        claim.keep();
        forget(&self.store, freed).await;
    }

    /// Nobody knows whether the write has happened. Nothing is given back; what nobody uses is found by [`repair`].
    pub fn leave(mut self) {
        self.let_be();
    }

    fn let_be(&mut self) {
        self.made.clear();
        if let Some(mut claim) = self.claim.take() {
            claim.dropped_addresses.clear();
            claim.dropped_ports.clear();
            claim.keep();
        }
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if self.writing {
            self.let_be();
        }
        let made = std::mem::take(&mut self.made);
        let store = self.store.clone();
        if let (false, Ok(runtime)) = (made.is_empty(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { forget(&store, made).await });
        }
    }
}

impl Addresses {
    /// Like [`Addresses::claim`], and no other server on the store can have the same. With `dry_run` nothing is written down.
    pub async fn claim_recorded(
        &self,
        store: &Arc<dyn Store>,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Recorded, ApiError> {
        let asked = service.clone();
        self.look_again(store, &asked).await;
        for _ in 0..ATTEMPTS {
            service.clone_from(&asked);
            let claim = self.claim(service, old)?;
            let mut recorded = Recorded {
                claim: None,
                store: store.clone(),
                made: Vec::new(),
                writing: false,
            };
            let wanted = match dry_run {
                true => Vec::new(),
                false => keys(&claim.addresses, &claim.ports),
            };
            let mut lost = None;
            for key in wanted {
                let value = object::encode(&record(&key, service));
                match store.put(&key, value, Expect::Absent).await {
                    Ok(_) => recorded.made.push(key),
                    Err(store::Error::Conflict { .. }) => {
                        lost = Some(key);
                        break;
                    }
                    Err(error) => {
                        let why = format!("the address could not be recorded: {error}");
                        return Err(ApiError::unavailable(why));
                    }
                }
            }
            let Some(lost) = lost else {
                recorded.claim = Some(claim);
                return Ok(recorded);
            };
            // Another server has it. Remembering that after this claim is given back, the next choice is another one.
            drop(claim);
            learn(&mut self.taken.lock(), &lost, true);
        }
        Err(ApiError::unavailable(
            "no free address was found: other servers hand out addresses at the same time; try again",
        ))
    }

    /// What a Service asks for by number may have become free on another server a moment ago.
    async fn look_again(&self, store: &Arc<dyn Store>, service: &Value) {
        for key in keys(&addresses_of(service), &ports_of(service)) {
            if let Ok((None, _)) = store.get(&key).await {
                learn(&mut self.taken.lock(), &key, false);
            }
        }
    }

    /// Gives back what a deleted Service used, also for the other servers.
    pub async fn release_recorded(
        &self,
        store: &Arc<dyn Store>,
        kind: &crate::registry::Kind,
        service: &Value,
    ) {
        if kind.is("", "services") {
            self.release(kind, service);
            forget(store, keys(&addresses_of(service), &ports_of(service))).await;
        }
    }
}

/// Follows what all servers hand out, and mends records now and then. Ends with the server.
pub(crate) async fn follow(state: Weak<State>) {
    let mut next = tokio::time::Instant::now() + REPAIR_INTERVAL;
    loop {
        let Some((store, shutdown)) = state
            .upgrade()
            .map(|state| (state.store.clone(), state.shutdown.clone()))
        else {
            return;
        };
        let from = store.revision();
        let (addresses, ports) = (store.watch(ADDRESSES, from), store.watch(PORTS, from));
        let (Ok(addresses), Ok(ports)) = (addresses.await, ports.await) else {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => continue,
            }
        };
        if let Some(state) = state.upgrade() {
            remember(&state).await;
        }
        let mut changes = futures::stream::select(addresses, ports);
        loop {
            let item = tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(next) => None,
                item = changes.next() => Some(item),
            };
            let Some(state) = state.upgrade() else {
                return;
            };
            match item {
                None => {
                    next = tokio::time::Instant::now() + REPAIR_INTERVAL;
                    if let Err(error) = repair(&state).await {
                        tracing::warn!(%error, "addresses of Services could not be checked");
                    }
                }
                Some(Some(Ok(WatchItem::Changes(changes)))) => {
                    let mut taken = state.addresses.taken.lock();
                    for change in changes {
                        let there = matches!(change, Change::Put { .. });
                        learn(&mut taken, change.key(), there);
                    }
                }
                Some(Some(Ok(WatchItem::Progress(_)))) => {}
                // The watch has an end: everything is read anew.
                Some(None | Some(Err(_))) => break,
            }
        }
    }
}

/// Remembers what is recorded now, and nothing else: claims on their way find out by themselves.
async fn remember(state: &State) {
    let mut taken = Taken::default();
    for prefix in [ADDRESSES, PORTS] {
        let Ok(page) = state.store.range(prefix, None, 0, None).await else {
            return;
        };
        for kv in page.items {
            learn(&mut taken, &kv.key, true);
        }
    }
    *state.addresses.taken.lock() = taken;
}

/// Makes the records that Services lack, and takes those whose Service is not there.
pub(crate) async fn repair(state: &State) -> Result<(), Error> {
    let fail = |source| Error::Store {
        attempt: "check the addresses of the services".into(),
        source,
    };
    let store = &state.store;
    // Records first: a Service that is made meanwhile has its record before it is seen.
    let mut records = HashMap::new();
    for prefix in [ADDRESSES, PORTS] {
        let page = store.range(prefix, None, 0, None).await.map_err(fail)?;
        records.extend(page.items.into_iter().map(|kv| (kv.key.clone(), kv)));
    }
    let specs = "/registry/services/specs/";
    let page = store.range(specs, None, 0, None).await.map_err(fail)?;
    let mut missing = Vec::new();
    for kv in page.items {
        let service = object::parse(&kv.value, kv.mod_revision);
        for key in keys(&addresses_of(&service), &ports_of(&service)) {
            if records.remove(&key).is_none() {
                missing.push((key.clone(), object::encode(&record(&key, &service))));
            }
        }
    }
    let made = futures::stream::iter(missing).map(|(key, value)| async move {
        match store.put(&key, value, Expect::Absent).await {
            Ok(_) | Err(store::Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(fail(error)),
        }
    });
    made.buffer_unordered(WRITES).try_collect::<()>().await?;
    let now = Timestamp::now();
    for (key, kv) in records {
        let value = object::parse(&kv.value, kv.mod_revision);
        let made = text(&value, &["metadata", "creationTimestamp"]).parse::<Timestamp>();
        let is_old = made.is_ok_and(|made| now.duration_since(made) > GRACE);
        let is_own = value["metadata"]["labels"][MANAGED_BY] == MANAGER;
        if is_old && is_own {
            let _ = store.delete(&key, Expect::Revision(kv.mod_revision)).await;
        }
    }
    Ok(())
}

fn keys(addresses: &[IpAddr], ports: &[(u16, String)]) -> Vec<String> {
    let addresses = addresses.iter().map(|one| format!("{ADDRESSES}{one}"));
    let ports = ports
        .iter()
        .map(|(port, protocol)| format!("{PORTS}{port}-{protocol}"));
    addresses.chain(ports).collect()
}

/// The object that lies at a key.
fn record(key: &str, service: &Value) -> Value {
    let mut record = json!({
        "metadata": {
            "uid": crate::handlers::new_uid(), "creationTimestamp": crate::time::now(),
            "labels": {MANAGED_BY: MANAGER},
        },
        "spec": {"parentRef": {
            "resource": "services", "namespace": text(service, &["metadata", "namespace"]),
            "name": text(service, &["metadata", "name"]),
        }},
    });
    match key.strip_prefix(ADDRESSES) {
        Some(address) => {
            record["apiVersion"] = "networking.k8s.io/v1".into();
            record["kind"] = "IPAddress".into();
            record["metadata"]["name"] = address.into();
            let family = if address.contains(':') {
                "IPv6"
            } else {
                "IPv4"
            };
            record["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"] = family.into();
        }
        None => record["kind"] = "NodePort".into(),
    }
    record
}

/// A record is there, or it is not.
fn learn(taken: &mut Taken, key: &str, there: bool) {
    if let Some(Ok(address)) = key.strip_prefix(ADDRESSES).map(str::parse::<IpAddr>) {
        match there {
            true => taken.addresses.insert(address),
            false => taken.addresses.remove(&address),
        };
    }
    let port = key
        .strip_prefix(PORTS)
        .and_then(|port| port.split_once('-'));
    if let Some((Ok(port), protocol)) = port.map(|(port, protocol)| (port.parse(), protocol)) {
        match there {
            true => taken.ports.insert((port, protocol.to_owned())),
            false => taken.ports.remove(&(port, protocol.to_owned())),
        };
    }
}

async fn forget(store: &Arc<dyn Store>, keys: Vec<String>) {
    let deletions = keys.iter().map(|key| store.delete(key, Expect::Any));
    for (key, result) in keys.iter().zip(futures::future::join_all(deletions).await) {
        match result {
            Ok(_) | Err(store::Error::NotFound) => {}
            Err(error) => {
                tracing::debug!(key, %error, "a record stays until it is found to be nobody's")
            }
        }
    }
}
