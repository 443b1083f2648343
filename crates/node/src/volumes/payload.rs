//! The files of volumes that are filled from the API: configMap, secret, downwardAPI, and projections of them into one.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccountTokenProjection, Volume,
};
use kube::Api;

use super::VolumeError;
use super::contents::user_of;
use super::token::Tokens;
use crate::downward::{self, Facts};

const MODE: i32 = 0o644;

/// One file of a volume.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Relative to the volume; not checked yet.
    pub path: String,
    pub bytes: Vec<u8>,
    pub mode: i32,
    /// The user that it belongs to, if not root.
    pub owner: Option<u32>,
}

/// Where the content comes from.
pub struct Reader<'a> {
    pub client: &'a kube::Client,
    pub pod: &'a Pod,
    pub facts: &'a Facts,
}

impl Reader<'_> {
    /// Every file of the volume; of two with one path the later wins.
    pub async fn files(
        &self,
        volume: &Volume,
        tokens: &mut Tokens,
    ) -> Result<Vec<File>, VolumeError> {
        let name = &volume.name;
        if let Some(source) = &volume.config_map {
            let mode = source.default_mode.unwrap_or(MODE);
            return self
                .config_map(
                    name,
                    &source.name,
                    source.items.as_deref(),
                    mode,
                    source.optional == Some(true),
                )
                .await;
        }
        if let Some(source) = &volume.secret {
            let object = source.secret_name.as_deref().unwrap_or_default();
            let mode = source.default_mode.unwrap_or(MODE);
            return self
                .secret(
                    name,
                    object,
                    source.items.as_deref(),
                    mode,
                    source.optional == Some(true),
                )
                .await;
        }
        if let Some(source) = &volume.downward_api {
            return self.fields(
                name,
                source.items.as_deref().unwrap_or_default(),
                source.default_mode.unwrap_or(MODE),
            );
        }
        let Some(projected) = &volume.projected else {
            return Err(VolumeError::Unsupported {
                volume: name.clone(),
                what: "this kind of volume",
            });
        };
        let mode = projected.default_mode.unwrap_or(MODE);
        let mut files: BTreeMap<String, File> = BTreeMap::new();
        for source in projected.sources.iter().flatten() {
            let part = if let Some(map) = &source.config_map {
                self.config_map(
                    name,
                    &map.name,
                    map.items.as_deref(),
                    mode,
                    map.optional == Some(true),
                )
                .await?
            } else if let Some(secret) = &source.secret {
                self.secret(
                    name,
                    &secret.name,
                    secret.items.as_deref(),
                    mode,
                    secret.optional == Some(true),
                )
                .await?
            } else if let Some(fields) = &source.downward_api {
                self.fields(name, fields.items.as_deref().unwrap_or_default(), mode)?
            } else if source
                .cluster_trust_bundle
                .as_ref()
                .is_some_and(|bundle| bundle.optional == Some(true))
            {
                Vec::new()
            } else if let Some(wanted) = &source.service_account_token {
                vec![self.token(name, wanted, mode, tokens).await?]
            } else {
                return Err(VolumeError::Unsupported {
                    volume: name.clone(),
                    what: "one of the projected sources",
                });
            };
            files.extend(part.into_iter().map(|file| (file.path.clone(), file)));
        }
        Ok(files.into_values().collect())
    }

    async fn config_map(
        &self,
        volume: &str,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: i32,
        optional: bool,
    ) -> Result<Vec<File>, VolumeError> {
        let mut content: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        match self.get::<ConfigMap>(volume, name).await? {
            Some(object) => {
                content.extend(
                    object
                        .data
                        .into_iter()
                        .flatten()
                        .map(|(key, text)| (key, text.into_bytes())),
                );
                content.extend(
                    object
                        .binary_data
                        .into_iter()
                        .flatten()
                        .map(|(key, bytes)| (key, bytes.0)),
                );
            }
            None if optional => {}
            None => return Err(no_object(volume, "configmap", name)),
        }
        chosen(volume, "config", content, items, mode, optional)
    }

    async fn secret(
        &self,
        volume: &str,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: i32,
        optional: bool,
    ) -> Result<Vec<File>, VolumeError> {
        let content = match self.get::<Secret>(volume, name).await? {
            Some(object) => object
                .data
                .into_iter()
                .flatten()
                .map(|(key, bytes)| (key, bytes.0))
                .collect(),
            None if optional => BTreeMap::new(),
            None => return Err(no_object(volume, "secret", name)),
        };
        chosen(volume, "secret", content, items, mode, optional)
    }

    /// A token that its user may read, or everybody when there is no one user; fsGroup opens it to the group.
    async fn token(
        &self,
        volume: &str,
        wanted: &ServiceAccountTokenProjection,
        mode: i32,
        tokens: &mut Tokens,
    ) -> Result<File, VolumeError> {
        let token = tokens.get(self.client, self.pod, wanted).await;
        let token = token.map_err(|source| VolumeError::Api {
            volume: volume.to_owned(),
            source: Box::new(source),
        })?;
        let owner = user_of(self.pod);
        let spec = self.pod.spec.as_ref();
        let grouped = spec
            .and_then(|spec| spec.security_context.as_ref()?.fs_group)
            .is_some();
        let private = owner.is_some() || grouped;
        Ok(File {
            path: wanted.path.clone(),
            bytes: token.into_bytes(),
            mode: if private { 0o600 } else { mode },
            owner,
        })
    }

    fn fields(
        &self,
        volume: &str,
        items: &[DownwardAPIVolumeFile],
        mode: i32,
    ) -> Result<Vec<File>, VolumeError> {
        let failed = |source| VolumeError::Field {
            volume: volume.to_owned(),
            source,
        };
        let mut files = Vec::new();
        for item in items {
            let text = if let Some(field) = &item.field_ref {
                downward::field(self.pod, &field.field_path, self.facts).map_err(failed)?
            } else if let Some(selector) = &item.resource_field_ref {
                let spec = self.pod.spec.as_ref();
                let containers = spec.iter().flat_map(|spec| {
                    spec.containers
                        .iter()
                        .chain(spec.init_containers.iter().flatten())
                });
                let named = selector.container_name.as_deref().unwrap_or_default();
                match { containers }.find(|container| container.name == named) {
                    Some(container) => {
                        downward::resource(container, selector, self.facts).map_err(failed)?
                    }
                    None => return Err(no_object(volume, "container", named)),
                }
            } else {
                String::new()
            };
            files.push(File {
                path: item.path.clone(),
                bytes: text.into_bytes(),
                mode: item.mode.unwrap_or(mode),
                owner: None,
            });
        }
        Ok(files)
    }

    async fn get<K>(&self, volume: &str, name: &str) -> Result<Option<K>, VolumeError>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        Api::<K>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await
            .map_err(|source| VolumeError::Api {
                volume: volume.to_owned(),
                source: Box::new(source),
            })
    }
}

