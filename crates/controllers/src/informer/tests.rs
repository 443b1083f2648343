//! Snapshots, changes, deletes and waiting, without a server.

use super::*;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

fn object(name: &str, uid: &str, version: u64) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some("default".into()),
            uid: Some(uid.into()),
            resource_version: Some(version.to_string()),
            ..Default::default()
        },
        ..Default::default()
    }
}

fn entries(object: &ConfigMap) -> Vec<String> {
    vec![object.metadata.name.clone().unwrap_or_default()]
}

fn fixture() -> (Informer<ConfigMap>, Writer<ConfigMap>) {
    let writer = Writer::<ConfigMap>::new(());
    (Informer::over(writer.as_reader(), entries), writer)
}

fn seen(version: &Arc<ConfigMap>) -> (String, u64) {
    (uid(&**version), revision_of(&**version))
}

#[tokio::test]
async fn a_subscriber_sees_the_snapshot_then_changes_then_deletes() {
    let (informer, mut writer) = fixture();
    let inner = informer.inner.clone();
    for event in [
        watcher::Event::Init,
        watcher::Event::InitApply(object("a", "1", 1)),
        watcher::Event::InitDone,
    ] {
        inner.apply(&mut writer, event);
    }
    let mut stream = Box::pin(informer.stream());
    assert_eq!(seen(&stream.next().await.unwrap()), ("1".into(), 1));
    inner.apply(&mut writer, watcher::Event::Apply(object("b", "2", 2)));
    inner.apply(&mut writer, watcher::Event::Delete(object("a", "1", 3)));
    assert_eq!(seen(&stream.next().await.unwrap()), ("2".into(), 2));
    assert_eq!(seen(&stream.next().await.unwrap()), ("1".into(), 3));
    assert!(informer.by_index("a").is_empty());
    assert_eq!(informer.by_index("b").len(), 1);
    assert_eq!(informer.progress(), (3, 1));
}

#[tokio::test]
async fn everyone_who_waits_for_the_first_list_is_woken() {
    let (informer, mut writer) = fixture();
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let informer = informer.clone();
            tokio::spawn(async move { informer.ready().await })
        })
        .collect();
    tokio::task::yield_now().await;
    informer.inner.apply(&mut writer, watcher::Event::Init);
    informer.inner.apply(&mut writer, watcher::Event::InitDone);
    for waiter in waiters {
        assert!(waiter.await.unwrap());
    }
    informer.inner.close();
    assert!(!informer.ready().await);
}

#[tokio::test]
async fn a_slow_subscriber_gets_the_newest_version_once_and_every_delete() {
    let (informer, mut writer) = fixture();
    let inner = informer.inner.clone();
    let mut stream = Box::pin(informer.stream());
    for version in 1..=100 {
        inner.apply(
            &mut writer,
            watcher::Event::Apply(object("a", "1", version)),
        );
    }
    // Recreated under the same name: the old one's end must not be hidden by the new one.
    inner.apply(&mut writer, watcher::Event::Apply(object("a", "2", 101)));
    assert_eq!(seen(&stream.next().await.unwrap()).0, "1");
    assert_eq!(seen(&stream.next().await.unwrap()), ("2".into(), 101));
    inner.close();
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_new_list_reports_what_disappeared_meanwhile() {
    let (informer, mut writer) = fixture();
    let inner = informer.inner.clone();
    inner.apply(&mut writer, watcher::Event::Apply(object("a", "1", 1)));
    let mut stream = Box::pin(informer.stream());
    stream.next().await.unwrap();
    for event in [
        watcher::Event::Init,
        watcher::Event::InitApply(object("b", "2", 5)),
        watcher::Event::InitDone,
    ] {
        inner.apply(&mut writer, event);
    }
    assert_eq!(seen(&stream.next().await.unwrap()).0, "1");
    assert_eq!(seen(&stream.next().await.unwrap()).0, "2");
    assert!(informer.by_index("a").is_empty());
}

#[tokio::test]
async fn an_object_that_changes_hands_is_told_to_both_who_had_and_who_has_it() {
    let (informer, mut writer) = fixture();
    let inner = informer.inner.clone();
    let owned = |version: u64, owner: Option<&str>| {
        let mut object = object("a", "1", version);
        object.metadata.owner_references = owner.map(|owner| {
            vec![OwnerReference {
                uid: owner.into(),
                controller: Some(true),
                ..OwnerReference::default()
            }]
        });
        object
    };
    let mut stream = Box::pin(informer.stream());
    for event in [
        watcher::Event::Init,
        watcher::Event::InitApply(owned(1, Some("x"))),
        watcher::Event::InitDone,
    ] {
        inner.apply(&mut writer, event);
    }
    let mut told = |version: u64, owner: Option<&str>| {
        inner.apply(&mut writer, watcher::Event::Apply(owned(version, owner)));
        let mut all = Vec::new();
        while let Some(Some(object)) = stream.next().now_or_never() {
            let owner = controller_of(&*object).map(|owner| owner.uid.clone());
            all.push((revision_of(&*object), owner.unwrap_or_default()));
        }
        all
    };
    let pair = |version: u64, owner: &str| (version, owner.to_owned());
    assert_eq!(told(2, Some("x")), [pair(2, "x")]);
    assert_eq!(told(3, None), [pair(2, "x"), pair(3, "")]);
    assert_eq!(told(4, Some("y")), [pair(4, "y")]);
    assert_eq!(told(5, Some("z")), [pair(4, "y"), pair(5, "z")]);
}
