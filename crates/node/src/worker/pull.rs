//! The image of a container, as its pull policy wants it.

use std::collections::BTreeSet;
use std::time::Duration;

use image::Image;
use k8s_openapi::api::core::v1::{Container, Secret};
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use super::Worker;
use super::restart::backoff_s;
use crate::credentials;

/// How often it is looked whether an image has come by other ways.
const LOOK: Duration = Duration::from_secs(2);

impl Worker {
    /// The image as the pull policy wants it, or `None` with the reason noted and a retry planned.
    pub(super) async fn image(&mut self, container: &Container) -> Option<Image> {
        let reference = container.image.clone().unwrap_or_default();
        let policy = policy_of(container);
        let name = container.name.clone();
        let parsed = image::Reference::parse(&reference);
        if let Err(error) = &parsed {
            let message = format!(
                "Failed to apply default image tag \"{reference}\": couldn't parse image name \"{reference}\": {error}"
            );
            let known = self
                .attempts
                .get(&name)
                .and_then(|attempt| attempt.waiting.clone());
            if known.is_none_or(|(reason, _)| reason != "InvalidImageName") {
                self.shared.recorder.warning(
                    &self.pod,
                    Some(&name),
                    "InspectFailed",
                    message.clone(),
                );
                self.shared.recorder.warning(
                    &self.pod,
                    Some(&name),
                    "Failed",
                    "Error: InvalidImageName",
                );
            }
            self.note_waiting(&name, "InvalidImageName", &message);
            let due = Instant::now() + Duration::from_secs(backoff_s(5));
            let attempt = self.attempts.entry(name).or_default();
            (attempt.retry_at, attempt.lacking) = (Some(due), Some(reference));
            self.retry_at(due.min(Instant::now() + LOOK));
            return None;
        }
        if let Some(image) = self.usable(&reference, &policy) {
            self.shared.images.note_use(&image);
            let message = format!("Container image \"{reference}\" already present on machine");
            self.shared
                .recorder
                .normal(&self.pod, Some(&name), "Pulled", message);
            self.attempts.entry(name).or_default().pull_failures = 0;
            return Some(image);
        }
        let outcome = if policy == "Never" {
            let message =
                format!("Container image \"{reference}\" is not present with pull policy of Never");
            self.shared.recorder.warning(
                &self.pod,
                Some(&name),
                "ErrImageNeverPull",
                message.clone(),
            );
            Err(("ErrImageNeverPull", message))
        } else {
            self.shared.recorder.normal(
                &self.pod,
                Some(&name),
                "Pulling",
                format!("Pulling image \"{reference}\""),
            );
            let began = Instant::now();
            self.note_waiting(&name, "ContainerCreating", "");
            self.report().await;
            let pulled = tokio::select! {
                pulled = self.pull(&reference, parsed.ok()) => pulled,
                () = self.interrupted() => {
                    self.retry_at(Instant::now());
                    return None;
                }
            };
            match pulled {
                Ok(image) => {
                    let message = format!(
                        "Successfully pulled image \"{reference}\" in {:.3}s. Image size: {} bytes.",
                        began.elapsed().as_secs_f64(),
                        image.size_bytes
                    );
                    self.shared
                        .recorder
                        .normal(&self.pod, Some(&name), "Pulled", message);
                    Ok(image)
                }
                Err(error) => {
                    let message = format!("failed to pull image \"{reference}\": {error}");
                    self.shared.recorder.warning(
                        &self.pod,
                        Some(&name),
                        "Failed",
                        format!("Failed to pull image \"{reference}\": {error}"),
                    );
                    self.shared.recorder.warning(
                        &self.pod,
                        Some(&name),
                        "Failed",
                        "Error: ErrImagePull",
                    );
                    Err(("ErrImagePull", message))
                }
            }
        };
        match outcome {
            Ok(image) => {
                self.attempts.entry(name).or_default().pull_failures = 0;
                Some(image)
            }
            Err((reason, message)) => {
                let attempt = self.attempts.entry(name.clone()).or_default();
                let failures = attempt.pull_failures;
                attempt.pull_failures = failures.saturating_add(1);
                let wait = Duration::from_secs(backoff_s(failures));
                let due = Instant::now() + wait;
                (attempt.retry_at, attempt.lacking) = (Some(due), Some(reference.clone()));
                self.retry_at(due.min(Instant::now() + LOOK));
                self.note_waiting(&name, reason, &message);
                if reason == "ErrImagePull" {
                    self.report().await;
                    self.note_waiting(
                        &name,
                        "ImagePullBackOff",
                        &format!("Back-off pulling image \"{reference}\": {message}"),
                    );
                    self.shared.recorder.normal(
                        &self.pod,
                        Some(&name),
                        "BackOff",
                        format!("Back-off pulling image \"{reference}\""),
                    );
                    let message = "Error: ImagePullBackOff";
                    let recorder = &self.shared.recorder;
                    recorder.warning(&self.pod, Some(&name), "Failed", message);
                }
                None
            }
        }
    }

