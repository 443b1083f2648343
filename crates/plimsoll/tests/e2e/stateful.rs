//! StatefulSets and DaemonSets by kubectl: names, data, order, rollouts and their history.

use crate::support::{Space, eventually, holds};

const SET: &str = "
apiVersion: v1
kind: Service
metadata: {name: dbs}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: dbs
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox:static
        command: [sh, -c, 'hostname >> /data/starts; exec sleep 1000']
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
";

const DAEMON: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: 'busybox:static', command: [sleep, '1000']}]
";

fn rolled_out(space: &Space, what: &str) -> String {
    space
        .kubectl(&format!("rollout status {what} --timeout=90s"))
        .ok()
}

pub fn a_stateful_set_keeps_its_names_and_data() {
    let space = Space::new("stateful");
    space.apply(SET);
    holds(
        &rolled_out(&space, "sts/db"),
        "2 new pods have been updated",
    );
    let names = || space.field("pods -l app=db", ".items[*].metadata.name");
    assert_eq!(names(), "db-0 db-1");
    assert_eq!(
        space.field("pvc", ".items[*].metadata.name"),
        "data-db-0 data-db-1"
    );
    let starts = |pod: &str| {
        space
            .kubectl(&format!("exec {pod} -- cat /data/starts"))
            .ok()
    };
    assert_eq!(starts("db-0"), "db-0\n");
    assert_eq!(starts("db-1"), "db-1\n");
    // the second one is made when the first one is ready
    let first = space.get("pod/db-0");
    let conditions = first["status"]["conditions"].as_array().expect("a list");
    let ready = conditions.iter().find(|one| one["type"] == "Ready");
    let ready = ready.expect("it is ready")["lastTransitionTime"].as_str();
    let second = space.get("pod/db-1");
    assert!(ready <= second["metadata"]["creationTimestamp"].as_str());

    let uid = || space.field("pod/db-1", ".metadata.uid");
    let before = uid();
    space.kubectl("delete pod db-1").ok();
    eventually("another db-1", || {
        let now = uid();
        if now.is_empty() || now == before {
            Err(now)
        } else {
            Ok(())
        }
    });
    space.ready("pod/db-1");
    assert_eq!(starts("db-1"), "db-1\ndb-1\n", "the data was kept");
    let address = space.field("pod/db-1", ".status.podIP");
    eventually("the name of a pod", || {
        let name = "db-1.dbs.stateful.svc.cluster.local";
        let ran = space
            .kubectl(&format!("exec db-0 -- nslookup -type=a {name}"))
            .ran();
        if ran.stdout.contains(&format!("Address: {address}\n")) {
            Ok(())
        } else {
            Err(ran)
        }
    });

    holds(&space.kubectl("rollout restart sts/db").ok(), "restarted");
    rolled_out(&space, "sts/db");
    assert_eq!(starts("db-0"), "db-0\ndb-0\n");
    let history = space.kubectl("rollout history sts/db").ok();
    assert_eq!(
        history
            .lines()
            .filter(|l| l.starts_with(['1', '2']))
            .count(),
        2,
        "{history}"
    );

    space.kubectl("scale sts db --replicas=1").ok();
    eventually("one pod is left", || {
        let left = names();
        if left == "db-0" { Ok(()) } else { Err(left) }
    });
    assert_eq!(
        space.field("pvc", ".items[*].status.phase"),
        "Bound Bound",
        "claims stay"
    );
    let wide = space.kubectl("get sts -o wide").ok();
    for part in ["READY", "1/1", "busybox:static"] {
        holds(&wide, part);
    }
    holds(
        &space.kubectl("describe sts db").ok(),
        "create Pod db-1 in StatefulSet db successful",
    );
}

pub fn a_daemon_set_has_a_pod_on_every_node() {
    let space = Space::new("daemons");
    space.apply(DAEMON);
    holds(&rolled_out(&space, "ds/agent"), "successfully rolled out");
    let nodes = space.field("nodes", ".items[*].metadata.name");
    let placed = || space.field("pods -l app=agent", ".items[*].spec.nodeName");
    assert_eq!(placed(), nodes);
    space.kubectl("set env ds/agent COLOUR=green").ok();
    rolled_out(&space, "ds/agent");
    let says = |wanted: &str| {
        space.until_says("exec ds/agent -- env", wanted);
    };
    says("COLOUR=green");
    let history = space.kubectl("rollout history ds/agent --revision=2").ok();
    holds(&history, "COLOUR");
    holds(&space.kubectl("rollout undo ds/agent").ok(), "rolled back");
    rolled_out(&space, "ds/agent");
    eventually("the first version", || {
        let ran = space.kubectl("exec ds/agent -- env").ran();
        if ran.code == 0 && !ran.stdout.contains("COLOUR") {
            Ok(())
        } else {
            Err(ran)
        }
    });
    let shown = space.kubectl("get ds agent").ok();
    for part in ["DESIRED", "UP-TO-DATE", "NODE SELECTOR", "<none>"] {
        holds(&shown, part);
    }
    assert_eq!(placed(), nodes);
}
