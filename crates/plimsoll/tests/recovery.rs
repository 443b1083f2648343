//! The daemon is killed in the middle of work; started again, it brings the work to its end.
//!
//! Needs root, kubectl in `target/clients` and busybox-static, as the end-to-end tests do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "e2e/support/disk.rs"]
mod disk;

/// Longest that anything may take to happen.
const PATIENCE: Duration = Duration::from_secs(40);

/// A Deployment of pods that end at once when asked to; `VERSION` is replaced.
const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 10
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: "VERSION"}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox:static
        command: [sh, -c, "trap exit TERM; while true; do sleep 100 & wait; done"]
        resources: {requests: {cpu: 10m, memory: 4Mi}}
"#;

/// One instance, removed with everything in it.
struct Instance {
    directory: tempfile::TempDir,
}

impl Instance {
    fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-recovery-")
            .tempdir()
            .expect("a directory");
        let instance = Self { directory };
        instance.up();
        instance.plimsoll(&["import", "/bin/busybox", "busybox:static", "--busybox"]);
        instance
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    #[track_caller]
    fn plimsoll(&self, arguments: &[&str]) {
        let (ok, said) = self.run(env!("CARGO_BIN_EXE_plimsoll"), arguments, None);
        assert!(ok, "plimsoll {arguments:?}: {said}");
    }

    #[track_caller]
    fn up(&self) {
        self.plimsoll(&["up"]);
    }

    fn run(
        &self,
        program: impl AsRef<Path>,
        arguments: &[&str],
        input: Option<&str>,
    ) -> (bool, String) {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=5", "60"])
            .arg(program.as_ref())
            .args(arguments);
        command
            .env("PLIMSOLL_DATA_DIR", self.data())
            .env("KUBECONFIG", self.data().join("kubeconfig"))
            .envs(disk::ANY_DISK);
        command.env("HOME", self.directory.path());
        if let Some(input) = input {
            let file = self.directory.path().join("input.yaml");
            std::fs::write(&file, input).expect("a file");
            command.arg(file);
        }
        let output = command.output().expect("it runs");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.success(),
            text(&output.stdout) + &text(&output.stderr),
        )
    }

    fn kubectl_ran(&self, arguments: &[&str], input: Option<&str>) -> (bool, String) {
        let kubectl = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients/kubectl");
        assert!(
            kubectl.is_file(),
            "{} is missing: run scripts/clients, which fetches it",
            kubectl.display()
        );
        self.run(kubectl, arguments, input)
    }

    #[track_caller]
    fn kubectl(&self, arguments: &[&str]) -> String {
        let (ok, said) = self.kubectl_ran(arguments, None);
        assert!(ok, "kubectl {arguments:?}: {said}");
        said
    }

    #[track_caller]
    fn apply(&self, text: &str) {
        let (ok, said) = self.kubectl_ran(&["apply", "-f"], Some(text));
        assert!(ok, "kubectl apply: {said}");
    }

    fn get(&self, arguments: &[&str]) -> Value {
        let said = self.kubectl(&[&["get", "-o", "json"], arguments].concat());
        serde_json::from_str(&said).expect("JSON")
    }

    /// `kill -9`, and `up` again.
    #[track_caller]
    fn kill_and_start_again(&self) {
        let instance =
            std::fs::read_to_string(self.data().join("instance.json")).expect("instance.json");
        let instance: Value = serde_json::from_str(&instance).expect("JSON");
        let file = Path::new("/run")
            .join(instance["name"].as_str().expect("a name"))
            .join("daemon.pid");
        let text = std::fs::read_to_string(&file).expect("a pid file");
        let number = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse::<i32>().ok())
            .expect("a pid");
        let pid = rustix::process::Pid::from_raw(number).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
        eventually("the daemon is dead", || {
            // Its files, and with them the lock on the directory, are held until the last thread has gone.
            let threads = std::fs::read_dir(format!("/proc/{number}/task"))
                .map_or(0, |tasks| tasks.flatten().count());
            let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            let zombie = stat
                .rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('Z'));
            if threads == 0 || (threads == 1 && zombie) {
                Ok(())
            } else {
                Err(format!("{threads} threads: {stat}"))
            }
        });
        self.up();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let (ok, said) = self.run(env!("CARGO_BIN_EXE_plimsoll"), &["down", "--purge"], None);
        if !ok {
            eprintln!("the instance was not removed: {said}");
        }
    }
}