    /// The image as it is here, if the policy is content with that.
    fn usable(&self, reference: &str, policy: &str) -> Option<Image> {
        let present = self.shared.images.resolve(reference);
        // a tag that was last set on this machine (built, loaded, tagged) is as fresh as it can be
        present.filter(|image| policy != "Always" || image.local)
    }

    /// Until when the container is not to be tried again. A wait for an image is over when that has come by other ways (it was built,
    /// loaded or pulled), or another one is asked for; this is looked at every now and then.
    pub(super) fn held_until(&mut self, container: &Container) -> Option<Instant> {
        let attempt = self.attempts.get(&container.name)?;
        let due = attempt.retry_at.filter(|due| *due > Instant::now())?;
        let Some(lacking) = attempt.lacking.clone() else {
            return Some(due);
        };
        let another = container.image.as_deref() != Some(&lacking);
        if another || self.usable(&lacking, &policy_of(container)).is_some() {
            let attempt = self.attempts.entry(container.name.clone()).or_default();
            (attempt.retry_at, attempt.lacking, attempt.pull_failures) = (None, None, 0);
            return None;
        }
        Some(due.min(Instant::now() + LOOK))
    }

    /// With each of the credentials that the pod's secrets have for the image, or with none if they have none.
    async fn pull(
        &self,
        reference: &str,
        parsed: Option<image::Reference>,
    ) -> Result<Image, image::Error> {
        let images = &self.shared.images;
        let secrets = self.pull_secrets().await;
        let known = parsed.map(|image| credentials::of_image(&secrets, &image));
        let mut known = known.unwrap_or_default().into_iter();
        let mut outcome = images
            .pull(reference, known.next(), None, image::silent())
            .await;
        for auth in known {
            if outcome.is_ok() {
                break;
            }
            outcome = images
                .pull(reference, Some(auth), None, image::silent())
                .await;
        }
        outcome
    }

    /// The secrets that the pod names; its user is told of those that are not there.
    async fn pull_secrets(&self) -> Vec<Secret> {
        let spec = self.pod.spec.iter();
        let names: BTreeSet<&str> = spec
            .flat_map(|spec| spec.image_pull_secrets.iter().flatten())
            .map(|secret| secret.name.as_str())
            .filter(|name| !name.is_empty())
            .collect();
        let namespace = self.pod.namespace().unwrap_or_default();
        let api: Api<Secret> = Api::namespaced(self.shared.client.clone(), &namespace);
        let (mut secrets, mut missing) = (Vec::new(), Vec::new());
        for name in names {
            match api.get(name).await {
                Ok(secret) => secrets.push(secret),
                Err(error) => {
                    tracing::debug!(%error, namespace, name, "an image pull secret could not be read");
                    missing.push(name);
                }
            }
        }
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            let reason = "FailedToRetrieveImagePullSecret";
            self.shared
                .recorder
                .warning(&self.pod, None, reason, message);
        }
        secrets
    }

    pub(super) fn note_waiting(&mut self, name: &str, reason: &str, message: &str) {
        self.attempts.entry(name.to_owned()).or_default().waiting =
            Some((reason.to_owned(), message.to_owned()));
    }
}

fn policy_of(container: &Container) -> String {
    let reference = container.image.as_deref().unwrap_or_default();
    let own = container.image_pull_policy.clone();
    own.unwrap_or_else(|| default_policy(reference).to_owned())
}

/// `Always` for the tag `latest` or none, else `IfNotPresent`.
fn default_policy(reference: &str) -> &'static str {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    if last.contains('@') || last.split_once(':').is_some_and(|(_, tag)| tag != "latest") {
        "IfNotPresent"
    } else {
        "Always"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_by_tag() {
        for (reference, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(default_policy(reference), policy, "{reference}");
        }
    }
}
