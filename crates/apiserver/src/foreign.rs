//! Objects that a stock API server has written to a shared etcd, in its default form: protobuf. They are read here as the JSON that
//! this server writes; the next write leaves them as that.
//!
//! What cannot be read (encrypted at rest, or of a kind unknown here) is passed on as it is: who asks for it by name is told.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use store::{Change, Error, Expect, KeyValue, Page, Revision, Store, WatchItem, WatchStream};

use crate::codec::protobuf;
use crate::object;
use crate::schema::{self, Gvk};

/// How values in protobuf begin.
const MAGIC: &[u8] = b"k8s\0";

/// A store that others may write in protobuf, as one in which everything is JSON.
pub fn readable(store: Arc<dyn Store>) -> Arc<dyn Store> {
    Arc::new(Readable(store))
}

struct Readable(Arc<dyn Store>);

#[async_trait]
impl Store for Readable {
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), Error> {
        let (found, revision) = self.0.get(key).await.map_err(of_error)?;
        Ok((found.map(of_value), revision))
    }

    async fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        revision: Option<Revision>,
    ) -> Result<Page, Error> {
        let page = self.0.range(prefix, after, limit, revision).await?;
        Ok(Page {
            items: page.items.into_iter().map(of_value).collect(),
            ..page
        })
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect) -> Result<KeyValue, Error> {
        self.0.put(key, value, expect).await.map_err(of_error)
    }

    async fn delete(&self, key: &str, expect: Expect) -> Result<(KeyValue, Revision), Error> {
        let (last, revision) = self.0.delete(key, expect).await.map_err(of_error)?;
        Ok((of_value(last), revision))
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, Error> {
        let stream = self.0.watch(prefix, from).await?;
        Ok(stream.map(|item| item.map(of_item)).boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.0.compact(revision).await
    }

    fn revision(&self) -> Revision {
        self.0.revision()
    }

    async fn latest_revision(&self) -> Result<Revision, Error> {
        self.0.latest_revision().await
    }
}

fn of_item(item: WatchItem) -> WatchItem {
    let WatchItem::Changes(changes) = item else {
        return item;
    };
    let changes = changes.into_iter().map(|change| match change {
        Change::Put { current, previous } => Change::Put {
            current: of_value(current),
            previous: previous.map(of_value),
        },
        Change::Delete { previous, revision } => Change::Delete {
            previous: of_value(previous),
            revision,
        },
    });
    WatchItem::Changes(changes.collect())
}

fn of_error(error: Error) -> Error {
    match error {
        Error::Conflict { current } => Error::Conflict {
            current: current.map(of_value),
        },
        other => other,
    }
}

fn of_value(mut kv: KeyValue) -> KeyValue {
    if kv.value.starts_with(MAGIC) {
        match json_of(&kv.value) {
            Some(value) => kv.value = value,
            None => tracing::debug!(
                key = kv.key,
                "an object that another API server wrote cannot be read here"
            ),
        }
    }
    kv
}

/// The object as this server would have stored it.
fn json_of(stored: &[u8]) -> Option<Bytes> {
    let envelope = protobuf::envelope(stored).ok()?;
    let api = envelope.api_version;
    let (group, version) = api.rsplit_once('/').unwrap_or(("", api));
    let gvk = Gvk::gvk(group, version, envelope.kind);
    let mut value = protobuf::decode(stored, None).ok()?;
    object::strip_nulls(&mut value);
    schema::zeros::drop_zeros(&gvk, &mut value);
    Some(object::encode(&value))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn protobuf(object: &Value) -> Bytes {
        protobuf::encode(object).expect("has a form").into()
    }

    #[tokio::test]
    async fn what_others_wrote_in_protobuf_is_json_wherever_it_is_read() {
        let below = store::EmbeddedStore::in_memory().expect("a store");
        let below: Arc<dyn Store> = Arc::new(below);
        let store = readable(below.clone());
        let config = |text: &str| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "a", "namespace": "b", "uid": "c", "creationTimestamp": "2026-01-02T03:04:05Z"},
                "data": {"key": text},
            })
        };
        let key = "/registry/configmaps/b/a";
        let first = below
            .put(key, protobuf(&config("one")), Expect::Absent)
            .await
            .expect("written");
        let mut watch = store
            .watch("/registry/configmaps/", 1)
            .await
            .expect("a watch");
        let read = |value: &Bytes| -> Value { serde_json::from_slice(value).expect("JSON") };
        let (found, _) = store.get(key).await.expect("read");
        assert_eq!(read(&found.expect("there").value), config("one"));
        let page = store
            .range("/registry/", None, 0, None)
            .await
            .expect("read");
        assert_eq!(read(&page.items[0].value), config("one"));
        let absent = store.put(key, Bytes::new(), Expect::Absent).await;
        let Err(Error::Conflict {
            current: Some(current),
        }) = absent
        else {
            panic!("{absent:?}");
        };
        assert_eq!(read(&current.value), config("one"));

        let ours = object::encode(&config("two"));
        let expect = Expect::Revision(first.mod_revision);
        store.put(key, ours.clone(), expect).await.expect("written");
        let (last, _) = store.delete(key, Expect::Any).await.expect("deleted");
        assert_eq!(last.value, ours);
        let mut seen = Vec::new();
        while seen.len() < 3 {
            if let WatchItem::Changes(changes) = watch.next().await.expect("open").expect("fine") {
                seen.extend(changes);
            }
        }
        let Change::Put {
            current,
            previous: Some(previous),
        } = &seen[1]
        else {
            panic!("{seen:?}");
        };
        assert_eq!(
            (read(&previous.value), read(&current.value)),
            (config("one"), config("two"))
        );
    }

    #[test]
    fn what_cannot_be_read_is_left_as_it_is() {
        for value in [
            &b"k8s\0"[..],
            b"k8s\0rubbish",
            b"k8s:enc:aescbc:v1:x",
            b"",
            b"{}",
        ] {
            let kv = KeyValue {
                key: "/registry/secrets/a/b".into(),
                value: Bytes::copy_from_slice(value),
                create_revision: 1,
                mod_revision: 1,
                version: 1,
            };
            assert_eq!(of_value(kv.clone()), kv);
        }
    }
}
