//! A namespace of one test.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::poll::{deadline, patience};
use super::{Instance, Root, Run, eventually, shared};

/// Removed, with everything in it, when it is dropped.
pub struct Space {
    pub instance: Arc<Instance>,
    pub name: String,
}

impl Space {
    /// A namespace of the shared instance.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        Self::within(shared(), name)
    }

    /// A namespace of an instance.
    #[track_caller]
    pub fn within(instance: Arc<Instance>, name: &str) -> Self {
        instance.kubectl(&format!("create namespace {name}")).ok();
        Self {
            instance,
            name: name.to_owned(),
        }
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self, arguments: &str) -> Run {
        self.instance
            .kubectl(&format!("-n {} {arguments}", self.name))
    }

    /// `kubectl apply` of a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        self.kubectl("apply -f -").stdin(manifest).ok()
    }

    /// One field, by JSONPath without its braces.
    pub fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&format!("get {object} -o jsonpath={{{path}}}"))
            .ran()
            .stdout
    }

    /// Waits until a field is as wanted.
    #[track_caller]
    pub fn until(&self, object: &str, path: &str, wanted: &str) {
        self.until_holds(
            &format!("get {object} -o jsonpath={{{path}}}"),
            |text| text == wanted,
            wanted,
        );
    }

    /// Waits until a kubectl command succeeds and prints what is wanted.
    #[track_caller]
    pub fn until_says(&self, arguments: &str, wanted: &str) -> String {
        self.until_holds(arguments, |text| text.contains(wanted), wanted)
    }

    #[track_caller]
    fn until_holds(&self, arguments: &str, holds: impl Fn(&str) -> bool, wanted: &str) -> String {
        eventually(&format!("{wanted:?} from kubectl {arguments}"), || {
            let ran = self.kubectl(arguments).ran();
            if ran.code == 0 && holds(&ran.stdout) {
                Ok(ran.stdout)
            } else {
                Err(ran)
            }
        })
    }

    /// Waits for every replica of a deployment.
    #[track_caller]
    pub fn rolled_out(&self, deployment: &str) {
        let text = self
            .kubectl(&format!(
                "rollout status deployment/{deployment} --timeout={}s",
                90 * patience()
            ))
            .ok();
        super::holds(&text, "successfully rolled out");
    }

    /// Waits for the only pod with a label to be ready, or for the pod of a name.
    #[track_caller]
    pub fn ready(&self, pod: &str) {
        let limit = deadline().as_secs();
        self.kubectl(&format!(
            "wait --for=condition=Ready {pod} --timeout={limit}s"
        ))
        .ok();
    }

    /// An object as data.
    #[track_caller]
    pub fn get(&self, object: &str) -> Value {
        serde_json::from_str(&self.kubectl(&format!("get {object} -o json")).ok())
            .expect("kubectl prints JSON")
    }
}

/// A kubeconfig whose namespace is that of a test's: with `-n`, kubectl refuses documents that name another.
pub fn context(instance: &Instance, namespace: &str) -> PathBuf {
    let file = Root::home().join(format!("{namespace}.kubeconfig"));
    if !file.exists() {
        let text =
            std::fs::read_to_string(instance.data_dir.join("kubeconfig")).expect("kubeconfig");
        let mut config: Value = serde_saphyr::from_str(&text).expect("YAML");
        config["contexts"][0]["context"]["namespace"] = namespace.into();
        std::fs::write(&file, config.to_string()).expect("written");
    }
    file
}

impl Drop for Space {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let pods = self.kubectl("get pods -o wide").ran();
            let events = self.kubectl("get events").ran();
            eprintln!(
                "--- namespace {}\n{}\n{}",
                self.name,
                pods.both(),
                events.both()
            );
        }
        // each test has its own: nobody waits for the end
        let _ = self
            .instance
            .kubectl(&format!(
                "delete namespace {} --wait=false --ignore-not-found",
                self.name
            ))
            .ran();
    }
}
