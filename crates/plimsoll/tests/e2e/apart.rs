//! Roles in processes of their own, and API servers that share an etcd.

use std::fs;
use std::path::Path;

use crate::support::{
    Beside, Etcd, Instance, Root, Run, Space, eventually, holds, role, skipped_beside,
};

const WEB: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: 'busybox:static', command: [sleep, '1000']}
"#;

const ROLES: &str = "controllers,scheduler,node";

#[track_caller]
fn up(data_dir: &Path, flags: &str) -> Instance {
    let command = format!("up --data-dir {} {flags}", data_dir.display());
    Run::new(Root::plimsoll(), &command).ok();
    Instance::with(data_dir, Beside::nothing())
}

fn leader(space: &Space, lease: &str) -> String {
    let command = format!("-n kube-system get lease {lease} -o jsonpath={{.spec.holderIdentity}}");
    space.instance.kubectl(&command).ran().stdout
}

/// A killed process loses nothing, its replacement goes on; an end that was asked for is an orderly one.
pub fn roles_work_in_processes_of_their_own() {
    if skipped_beside("this test runs roles apart by itself") {
        return;
    }
    let data_dir = Root::data_dir();
    let instance = std::sync::Arc::new(up(&data_dir, &format!("--without {ROLES}")));
    let controllers = role("controllers", &data_dir);
    let scheduler = role("scheduler", &data_dir);
    let mut node = role("node", &data_dir);
    let socket = instance.run_dir().join("docker.sock");
    eventually("the node's Docker API", || {
        assert!(node.runs(), "{}", node.log());
        if socket.exists() {
            Ok(())
        } else {
            Err("not there")
        }
    });
    instance
        .plimsoll("import /bin/busybox busybox:static --busybox")
        .ok();
    let space = Space::within(instance.clone(), "apart");
    space.apply(WEB);
    space.rolled_out("web");
    let first = leader(&space, "kube-controller-manager");
    assert!(!first.is_empty() && !leader(&space, "kube-scheduler").is_empty());
    let said = instance.plimsoll("backup /dev/null").fails(1);
    holds(&said, "runs without its node");

    // killed: the pods stay, what is asked for meanwhile is done by the next one
    drop(controllers);
    space.kubectl("scale deployment/web --replicas 3").ok();
    let pods = space.field("pods", ".items[*].metadata.name");
    assert_eq!(pods.split_whitespace().count(), 2, "{pods}");
    let replacement = role("controllers", &data_dir);
    space.until("deployment/web", ".status.readyReplicas", "3");
    let now = space.field("pods", ".items[*].metadata.name");
    for pod in pods.split_whitespace() {
        holds(&now, pod);
    }
    assert_ne!(leader(&space, "kube-controller-manager"), first);

    // asked to end: the lease is free, and the next one need not wait
    assert_eq!(scheduler.end(), 0);
    assert_eq!(leader(&space, "kube-scheduler"), "");
    let scheduler = role("scheduler", &data_dir);
    space.kubectl("scale deployment/web --replicas 4").ok();
    space.until("deployment/web", ".status.readyReplicas", "4");

    // the API server is away for a while: nobody ends
    instance.kill_daemon();
    let command = format!("up --without {ROLES}");
    instance.plimsoll(&command).ok();
    space.kubectl("scale deployment/web --replicas 1").ok();
    space.until("deployment/web", ".status.replicas", "1");
    assert!(node.runs(), "{}", node.log());

    drop(space);
    assert_eq!(replacement.end(), 0);
    assert_eq!(scheduler.end(), 0);
    let instance = std::sync::Arc::into_inner(instance).expect("nobody else has it");
    instance.purge();
    assert_eq!(node.end(), 0, "`down` has ended it");
}

/// What one writes the other one has, and etcd's end is survived by both.
pub fn two_api_servers_share_an_etcd() {
    if skipped_beside("this test runs roles apart by itself") {
        return;
    }
    let mut etcd = Etcd::start();
    let (one_dir, two_dir) = (Root::data_dir(), Root::data_dir());
    let store = format!("--store {}", etcd.url());
    let one = up(&one_dir, &store);
    // the same authority
    fs::create_dir(&two_dir).expect("a directory");
    let copied = format!("-a {}/pki {}/pki", one_dir.display(), two_dir.display());
    Run::new("cp", &copied).ok();
    let two = up(&two_dir, &format!("{store} --without {ROLES}"));

    let settings = "create configmap shared --from-literal=by=one";
    one.kubectl(settings).ok();
    let value = |instance: &Instance| {
        let command = "get configmap shared -o jsonpath={.data.by}";
        instance.kubectl(command).ran().stdout
    };
    assert_eq!(value(&two), "one");
    // of a list: by its name, kubectl leaves out a change between its reading and its watch
    let by_name = "get configmaps --field-selector=metadata.name=shared --watch";
    let watching = one.kubectl(&format!("{by_name} -o 'jsonpath={{.data.by}}{{\"\\n\"}}'"));
    let watching = watching.background();
    watching.line_with("one");
    let patch = "patch configmap shared -p '{\"data\":{\"by\":\"two\"}}'";
    two.kubectl(patch).ok();
    watching.line_with("two");
    drop(watching);
    assert_eq!(value(&one), "two");
    // as Kubernetes keeps it: a stock API server would read it
    let stored = Run::new(
        "etcdctl",
        &format!(
            "--endpoints {} get --print-value-only /registry/configmaps/default/shared",
            etcd.endpoint()
        ),
    )
    .env("ETCDCTL_API", "3")
    .ok();
    let stored: serde_json::Value = serde_json::from_str(&stored).expect("JSON");
    assert_eq!(
        (&stored["kind"], &stored["apiVersion"]),
        (&"ConfigMap".into(), &"v1".into())
    );

    // the embedded store's features are refused in words
    let said = one.plimsoll("backup /dev/null").fails(1);
    holds(&said, "etcdctl snapshot save");
    one.plimsoll("down").ok();
    let said = one.plimsoll("up").fails(1);
    holds(&said, "this instance keeps its objects on etcd://");
    one.plimsoll(&format!("up {store}")).ok();
    assert_eq!(value(&one), "two");

    holds(&two.kubectl("get --raw /readyz?verbose").ok(), "[+]etcd ok");
    etcd.kill();
    // an answer of etcd's holds for half a second
    eventually("it is not ready without etcd", || {
        let ran = two.kubectl("get --raw /readyz?verbose").ran();
        let said = [&*ran.stdout, &*ran.stderr].concat();
        let told = ran.code == 1 && said.contains("[-]etcd failed");
        if told { Ok(()) } else { Err(ran) }
    });
    let said = two.kubectl("create configmap lost").fails(1);
    assert!(!said.contains("created"), "{said}");
    etcd.run();
    eventually("writes go on", || {
        let ran = two.kubectl("create configmap kept").ran();
        let there = ran.code == 0 || ran.stderr.contains("AlreadyExists");
        if there { Ok(()) } else { Err(ran) }
    });
    eventually("the other one has it", || {
        let ran = one.kubectl("get configmap kept").ran();
        if ran.code == 0 { Ok(()) } else { Err(ran) }
    });
    two.purge();
    one.purge();
}
