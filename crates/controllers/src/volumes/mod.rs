//! Persistent volumes: claims are bound to volumes, phases follow, and neither goes while it is used.

mod binding;
mod claims;
mod class;
mod phases;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::events::Recorder;
use crate::informer::{Cached, Informer};
use crate::objects;
use crate::shared::{Shared, in_namespace};

/// As upstream's events say it.
const COMPONENT: &str = "persistentvolume-controller";

/// What both controllers read.
#[derive(Clone)]
struct Storage {
    shared: Shared,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    recorder: Recorder,
}

/// Runs both controllers until `shutdown`.
pub async fn run(shared: Shared, shutdown: CancellationToken) {
    class::ensure(&shared.client).await;
    let client = &shared.client;
    let storage = Storage {
        claims: informer(
            client,
            |claim| vec![in_namespace(objects::namespace(claim))],
            &shutdown,
        ),
        volumes: informer(client, |_| Vec::new(), &shutdown),
        classes: informer(client, |_| Vec::new(), &shutdown),
        recorder: Recorder::start(client.clone(), COMPONENT),
        shared: shared.clone(),
    };
    if !(storage.claims.ready().await
        && storage.volumes.ready().await
        && storage.classes.ready().await)
    {
        return;
    }
    tokio::join!(
        run_claims(storage.clone(), shutdown.clone()),
        run_volumes(storage, shutdown),
    );
}

fn informer<K: Cached>(
    client: &kube::Client,
    index: fn(&K) -> Vec<String>,
    shutdown: &CancellationToken,
) -> Informer<K> {
    Informer::start(
        Api::all(client.clone()),
        watcher::Config::default().any_semantic(),
        index,
        |_| {},
        shutdown.clone(),
    )
}

async fn run_claims(storage: Storage, shutdown: CancellationToken) {
    let (of_volume, of_class) = (storage.claims.clone(), storage.claims.clone());
    let controller = Controller::for_shared_stream(storage.claims.stream(), storage.claims.store())
        // a volume concerns the claim that it names, and every one that waits
        .watches_shared_stream(storage.volumes.stream(), move |volume| {
            let named = volume
                .spec
                .as_ref()
                .and_then(|spec| spec.claim_ref.as_ref());
            let mut refs: Vec<ObjectRef<PersistentVolumeClaim>> = named
                .and_then(|claim| {
                    Some(ObjectRef::new(claim.name.as_deref()?).within(claim.namespace.as_deref()?))
                })
                .into_iter()
                .collect();
            let name = volume.metadata.name.as_deref();
            refs.extend(
                of_volume
                    .all()
                    .iter()
                    .filter(|claim| {
                        waits(claim)
                            || claim
                                .spec
                                .as_ref()
                                .and_then(|spec| spec.volume_name.as_deref())
                                == name
                    })
                    .map(|claim| ObjectRef::from_obj(&**claim)),
            );
            refs
        })
        .watches_shared_stream(storage.classes.stream(), move |_| {
            let waiting: Vec<_> = of_class
                .all()
                .iter()
                .filter(|claim| waits(claim))
                .map(|claim| ObjectRef::from_obj(&**claim))
                .collect();
            waiting
        })
        // a pod that ends lets its claims go
        .watches_shared_stream(storage.shared.pods.stream(), |pod| {
            let namespace = objects::namespace(&*pod).to_owned();
            let refs: Vec<ObjectRef<PersistentVolumeClaim>> = claims_of(&pod)
                .map(|name| ObjectRef::new(name).within(&namespace))
                .collect();
            refs
        });
    drive(
        "persistentvolumeclaim",
        controller,
        shutdown,
        move |claim| {
            let storage = storage.clone();
            async move { storage.reconcile_claim(claim).await }
        },
    )
    .await;
}

async fn run_volumes(storage: Storage, shutdown: CancellationToken) {
    let all = storage.volumes.clone();
    let controller =
        Controller::for_shared_stream(storage.volumes.stream(), storage.volumes.store())
            .watches_shared_stream(storage.claims.stream(), move |claim| {
                let uid = objects::uid(&*claim);
                let named = claim
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.volume_name.as_deref());
                let refs: Vec<_> = all
                    .all()
                    .iter()
                    .filter(|volume| {
                        let of = volume
                            .spec
                            .as_ref()
                            .and_then(|spec| spec.claim_ref.as_ref());
                        volume.metadata.name.as_deref() == named
                            || of.is_some_and(|of| of.uid.as_deref() == Some(uid))
                    })
                    .map(|volume| ObjectRef::from_obj(&**volume))
                    .collect();
                refs
            });
    drive("persistentvolume", controller, shutdown, move |volume| {
        let storage = storage.clone();
        async move { storage.reconcile_volume(volume).await }
    })
    .await;
}

/// Condition times have whole seconds.
fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}

fn waits(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase != Some("Bound")
}

/// The claims that a pod uses.
fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| {
        let source = volume.persistent_volume_claim.as_ref()?;
        Some(source.claim_name.as_str())
    })
}
