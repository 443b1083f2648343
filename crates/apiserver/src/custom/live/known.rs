//! What is known of definitions, what is to be said of them, and the kinds that are made of them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use store::{Expect, Revision};
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, Capacity};
use crate::custom::build::{self, Shared};
use crate::custom::definition::{self, PREFIX, condition, set_condition};
use crate::custom::jsonpath::JsonPath;
use crate::custom::names::{Taken, settle};
use crate::object::{self, text};
use crate::registry::{self, Kind, KindRef};
use crate::server::State;

/// The most definitions whose kinds are served; a cache each, however few objects.
const DEFINITIONS_MAX: usize = 1000;
/// The most places in all schemas together: some 150 MB.
const NODES_MAX: usize = 500_000;

/// What was read and made before.
#[derive(Default)]
pub(super) struct Known {
    pub parsed: HashMap<String, (Revision, Arc<Value>)>,
    pub served: HashMap<String, Served>,
}

/// A definition whose kinds are served.
pub(super) struct Served {
    uid: String,
    /// Specification and accepted names that the kinds were made from.
    made_from: Arc<Value>,
    pub kinds: Vec<Arc<Kind>>,
    nodes: usize,
    fields: Arc<Vec<(String, JsonPath)>>,
    cache: Arc<Cache>,
    /// Ends the cache.
    end: CancellationToken,
    /// Ends the watches on the kinds as they are.
    ending: CancellationToken,
}

impl Known {
    pub async fn read(&mut self, state: &State) -> Result<(), store::Error> {
        let page = state.store.range(PREFIX, None, 0, None).await?;
        let mut before = std::mem::take(&mut self.parsed);
        for kv in page.items {
            let name = kv.key.trim_start_matches(PREFIX).to_owned();
            let parsed = match before.remove(&name) {
                Some((revision, parsed)) if revision == kv.mod_revision => parsed,
                _ => Arc::new(object::parse(&kv.value, kv.mod_revision)),
            };
            self.parsed.insert(name, (kv.mod_revision, parsed));
        }
        Ok(())
    }

    /// Where the definition of this name was changed last, as far as it was read.
    pub fn revision(&self, name: &str) -> Option<Revision> {
        self.parsed.get(name).map(|(revision, _)| *revision)
    }

