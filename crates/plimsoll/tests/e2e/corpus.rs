//! Manifests of others, every file as its authors wrote it: what is known is taken, or refused as upstream does; read back
//! without loss; and gone when it is deleted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::{Instance, Ran, context, eventually, holds, written};

/// Files that the server refuses in part or as a whole, as upstream's does, and why.
const REFUSED: [(&str, &str); 9] = [
    (
        "kubernetes/hack/testdata/invalid-pod.yaml",
        "The Pod \"test\" is invalid: spec.containers[0].name: Required value",
    ),
    (
        "kubernetes/hack/testdata/pod-apply-status.yaml",
        "The Pod \"test-pod\" is invalid: spec.containers: Required value",
    ),
    (
        "kubernetes/hack/testdata/recursive/rc/rc/busybox-broken.yaml",
        "kind not set",
    ),
    (
        "kubernetes/hack/testdata/recursive/deployment/deployment/nginx-broken.yaml",
        "kind not set",
    ),
    // addresses of upstream's range
    (
        "kubernetes/hack/testdata/service-revision2.yaml",
        "the provided IP (10.0.0.12) is not in the valid range",
    ),
    (
        "kubernetes/hack/testdata/kubernetes-service.yaml",
        "spec.clusterIPs[0]: Invalid value: [\"10.0.0.1\"]: may not change once set",
    ),
    // a pod before its namespace
    (
        "kubernetes/hack/testdata/multi-resource-1.yaml",
        "namespaces \"multi-resource-ns\" not found",
    ),
    (
        "kubernetes/test/e2e/testing-manifests/serviceloadbalancer/netexecsvc.yaml",
        "unknown field \"spec.Type\"",
    ),
    // a part for kustomize
    (
        "metrics-server/manifests/components/autoscale/patch.yaml",
        "unknown field \"spec.template.spec.containers[0].resources.$patch\"",
    ),
];

/// Objects that are there before their file is applied, and stay.
const FURNISHED: [(&str, &str); 1] = [("Service", "kubernetes")];

/// Groups whose kinds nobody has defined here, and versions that upstream has dropped.
const UNKNOWN: [&str; 12] = [
    "kustomize.config.k8s.io/v1alpha1",
    "kustomize.config.k8s.io/v1beta1",
    "builtin",
    "company.com/v1",
    "unit-test.test.com/v1",
    "gateway.networking.k8s.io/v1",
    "networking.istio.io/v1",
    "networking.istio.io/v1alpha3",
    "certmanager.k8s.io/v1alpha1",
    "cert-manager.io/v1",
    "monitoring.coreos.com/v1",
    "policy/v1beta1",
];

/// Kinds outside namespaces, whose names files share: only one of these files at a time.
const OF_THE_CLUSTER: [&str; 7] = [
    "Namespace",
    "PersistentVolume",
    "ClusterRole",
    "ClusterRoleBinding",
    "CertificateSigningRequest",
    "APIService",
    "CustomResourceDefinition",
];

/// What each namespace has anyway, events among it; and the claims of stateful sets, which outlive these, as upstream has it.
const OF_EVERY_NAMESPACE: [&str; 5] = [
    "configmaps",
    "serviceaccounts",
    "events",
    "pods.metrics.k8s.io",
    "persistentvolumeclaims",
];
const OF_EVERY_CLUSTER: [&str; 4] = [
    "namespace/default",
    "namespace/kube-node-lease",
    "namespace/kube-public",
    "namespace/kube-system",
];

/// kubectl takes most of the time, and there are two processors.
const THREADS: usize = 2;

