//! Pods that fit and pods that do not.

use std::sync::Arc;

use crate::support::{Space, eventually, holds, with_images};

pub fn pods_that_do_not_fit_stay_pending_and_say_why() {
    // an instance of its own: this one is filled to the brim
    let instance = Arc::new(with_images());
    {
        let space = Space::within(instance.clone(), "full");
        let cores: u64 = space
            .field("nodes", ".items[0].status.allocatable.cpu")
            .parse()
            .expect("whole cores");
        // a quarter of the machine each: on two cores these are the 500m of the walkthrough
        let request = cores * 250;
        space.apply(&format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: big}}
spec:
  replicas: 10
  selector: {{matchLabels: {{app: big}}}}
  template:
    metadata: {{labels: {{app: big}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {{name: main, image: 'busybox:static', command: [sleep, '1000'], resources: {{requests: {{cpu: {request}m}}}}}}
"
        ));
        space.until("deployment/big", ".status.readyReplicas", "4");
        let pending = || {
            space.field(
                "pods --field-selector=status.phase=Pending",
                ".items[*].metadata.name",
            )
        };
        eventually("six wait", || {
            if pending().split_whitespace().count() == 6 {
                Ok(())
            } else {
                Err(pending())
            }
        });
        let name = pending().split(' ').next().expect("a name").to_owned();
        let described = space.until_says(&format!("describe pod {name}"), "FailedScheduling");
        holds(&described, "0/1 nodes are available: 1 Insufficient cpu.");
        holds(
            &space
                .kubectl("get events --field-selector=reason=FailedScheduling")
                .ok(),
            "Insufficient cpu",
        );
        assert_eq!(
            space.field(
                &format!("pod/{name}"),
                ".status.conditions[?(@.type==\"PodScheduled\")].reason"
            ),
            "Unschedulable"
        );
        let status = space.instance.plimsoll("status").fails(1);
        holds(&status, "Insufficient cpu");
        let node = space.kubectl("describe node").ok();
        holds(&node, "(25%)");
        holds(&node, "(100%)");

        // room for one more is used at once
        let running = space.field(
            "pods --field-selector=status.phase=Running",
            ".items[0].metadata.name",
        );
        space.kubectl("scale deployment big --replicas=9").ok();
        eventually("five wait", || {
            if pending().split_whitespace().count() == 5 {
                Ok(())
            } else {
                Err(pending())
            }
        });
        space.kubectl(&format!("delete pod {running}")).ok();
        space.until("deployment/big", ".status.readyReplicas", "4");
    }
    Arc::into_inner(instance)
        .expect("the namespace is gone")
        .purge();
}