    /// Writes the statuses that change; whether any did.
    pub async fn judge(&mut self, state: &State) -> Result<bool, store::Error> {
        let mut any = false;
        let mut names: Vec<_> = self.parsed.keys().cloned().collect();
        // who came first keeps the name
        names.sort_by_key(|name| {
            (
                text(&self.parsed[name].1, &["metadata", "creationTimestamp"]).to_owned(),
                name.clone(),
            )
        });
        for name in names {
            let (revision, old) = self.parsed[&name].clone();
            let taken = self.taken(&name, text(&old, &["spec", "group"]));
            let room = self.room(&name);
            let Some(new) = judged(&old, &taken, room, &crate::time::now()) else {
                continue;
            };
            let key = format!("{PREFIX}{name}");
            match state
                .store
                .put(&key, object::encode(&new), Expect::Revision(revision))
                .await
            {
                Ok(kv) => {
                    any = true;
                    let parsed = Arc::new(object::parse(&kv.value, kv.mod_revision));
                    self.parsed.insert(name, (kv.mod_revision, parsed));
                }
                // changed meanwhile: it is read again
                Err(store::Error::Conflict { .. } | store::Error::NotFound) => any = true,
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }

    /// The names that others of the group have, and the program itself.
    fn taken(&self, name: &str, group: &str) -> Taken {
        let mut taken = Taken::default();
        for (other, (_, definition)) in &self.parsed {
            if other != name && text(definition, &["spec", "group"]) == group {
                taken.add(&definition["status"]["acceptedNames"]);
            }
        }
        for kind in registry::all().iter().filter(|kind| kind.group == group) {
            taken.add(&serde_json::json!({"plural": kind.plural, "singular": kind.singular, "shortNames": kind.short_names,
                "kind": kind.kind, "listKind": format!("{}List", kind.kind)}));
        }
        taken
    }

    /// Whether one more may be served.
    fn room(&self, name: &str) -> bool {
        let others = self.served.iter().filter(|(other, _)| *other != name);
        let (count, nodes) = others.fold((0, 0), |(count, nodes), (_, served)| {
            (count + 1, nodes + served.nodes)
        });
        count < DEFINITIONS_MAX && nodes < NODES_MAX
    }

    /// Makes the kinds of what is established, and keeps those that have not changed.
    /// Returns what is to end once the new kinds are found.
    pub async fn serve(
        &mut self,
        state: &Arc<State>,
    ) -> Result<Vec<CancellationToken>, store::Error> {
        let mut ended = Vec::new();
        let names: Vec<String> = self.parsed.keys().cloned().collect();
        for name in names {
            let definition = self.parsed[&name].1.clone();
            let established =
                condition(&definition, "Established").is_some_and(|c| c["status"] == "True");
            if !established {
                continue;
            }
            let before = self
                .served
                .get(&name)
                .filter(|served| served.uid == text(&definition, &["metadata", "uid"]));
            if before.is_some_and(|served| same(&served.made_from, &definition)) {
                continue;
            }
            let fields = Arc::new(build::fields(&definition));
            let reused = before
                .filter(|served| served.fields == fields)
                .map(|served| (served.cache.clone(), served.end.clone()));
            let was = before.map(|served| (served.made_from.clone(), served.ending.clone()));
            let mut shared = Shared {
                fields: fields.clone(),
                cache: None,
                ending: state.shutdown.child_token(),
            };
            // nothing but the deletion has begun: who watches goes on watching
            if let Some((_, ending)) = was.filter(|(from, _)| alike(from, &definition)) {
                shared.ending = ending;
            }
            let (cache, end) = match reused {
                Some(reused) => reused,
                None => {
                    let Some(reader) = build::reader(&definition, &shared) else {
                        tracing::warn!(name, "no room for the kinds of a CustomResourceDefinition");
                        continue;
                    };
                    let end = state.shutdown.child_token();
                    let capacity = Capacity {
                        changes: state.config.watch_window,
                        bytes: state.config.watch_window_bytes,
                    };
                    let cache = Cache::start(
                        KindRef::Custom(Arc::new(reader)),
                        state.store.clone(),
                        capacity,
                        end.clone(),
                    )
                    .await;
                    match cache {
                        Ok(cache) => (cache, end),
                        Err(crate::Error::Store { source, .. }) => return Err(source),
                        Err(error) => {
                            tracing::warn!(%error, name, "could not follow the objects of a CustomResourceDefinition");
                            continue;
                        }
                    }
                }
            };
            shared.cache = Some(cache.clone());
            let Some((kinds, nodes)) = build::kinds(&definition, &shared) else {
                tracing::warn!(name, "no room for the kinds of a CustomResourceDefinition");
                continue;
            };
            let served = Served {
                uid: text(&definition, &["metadata", "uid"]).to_owned(),
                made_from: definition,
                kinds,
                nodes,
                fields,
                cache,
                end,
                ending: shared.ending,
            };
            if let Some(old) = self.served.insert(name.clone(), served) {
                let new = &self.served[&name];
                let other_cache = !Arc::ptr_eq(&old.cache, &new.cache);
                if other_cache || !alike(&old.made_from, &new.made_from) {
                    ended.push(old.ending);
                }
                if other_cache {
                    ended.push(old.end);
                }
            }
        }
        Ok(ended)
    }

    /// Forgets what is no longer defined; the tokens to end, once nobody finds it any more.
    pub fn ended(&mut self) -> Vec<CancellationToken> {
        let gone: Vec<String> = self
            .served
            .keys()
            .filter(|name| !self.parsed.contains_key(*name))
            .cloned()
            .collect();
        let served = gone.iter().filter_map(|name| self.served.remove(name));
        served
            .flat_map(|served| [served.ending, served.end])
            .collect()
    }
}

/// Whether kinds made from one definition are those of the other.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    let terminating = |definition: &Value| definition["metadata"]["deletionTimestamp"].is_string();
    alike(one, other) && terminating(one) == terminating(other)
}

/// Whether they differ in no more than that one is being deleted.
pub(super) fn alike(one: &Value, other: &Value) -> bool {
    let names = |definition: &Value| definition["status"]["acceptedNames"].clone();
    one["spec"] == other["spec"] && names(one) == names(other)
}

/// The definition with what is to be said of it; `None` when that is said already.
pub(super) fn judged(old: &Value, taken: &Taken, room: bool, now: &str) -> Option<Value> {
    let mut new = old.clone();
    if let Some((status, reason, message)) = definition::approved(old) {
        set_condition(
            &mut new,
            "KubernetesAPIApprovalPolicyConformant",
            status,
            reason,
            &message,
            now,
        );
    }
    let names = &old["spec"]["names"];
    let verdict = settle(names, &old["status"]["acceptedNames"], taken);
    new["status"]["acceptedNames"] = verdict.accepted;
    let accepted = verdict.conflict.is_none();
    match &verdict.conflict {
        None => set_condition(
            &mut new,
            "NamesAccepted",
            "True",
            "NoConflicts",
            "no conflicts found",
            now,
        ),
        Some((reason, message)) => {
            set_condition(&mut new, "NamesAccepted", "False", reason, message, now)
        }
    }
    let established = condition(old, "Established").is_some_and(|c| c["status"] == "True");
    if !established {
        match (accepted, room) {
            (true, true) => set_condition(
                &mut new,
                "Established",
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted",
                now,
            ),
            (true, false) => set_condition(
                &mut new,
                "Established",
                "False",
                "TooManyDefinitions",
                "this server serves no more custom resources; delete definitions that are not needed",
                now,
            ),
            (false, _) => set_condition(
                &mut new,
                "Established",
                "False",
                "NotAccepted",
                "not all names are accepted",
                now,
            ),
        }
    }
    (new != *old).then_some(new)
}