fn no_object(volume: &str, kind: &'static str, name: &str) -> VolumeError {
    VolumeError::NoObject {
        volume: volume.to_owned(),
        kind,
        name: name.to_owned(),
    }
}

/// All keys as files, or the chosen ones under the chosen paths.
fn chosen(
    volume: &str,
    kind: &'static str,
    content: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<Vec<File>, VolumeError> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(content
            .into_iter()
            .map(|(path, bytes)| File {
                path,
                bytes,
                mode,
                owner: None,
            })
            .collect());
    };
    let mut files = Vec::new();
    for item in items {
        match content.get(&item.key) {
            Some(bytes) => files.push(File {
                path: item.path.clone(),
                bytes: bytes.clone(),
                mode: item.mode.unwrap_or(mode),
                owner: None,
            }),
            None if optional => {}
            None => {
                return Err(VolumeError::NoKey {
                    volume: volume.to_owned(),
                    kind,
                    key: item.key.clone(),
                });
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_files() {
        let content: BTreeMap<String, Vec<u8>> = [
            ("a".to_owned(), b"1".to_vec()),
            ("b".to_owned(), b"2".to_vec()),
        ]
        .into();
        let file = |path: &str, bytes: &[u8], mode| File {
            path: path.into(),
            bytes: bytes.into(),
            mode,
            owner: None,
        };
        let choose = |items: Option<&[KeyToPath]>, optional| {
            chosen("v", "config", content.clone(), items, MODE, optional)
        };
        assert_eq!(
            choose(None, false).expect("all"),
            [file("a", b"1", MODE), file("b", b"2", MODE)]
        );
        let item = |key: &str| KeyToPath {
            key: key.into(),
            path: "deep/x".into(),
            mode: Some(0o400),
            ..KeyToPath::default()
        };
        assert_eq!(
            choose(Some(&[item("b")]), false).expect("one"),
            [file("deep/x", b"2", 0o400)]
        );
        assert_eq!(choose(Some(&[item("none")]), true).expect("none"), []);
        let error = choose(Some(&[item("none")]), false).expect_err("no key");
        assert!(
            error
                .to_string()
                .ends_with("references non-existent config key: none"),
            "{error}"
        );
    }
}
