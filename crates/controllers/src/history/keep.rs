//! The shell: writes revisions.

use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;

use super::{Step, new, sort, step};
use crate::claim::claim;
use crate::error::{Error, is_not_found, reason};
use crate::informer::{Cached, Informer};
use crate::objects::{self, Matcher};

/// Names that are taken by other templates are gone around so often.
const COLLISIONS_MAX: i32 = 8;

/// The history of one owner.
pub struct History<'a, O> {
    /// The API.
    pub client: &'a Client,
    /// All revisions, indexed by owner.
    pub cache: &'a Informer<ControllerRevision>,
    /// Whose history it is.
    pub owner: &'a O,
    /// The label that carries a revision's hash.
    pub label: &'static str,
}

impl<O> History<'_, O>
where
    O: Cached + Resource<Scope = NamespaceResourceScope>,
{
    /// The owner's revisions after adoption and release, oldest first.
    pub async fn revisions(
        &self,
        matcher: &Matcher,
    ) -> Result<Vec<Arc<ControllerRevision>>, Error> {
        let matches = |one: &ControllerRevision| matcher.matches(one.metadata.labels.as_ref());
        let mut revisions = claim(self.client, self.owner, self.cache, matches, |_| true).await?;
        sort(&mut revisions);
        Ok(revisions)
    }

    /// The revision of the present template, made or renumbered if need be. `collisions` grows with each name that
    /// another template has.
    pub async fn present(
        &self,
        template: &PodTemplateSpec,
        revisions: &[Arc<ControllerRevision>],
        collisions: &mut i32,
    ) -> Result<Arc<ControllerRevision>, Error> {
        match step(template, revisions) {
            Step::Keep(same) => Ok(same),
            Step::Renumber(same, next) => {
                let change = json!({"revision": next});
                let written = self
                    .api()
                    .patch(
                        objects::name(&*same),
                        &PatchParams::default(),
                        &Patch::Merge(&change),
                    )
                    .await
                    .map_err(Error::api(
                        "update ControllerRevision",
                        objects::key(&*same),
                    ))?;
                Ok(Arc::new(written))
            }
            Step::Create(next) => self.create(template, next, collisions).await,
        }
    }

    async fn create(
        &self,
        template: &PodTemplateSpec,
        number: i64,
        collisions: &mut i32,
    ) -> Result<Arc<ControllerRevision>, Error> {
        for _ in 0..COLLISIONS_MAX {
            let wanted = new(self.owner, template, self.label, number, *collisions);
            let error = match self.api().create(&PostParams::default(), &wanted).await {
                Ok(made) => return Ok(Arc::new(made)),
                Err(error) => error,
            };
            if reason(&error) != "AlreadyExists" {
                let failed = Error::api("create ControllerRevision", objects::key(&wanted));
                return Err(failed(error));
            }
            let there = self
                .api()
                .get_opt(objects::name(&wanted))
                .await
                .map_err(Error::api("read ControllerRevision", objects::key(&wanted)))?;
            let ours = |one: &ControllerRevision| {
                objects::controller_of(one).is_some_and(|by| by.uid == objects::uid(self.owner))
                    && !objects::is_terminating(one)
            };
            match there {
                // by ourselves a moment ago
                Some(there) if ours(&there) && there.data == wanted.data => {
                    return Ok(Arc::new(there));
                }
                Some(_) => *collisions += 1,
                None => {}
            }
        }
        Err(Error::Stale {
            object: objects::key(self.owner),
        })
    }

    /// Deletes revisions.
    pub async fn delete(&self, revisions: &[Arc<ControllerRevision>]) -> Result<(), Error> {
        for revision in revisions {
            let name = objects::name(&**revision);
            match self.api().delete(name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(error) => {
                    let failed = Error::api("delete ControllerRevision", objects::key(&**revision));
                    return Err(failed(error));
                }
            }
        }
        Ok(())
    }

    fn api(&self) -> Api<ControllerRevision> {
        Api::namespaced(self.client.clone(), objects::namespace(self.owner))
    }
}