pub fn every_file_is_taken_read_back_whole_and_gone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/manifests");
    let index = std::fs::read_to_string(folder.join("index.json"))
        .unwrap_or_else(|error| panic!("the corpus is missing: {}: {error}", folder.display()));
    let index: Vec<Value> = serde_json::from_str(&index).expect("a list");
    assert!(index.len() > 200, "the corpus has shrunk: {}", index.len());
    let instance = Instance::up();
    // nothing shall run: no image of these exists here
    let node = instance.kubectl("get nodes -o name").ok();
    instance.kubectl(&format!("cordon {}", node.trim())).ok();
    let cases: Vec<Case> = (0..index.len())
        .map(|at| Case::read(&folder, &index[at], at))
        .collect();
    make_namespaces(&instance, &cases);
    let (next, alone, wrong) = (AtomicUsize::new(0), Mutex::new(()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let _alone = case.is_of_the_cluster().then(|| alone.lock());
                    let found = case.walk(&instance);
                    wrong.lock().expect("nobody panics here").extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("nobody panicked");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    nothing_is_left(&instance, &cases);
}

/// Neither objects, nor what controllers made for them, nor the namespaces.
fn nothing_is_left(instance: &Instance, cases: &[Case]) {
    let of_the_cluster =
        "get pv,clusterroles,clusterrolebindings,csr -l '!kubernetes.io/bootstrapping' -o name";
    assert_eq!(instance.kubectl(of_the_cluster).ok(), "");
    let kinds = instance
        .kubectl("api-resources --namespaced --verbs=list -o name")
        .ok();
    let kinds: Vec<&str> = kinds
        .lines()
        .filter(|kind| !OF_EVERY_NAMESPACE.iter().any(|name| kind.starts_with(name)))
        .collect();
    eventually("what the objects made goes with them", || {
        let listed = instance
            .kubectl(&format!("get {} -A --no-headers", kinds.join(",")))
            .ran();
        let left = listed
            .stdout
            .lines()
            .filter(|line| line.starts_with("corpus-"));
        let left: Vec<&str> = left.collect();
        if listed.code == 0 && left.is_empty() {
            Ok(())
        } else {
            Err(left.join("\n") + &listed.stderr)
        }
    });
    let named: BTreeSet<String> = cases.iter().flat_map(Case::namespaces).collect();
    let named: Vec<String> = named.into_iter().collect();
    let delete = format!(
        "delete namespaces --ignore-not-found --wait=false {}",
        named.join(" ")
    );
    instance.kubectl(&delete).ok();
    instance
        .kubectl("delete namespaces -l corpus --wait=false")
        .ok();
    eventually("the namespaces end", || {
        let left = instance.kubectl("get namespaces -o name").ok();
        let left: Vec<&str> = left
            .lines()
            .filter(|name| !OF_EVERY_CLUSTER.contains(name))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join("\n"))
        }
    });
}

/// A file in a namespace of its own.
struct Case {
    file: String,
    path: PathBuf,
    namespace: String,
    documents: Vec<Value>,
}

impl Case {
    fn read(folder: &Path, entry: &Value, at: usize) -> Self {
        let file = entry["file"].as_str().expect("a file").to_owned();
        let path = folder.join(&file);
        let text = std::fs::read_to_string(&path).expect(&file);
        Self {
            namespace: format!("corpus-{at}"),
            documents: written::documents(&text),
            file,
            path,
        }
    }

    /// The documents of kinds that nobody here knows.
    fn unknown(&self) -> impl Iterator<Item = &Value> {
        self.documents.iter().filter(|document| {
            document["apiVersion"]
                .as_str()
                .is_some_and(|v| UNKNOWN.contains(&v))
        })
    }

    fn known(&self) -> impl Iterator<Item = &Value> {
        self.documents.iter().filter(|document| {
            let version = written::text(document, "/apiVersion");
            !UNKNOWN.contains(&version) && !version.is_empty()
        })
    }

    fn is_of_the_cluster(&self) -> bool {
        self.documents.iter().any(|document| {
            OF_THE_CLUSTER.contains(&written::text(document, "/kind"))
                || !written::text(document, "/metadata/namespace").is_empty()
        })
    }

