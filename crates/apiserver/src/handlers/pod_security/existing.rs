//! What a namespace's new labels would say of the pods that are there already: they go on running, and whoever sets the labels
//! is warned of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::Context;
use crate::object::{self, text};
use crate::pod_security::{Standard, evaluate};

/// Upstream's limits: so many pods are looked at, and so long.
const PODS_MAX: usize = 3000;
const TIME_MAX: Duration = Duration::from_secs(1);
/// Pods that are in memory at one time.
const PAGE_PODS: usize = 100;

/// Warnings of the pods that do not meet the standard, by what is wrong with them. Unlike upstream's, the first pods by name
/// are looked at where there are more than the limit, not one of each owner before its others.
pub(super) async fn warnings(
    context: &Context,
    namespace: &str,
    standard: Standard,
) -> Vec<String> {
    let Ok(found) = look(context, namespace, standard).await else {
        return vec!["failed to list pods while checking new PodSecurity enforce level".to_owned()];
    };
    found.told(namespace, standard)
}

/// What was found.
#[derive(Default)]
struct Found {
    /// For each combination of reasons the first pod by name, and how many there are.
    wrong: BTreeMap<String, (String, usize)>,
    looked_at: usize,
    total: usize,
}

async fn look(
    context: &Context,
    namespace: &str,
    standard: Standard,
) -> Result<Found, store::Error> {
    let store = &context.state.store;
    let prefix = format!("/registry/pods/{namespace}/");
    let began = Instant::now();
    let mut found = Found::default();
    let mut after: Option<String> = None;
    let mut revision = None;
    loop {
        let page = store
            .range(&prefix, after.as_deref(), PAGE_PODS, revision)
            .await?;
        revision = Some(page.revision);
        if after.is_none() {
            let remaining = page.remaining.unwrap_or_default();
            found.total = page.items.len() + usize::try_from(remaining).unwrap_or(usize::MAX);
        }
        for kv in &page.items {
            if found.looked_at >= PODS_MAX || began.elapsed() >= TIME_MAX {
                return Ok(found);
            }
            found.looked_at += 1;
            let pod = object::parse(&kv.value, kv.mod_revision);
            let wrong = evaluate(standard, &pod["metadata"], &pod["spec"]);
            if !wrong.is_empty() {
                // they come by name
                let name = text(&pod, &["metadata", "name"]).to_owned();
                found.wrong.entry(wrong.reasons()).or_insert((name, 0)).1 += 1;
            }
        }
        after = page.items.last().map(|kv| kv.key.clone());
        if !page.more || after.is_none() {
            return Ok(found);
        }
        tokio::task::yield_now().await;
    }
}

impl Found {
    /// In upstream's words.
    fn told(self, namespace: &str, standard: Standard) -> Vec<String> {
        let mut all = Vec::new();
        if self.looked_at < self.total {
            all.push(format!(
                "new PodSecurity enforce level only checked against the first {} of {} existing pods",
                self.looked_at, self.total
            ));
        }
        if !self.wrong.is_empty() {
            all.push(format!(
                "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
            ));
        }
        let mut pods: Vec<_> = self
            .wrong
            .into_iter()
            .map(|(reasons, (name, count))| match count {
                1 => format!("{name}: {reasons}"),
                2 => format!("{name} (and 1 other pod): {reasons}"),
                _ => format!("{name} (and {} other pods): {reasons}", count - 1),
            })
            .collect();
        pods.sort();
        all.extend(pods);
        all
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod_security::Policy;

    #[test]
    fn pods_that_are_alike_are_told_together() {
        let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
        let standard = Policy::of(&labels).0.enforce;
        let wrong = [
            ("privileged", "b", 1),
            ("hostPort", "c", 2),
            ("hostPort, privileged", "a", 3),
        ];
        let found = Found {
            wrong: wrong
                .into_iter()
                .map(|(why, name, count)| (why.to_owned(), (name.to_owned(), count)))
                .collect(),
            looked_at: 3000,
            total: 3001,
        };
        assert_eq!(
            found.told("n", standard),
            [
                "new PodSecurity enforce level only checked against the first 3000 of 3001 existing pods",
                "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "a (and 2 other pods): hostPort, privileged",
                "b: privileged",
                "c (and 1 other pod): hostPort",
            ]
        );
        assert!(Found::default().told("n", standard).is_empty());
    }
}