#[track_caller]
fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) if start.elapsed() > PATIENCE => {
                panic!("not so after {PATIENCE:?}: {what}; last: {last}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn items(list: &Value) -> &[Value] {
    list["items"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

#[test]
fn a_rolling_update_ends_after_the_daemon_was_killed() {
    let instance = Instance::new();
    instance.apply(&DEPLOYMENT.replace("VERSION", "one"));
    instance.kubectl(&["rollout", "status", "deployment/web", "--timeout=40s"]);
    instance.apply(&DEPLOYMENT.replace("VERSION", "two"));
    let updated = eventually("the update is under way", || {
        let status = &instance.get(&["deployment/web"])["status"];
        match status["updatedReplicas"].as_i64() {
            Some(updated) if (1..10).contains(&updated) && status["observedGeneration"] == 2 => {
                Ok(updated)
            }
            _ => Err(status.to_string()),
        }
    });
    instance.kill_and_start_again();
    instance.kubectl(&["rollout", "status", "deployment/web", "--timeout=40s"]);
    eventually("ten pods, all new and running", || {
        let pods = instance.get(&["pods"]);
        let right = |pod: &Value| {
            pod["metadata"]["labels"]["version"] == "two"
                && pod["metadata"]["deletionTimestamp"].is_null()
                && pod["status"]["containerStatuses"][0]["ready"] == true
                && pod["status"]["containerStatuses"][0]["restartCount"] == 0
        };
        let wrong: Vec<&Value> = items(&pods).iter().filter(|pod| !right(pod)).collect();
        let all = items(&pods).len();
        if all == 10 && wrong.is_empty() {
            Ok(())
        } else {
            let states: Vec<_> = wrong
                .iter()
                .map(|pod| format!("{} {}", pod["metadata"]["name"], pod["status"]))
                .collect();
            let states = states.join("\n");
            Err(format!(
                "{all} pods, killed with {updated} updated; wrong:\n{states}"
            ))
        }
    });
    let sets = instance.get(&["replicasets"]);
    let mut sizes: Vec<(Option<i64>, Option<i64>)> = items(&sets)
        .iter()
        .map(|set| {
            (
                set["spec"]["replicas"].as_i64(),
                set["status"]["replicas"].as_i64(),
            )
        })
        .collect();
    sizes.sort_unstable();
    assert_eq!(
        sizes,
        [(Some(0), Some(0)), (Some(10), Some(10))],
        "one set for each version"
    );
    let deployment = instance.get(&["deployment/web"]);
    assert_eq!(
        deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"],
        "2"
    );
}

#[test]
fn a_namespaces_end_comes_after_the_daemon_was_killed() {
    let instance = Instance::new();
    instance.kubectl(&["create", "namespace", "doomed"]);
    instance.kubectl(&["config", "set-context", "--current", "--namespace=doomed"]);
    instance.apply(&DEPLOYMENT.replace("VERSION", "one"));
    let maps: Vec<String> = (0..100)
        .map(|n| format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: map-{n}}}\n"))
        .collect();
    instance.apply(&maps.concat());
    instance.kubectl(&["rollout", "status", "deployment/web", "--timeout=40s"]);
    instance.kubectl(&["delete", "namespace", "doomed", "--wait=false"]);
    instance.kill_and_start_again();
    eventually("the namespace is gone", || {
        let (found, said) =
            instance.kubectl_ran(&["get", "namespace", "doomed", "-o", "json"], None);
        if !found && said.contains("NotFound") {
            Ok(())
        } else {
            Err(said)
        }
    });
    // What was in it does not come back with its name.
    instance.kubectl(&["create", "namespace", "doomed"]);
    let left = instance.get(&["deployments,replicasets,pods"]);
    assert!(items(&left).is_empty(), "{left}");
    let maps = instance.get(&["configmaps"]);
    assert!(
        items(&maps)
            .iter()
            .all(|map| map["metadata"]["name"] == "kube-root-ca.crt"),
        "{maps}"
    );
}