    /// Namespaces that the file names and does not make itself.
    fn namespaces(&self) -> BTreeSet<String> {
        let named = self
            .documents
            .iter()
            .map(|document| written::text(document, "/metadata/namespace"));
        named
            // that one comes too late in its own file, on purpose
            .filter(|name| !name.is_empty() && *name != "multi-resource-ns")
            .filter(|name| !OF_EVERY_CLUSTER.iter().any(|one| one.ends_with(name)))
            .map(str::to_owned)
            .collect()
    }

    /// Applies, reads and deletes. What went otherwise than it should is returned.
    fn walk(&self, instance: &Instance) -> Vec<String> {
        let mut wrong = Vec::new();
        let kubectl = |verb: &str| {
            let at = self.path.display();
            let config = context(instance, &self.namespace);
            instance
                .kubectl(&format!("{verb} -f {at}"))
                .env("KUBECONFIG", config)
                .ran()
        };
        for namespace in self.namespaces() {
            // another file may have made it, or taken it away
            instance
                .kubectl(&format!("create namespace {namespace}"))
                .ran();
        }
        let applied = kubectl("apply");
        let said = applied.both();
        let refusal = REFUSED.iter().find(|(file, _)| *file == self.file);
        let mut reasons: Vec<String> = refusal.iter().map(|(_, part)| (*part).to_owned()).collect();
        reasons.extend(self.unknown().map(|document| {
            let (kind, version) = (
                written::text(document, "/kind"),
                written::text(document, "/apiVersion"),
            );
            format!("no matches for kind \"{kind}\" in version \"{version}\"")
        }));
        if reasons.is_empty() != (applied.code == 0) {
            wrong.push(format!("{}: {applied}", self.file));
        }
        for reason in reasons
            .iter()
            .filter(|reason| !said.contains(reason.as_str()))
        {
            wrong.push(format!("{}: {reason:?} is not in {applied}", self.file));
        }
        match self.objects(&kubectl) {
            // nor of one that is broken
            Err(_) if refusal.is_some() => {}
            // kubectl reads nothing of a file of which it knows one kind not
            Ok(read) if read.is_empty() && self.unknown().next().is_some() => {}
            Ok(read) => wrong.extend(self.lost(&read, refusal.is_some())),
            Err(said) => wrong.push(said),
        }
        // waits until they are gone
        let deleted = kubectl("delete --ignore-not-found --timeout=60s");
        if deleted.code != 0 && reasons.is_empty() {
            wrong.push(format!("{}: {deleted}", self.file));
        }
        wrong
    }

    /// The objects of the file that are there.
    fn objects(&self, kubectl: &impl Fn(&str) -> Ran) -> Result<Vec<Value>, String> {
        let ran = kubectl("get -o json --ignore-not-found");
        if ran.code != 0 && self.unknown().next().is_none() {
            return Err(ran.to_string());
        }
        Ok(written::documents(&ran.stdout))
    }

    /// Documents of known kinds that are not there, or not whole.
    fn lost(&self, read: &[Value], may_miss: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        for document in self.known() {
            let same = |read: &&Value| {
                ["/kind", "/metadata/name"]
                    .iter()
                    .all(|field| written::text(read, field) == written::text(document, field))
            };
            let name = written::text(document, "/metadata/name");
            match read.iter().find(same) {
                None if may_miss => {}
                None => wrong.push(format!("{}: {name} is not there", self.file)),
                Some(_) if FURNISHED.contains(&(written::text(document, "/kind"), name)) => {}
                Some(read) => {
                    let lost = written::lost(document, read);
                    wrong.extend(
                        lost.iter()
                            .map(|lost| format!("{}: {name}{lost}", self.file)),
                    );
                }
            }
        }
        wrong
    }
}

/// The namespaces of all files at once.
fn make_namespaces(instance: &Instance, cases: &[Case]) {
    let items: Vec<String> = cases
        .iter()
        .map(|case| {
            let name = &case.namespace;
            format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{corpus: ''}}}}\n")
        })
        .collect();
    let made = instance.kubectl("create -f -").stdin(items.concat()).ok();
    holds(&made, "namespace/corpus-0 created");
}
