//! Why the autoscaler decided as it did: kept by the API, told by `plimsoll why`, decided again by `plimsoll autoscale
//! replay`, and still there after the daemon was killed.

use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Root, Space, alone, eventually, holds, lacks, with_images};

/// A Deployment whose only pod burns twice what it asks for, and an autoscaler that may take three.
const BURNER: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: burner}
spec:
  replicas: 1
  selector: {matchLabels: {app: burner}}
  template:
    metadata: {labels: {app: burner}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox:static
        command: [sh, -c, 'trap exit TERM; while :; do :; done']
        resources: {requests: {cpu: 50m}, limits: {cpu: 100m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: burner-hpa}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: burner}
  minReplicas: 1
  maxReplicas: 3
  metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}
";

pub fn decisions_are_kept_told_and_decided_again() {
    let _alone = alone();
    let instance = Arc::new(with_images());
    {
        let space = Space::within(instance.clone(), "why");
        space.apply(BURNER);
        // the first change of size, and all that became of its pods
        let decisions = |space: &Space| items(&space.kubectl("get scalingdecisions -o json").ok());
        let grown = eventually("new pods of a decision are ready", || {
            let all = decisions(&space);
            let done = |one: &&Value| {
                one["status"]["wantedPods"].as_i64() > Some(0)
                    && one["status"]["phase"] == "Complete"
            };
            all.iter().find(done).cloned().ok_or(format!("{all:?}"))
        });
        let (spec, status) = (&grown["spec"], &grown["status"]);
        assert_eq!(
            (&spec["from"], &spec["target"]),
            (&1.into(), &"Deployment/burner".into())
        );
        assert_eq!(status["readyPods"], status["wantedPods"], "{status}");
        for pod in status["pods"].as_array().expect("pods") {
            let times = ["createdMs", "scheduledMs", "startedMs", "readyMs"];
            let times: Vec<i64> = times.iter().filter_map(|key| pod[*key].as_i64()).collect();
            assert!(times.len() == 4 && times.is_sorted(), "{pod}");
        }
        space.until("deployment/burner", ".status.readyReplicas", "3");
        space.until_says("get hpa burner-hpa -o yaml", "TooManyReplicas");

        for table in [
            space.kubectl("get scalingdecisions").ok(),
            space
                .kubectl("get scalingdecisions -l autoscaling.plimsoll.dev/autoscaler=burner-hpa --field-selector spec.autoscaler=burner-hpa")
                .ok(),
        ] {
            for part in ["AUTOSCALER", "NEW PODS", "READY AFTER", "burner-hpa", "above target"] {
                holds(&table, part);
            }
        }
        holds(
            &space.kubectl("get scalingdecisions -o wide").ok(),
            "% of requests",
        );
        holds(
            &space
                .kubectl("explain scalingdecisions.status.readyMs")
                .ok(),
            "Until the last of them was ready",
        );
        let described = space.kubectl("describe hpa burner-hpa").ok();
        for part in [
            "SuccessfulRescale",
            "plimsoll.dev/last-decision",
            "% of requests",
        ] {
            holds(&described, part);
        }

        let why =
            |arguments: &str| instance.plimsoll(&format!("why hpa/burner-hpa -n why {arguments}"));
        let told = why("--since 1h").ok();
        for part in [
            "hpa/burner-hpa in namespace why keeps Deployment/burner at 1 to 3 replicas; it has 3.",
            "1 → ",
            "cpu resource utilization (percentage of request) above target",
            "% of requests (",
            "against 50 %",
            "new pod",
            "scheduled after ",
            ", started after ",
            ", ready after ",
        ] {
            holds(&told, part);
        }
        holds(&told, "The maximum is 3");
        let time = spec["time"].as_str().expect("a time");
        let then = why(&format!("--at {time}")).env("TZ", "UTC").ok();
        holds(&then, "1 → ");
        assert_eq!(
            then.matches(" UTC  ").count(),
            1,
            "one decision held then: {then}"
        );
        holds(
            &why("--at 2020-01-01T00:00:00Z").fails(1),
            "No decision of that time is kept",
        );
        holds(&why("--at noon").fails(1), "is no time");
        holds(&why("--since 5w").fails(1), "is none of s, m, h, d");
        holds(
            &instance.plimsoll("why hpa/burner -n why").fails(1),
            "there is: burner-hpa",
        );
        holds(
            &instance.plimsoll("why deployment/burner -n why").fails(1),
            "name one as hpa/NAME",
        );
        holds(&why("-o yaml").ok(), "kind: ScalingDecision");

        let scratch = Root::scratch();
        let recorded = scratch.join("recorded.json");
        let replay = || instance.plimsoll(&format!("autoscale replay {}", recorded.display()));
        for text in [
            why("--since 1h -o json").ok(),
            space.kubectl("get scalingdecisions -o json").ok(),
        ] {
            std::fs::write(&recorded, &text).expect("written");
            let count = items(&text).len();
            let said = replay().ok();
            holds(&said, &format!("\n{count} passed, 0 failed\n"));
            assert!(count > 1 && said.lines().count() == count + 1, "{said}");
        }
        let mut changed: Value =
            serde_json::from_str(&why("--since 1h -o json").ok()).expect("JSON");
        for one in changed["items"].as_array_mut().expect("items") {
            one["spec"]["to"] = 2.into();
            one["spec"]["from"] = 7.into();
        }
        std::fs::write(&recorded, changed.to_string()).expect("written");
        let said = replay().fails(1);
        holds(&said, "spec.to: expected Some(2), got Some(3)");
        holds(&said, "\n0 passed, ");

        // killed at once, started again: what was kept is there, and nothing that is not new comes along
        let before = decisions(&space);
        kill(instance.daemon_pid());
        eventually("the daemon is dead", || {
            let ran = instance.plimsoll("status").ran();
            if ran.code == 3 { Ok(()) } else { Err(ran) }
        });
        instance.plimsoll("up").ok();
        let names = |all: &[Value]| -> Vec<String> {
            all.iter()
                .map(|one| one["metadata"]["name"].to_string())
                .collect()
        };
        let after = decisions(&space);
        for name in names(&before) {
            assert!(
                names(&after).contains(&name),
                "{name} is lost: {:?}",
                names(&after)
            );
        }
        holds(&why("--since 1h").ok(), ", ready after ");

        // they go with their autoscaler
        space.kubectl("delete hpa burner-hpa").ok();
        eventually("the decisions are gone", || {
            let left = names(&decisions(&space));
            if left.is_empty() {
                Ok(())
            } else {
                Err(left.join(" "))
            }
        });
        lacks(
            &space.kubectl("get scalingdecisions").ran().both(),
            "burner-hpa",
        );
    }
    Arc::into_inner(instance)
        .expect("the namespace is gone")
        .purge();
}

fn items(list: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(list).expect("JSON");
    list["items"].as_array().cloned().expect("a list")
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), Signal::KILL).expect("it runs");
}
