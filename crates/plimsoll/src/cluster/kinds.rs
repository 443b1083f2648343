//! The kinds that a server offers, found by any name that people give them.

use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroupList, APIResourceList};
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};

/// One kind that can be listed.
#[derive(Clone)]
pub struct Kind {
    pub resource: ApiResource,
    namespaced: bool,
    names: Vec<String>,
}

impl Kind {
    /// The API of this kind in a namespace, or everywhere.
    pub fn api(&self, client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) if self.namespaced => {
                Api::namespaced_with(client.clone(), namespace, &self.resource)
            }
            _ => Api::all_with(client.clone(), &self.resource),
        }
    }

    /// The path of a list.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let base = if self.resource.group.is_empty() {
            format!("/api/{}", self.resource.version)
        } else {
            format!("/apis/{}/{}", self.resource.group, self.resource.version)
        };
        match namespace {
            Some(namespace) if self.namespaced => {
                format!("{base}/namespaces/{namespace}/{}", self.resource.plural)
            }
            _ => format!("{base}/{}", self.resource.plural),
        }
    }

    /// `deployment.apps`, as kubectl prints it.
    pub fn title(&self) -> String {
        let kind = self.resource.kind.to_lowercase();
        if self.resource.group.is_empty() {
            kind
        } else {
            format!("{kind}.{}", self.resource.group)
        }
    }
}

/// Everything that discovery told.
pub struct Kinds(Vec<Kind>);

impl Kinds {
    /// Asks the server.
    pub async fn discover(client: &Client) -> Result<Self> {
        let groups: APIGroupList = client.list_api_groups().await?;
        let mut lists: Vec<(String, String, APIResourceList)> = vec![(
            String::new(),
            "v1".to_owned(),
            client.list_core_api_resources("v1").await?,
        )];
        for group in groups.groups {
            // the preferred version first, so that it wins where both have a kind
            let preferred = group.preferred_version.as_ref().map(|v| v.version.clone());
            let mut versions: Vec<_> = group
                .versions
                .iter()
                .map(|v| (v.version.clone(), v.group_version.clone()))
                .collect();
            versions.sort_by_key(|(version, _)| Some(version) != preferred.as_ref());
            for (version, group_version) in versions {
                // a group whose server is away must not hide the others
                if let Ok(list) = client.list_api_group_resources(&group_version).await {
                    lists.push((group.name.clone(), version, list));
                }
            }
        }
        let mut kinds = Vec::new();
        for (group, version, list) in lists {
            for resource in list
                .resources
                .into_iter()
                .filter(|resource| !resource.name.contains('/'))
            {
                let mut names = vec![
                    resource.name.clone(),
                    resource.singular_name.clone(),
                    resource.kind.to_lowercase(),
                ];
                names.extend(resource.short_names.unwrap_or_default());
                let qualified: Vec<String> = names
                    .iter()
                    .filter(|_| !group.is_empty())
                    .map(|name| format!("{name}.{group}"))
                    .collect();
                names.extend(qualified);
                let api_version = if group.is_empty() {
                    version.clone()
                } else {
                    format!("{group}/{version}")
                };
                kinds.push(Kind {
                    resource: ApiResource {
                        group: group.clone(),
                        version: version.clone(),
                        api_version,
                        kind: resource.kind,
                        plural: resource.name,
                    },
                    namespaced: resource.namespaced,
                    names,
                });
            }
        }
        Ok(Self(kinds))
    }

    /// By plural, singular, kind or short name, with or without group.
    pub fn find(&self, name: &str) -> Result<&Kind> {
        let wanted = name.to_lowercase();
        self.0
            .iter()
            .find(|kind| kind.names.contains(&wanted))
            .with_context(|| format!("the server doesn't have a resource type {name:?}; `kubectl api-resources` lists those it has"))
    }

    /// By the apiVersion and kind of a manifest.
    pub fn of(&self, api_version: &str, kind: &str) -> Result<&Kind> {
        self.0
            .iter()
            .find(|known| known.resource.api_version == api_version && known.resource.kind == kind)
            .with_context(|| format!("no matches for kind {kind:?} in version {api_version:?}"))
    }
}
