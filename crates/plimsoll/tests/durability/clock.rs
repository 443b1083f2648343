//! The clock jumps by a day, ahead and back: nothing that runs is ended, nothing that should happen waits for the day to pass.

use std::fs;
use std::path::Path;

use super::machine::Machine;
use super::run::eventually;

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  minReadySeconds: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox:static
        command: [sh, -c, "trap exit TERM; httpd -f -p 8080 -h /etc & wait"]
        livenessProbe: {httpGet: {path: /group, port: 8080}, periodSeconds: 1}
        resources: {requests: {cpu: 10m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 2
  maxReplicas: 4
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: limited}
spec:
  activeDeadlineSeconds: 3000
  containers: [{name: main, image: "busybox:static", command: [sleep, "100000"]}]
"#;

const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// What makes the daemon's clock the one of this file.
pub fn environment(clock: &Path) -> [(&'static str, String); 5] {
    let library = LIBRARIES.iter().find(|path| Path::new(path).exists());
    let library =
        library.expect("libfaketime is missing: run scripts/clients, which installs faketime");
    [
        ("LD_PRELOAD", (*library).to_owned()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        // a jump is of the wall clock only
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("FAKETIME_DONT_RESET", "1".to_owned()),
    ]
}

/// Sets the clock of this file so many seconds ahead, or back.
pub fn set(clock: &Path, offset_s: i64) {
    let new = clock.with_extension("new");
    fs::write(&new, format!("{offset_s:+}")).expect("written");
    fs::rename(&new, clock).expect("renamed");
}

fn pods(machine: &Machine) -> Vec<String> {
    let list = machine.get("pods");
    let mut found: Vec<String> = list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|pod| {
            let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
            format!(
                "{} {} {restarts}",
                pod["metadata"]["uid"], pod["status"]["phase"]
            )
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_jump_of_a_day_ends_nothing_and_stops_nothing() {
    let machine = Machine::new(300);
    let clock = machine.disk.outside().join("clock");
    set(&clock, 0);
    let machine = machine.with_environment(&environment(&clock)).started();
    machine.apply(MANIFEST).ok();
    machine
        .kubectl("rollout status deployment/web --timeout=90s")
        .ok();
    machine
        .kubectl("wait --for=condition=Ready pod/limited --timeout=90s")
        .ok();
    eventually("the autoscaler measures", || {
        let said = machine.kubectl("get hpa web").ok();
        if said.contains("cpu: <unknown>") {
            Err(said)
        } else {
            Ok(())
        }
    });
    let before = pods(&machine);
    assert_eq!(before.len(), 3, "{before:?}");

    // ahead by a day, back to now, and to the day before
    for (round, offset_s) in [86_400, 0, -86_400].into_iter().enumerate() {
        set(&clock, offset_s);
        let made = format!("new-{round}");
        eventually("the daemon's clock has jumped", || {
            machine
                .kubectl(&format!("delete configmap {made} --ignore-not-found"))
                .ok();
            machine
                .kubectl(&format!("create configmap {made} --from-literal=a=1"))
                .ok();
            let created = machine
                .kubectl(&format!(
                    "get configmap {made} -o jsonpath={{.metadata.creationTimestamp}}"
                ))
                .ok();
            let created: jiff::Timestamp = created.parse().expect("a time");
            let ahead_s = created.as_second() - jiff::Timestamp::now().as_second();
            if (ahead_s - offset_s).abs() < 600 {
                Ok(())
            } else {
                Err(format!("{ahead_s} s"))
            }
        });
        // what should happen happens
        machine
            .kubectl(&format!(
                "create deployment {made} --image=busybox:static -- sleep 100000"
            ))
            .ok();
        machine
            .kubectl(&format!("rollout status deployment/{made} --timeout=90s"))
            .ok();
        machine
            .kubectl("wait --for=condition=Ready node --all --timeout=60s")
            .ok();
        machine
            .kubectl("wait --for=condition=ScalingActive hpa/web --timeout=60s")
            .ok();
        machine.kubectl(&format!("delete deployment {made}")).ok();
        eventually("its pods are gone, and nobody else's", || {
            let now = pods(&machine);
            if now == before {
                Ok(())
            } else {
                Err(format!("{now:?}"))
            }
        });
        let nodes = machine.kubectl("get nodes").ok();
        assert!(!nodes.contains("NotReady"), "{nodes}");
    }
    // a rolling update under the clock that was set back ends
    machine.kubectl("set env deployment/web ROUND=1").ok();
    machine
        .kubectl("rollout status deployment/web --timeout=90s")
        .ok();
    // and a start under it works with the certificates of before
    machine.plimsoll("down").ok();
    machine.plimsoll("up").ok();
    machine
        .kubectl("rollout status deployment/web --timeout=90s")
        .ok();
}
