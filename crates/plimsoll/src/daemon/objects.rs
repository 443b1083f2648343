//! Where the API's objects are kept: in the embedded store of this instance, or on etcd.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use store::{EmbeddedStore, EtcdStore, Store};

use super::write_private;
use crate::instance::Instance;
use crate::settings::Settings;

/// An open store.
pub enum Objects {
    Embedded(Arc<EmbeddedStore>),
    Etcd(Arc<EtcdStore>),
}

impl Objects {
    /// Opens the one that the settings name. An instance does not change from one to the other by itself: its pods would
    /// end, as nobody would know of them.
    pub async fn open(instance: &Instance, settings: &Settings) -> Result<Self> {
        let (file, note) = (instance.store_file(), note(instance));
        fs::create_dir_all(instance.data_dir.join("store"))?;
        let Some(options) = settings.etcd_options()? else {
            if let Some(url) = on_etcd(instance)? {
                bail!(
                    "this instance keeps its objects on {url}: start it with `--store {url}`, or remove {} to begin with an empty store of its own",
                    note.display()
                );
            }
            let store = tokio::task::spawn_blocking(move || {
                EmbeddedStore::open(&file, store::embedded::Options::default())
            });
            let store = store.await?.context("cannot open the store")?;
            return Ok(Self::Embedded(Arc::new(store)));
        };
        if file.exists() {
            bail!(
                "this instance keeps its objects in {}, and nothing moves them to etcd: use another data directory for --store, or move that file away",
                file.display()
            );
        }
        let url = settings.store.clone().unwrap_or_default();
        let store = EtcdStore::open(options).await?;
        write_private(&note, &format!("{url}\n"))?;
        tracing::info!(
            store = url,
            revision = store.revision(),
            "objects are kept on etcd"
        );
        Ok(Self::Etcd(Arc::new(store)))
    }

    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Embedded(store) => store.clone(),
            Self::Etcd(store) => apiserver::readable(store.clone()),
        }
    }

    /// Whether other API servers can be on it.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Etcd(_))
    }
}

/// The etcd on which the instance keeps its objects, if it does not keep them itself.
pub fn on_etcd(instance: &Instance) -> Result<Option<String>> {
    let note = note(instance);
    match fs::read_to_string(&note) {
        Ok(url) => Ok(Some(url.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", note.display())),
    }
}

fn note(instance: &Instance) -> PathBuf {
    instance.data_dir.join("store").join("etcd")
}
