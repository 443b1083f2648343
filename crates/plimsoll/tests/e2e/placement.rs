//! Where pods may be, and who goes when there is not room for all: cordon, taint, drain, priority.

use std::sync::Arc;

use crate::support::{Space, eventually, holds, with_images};

fn pod(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: main, image: 'busybox:static', command: [sleep, '1000']}}
{more}"
    )
}

pub fn pods_are_kept_away_driven_out_and_preempted() {
    // an instance of its own: its node is cordoned, drained and filled
    let instance = Arc::new(with_images());
    {
        let space = Space::within(instance.clone(), "placement");
        let node = space.field("nodes", ".items[0].metadata.name");
        let says = |pod: &str, why: &str| {
            space.until(
                &format!("pod/{pod}"),
                ".status.conditions[?(@.type==\"PodScheduled\")].message",
                &format!(
                    "0/1 nodes are available: 1 {why}. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
                ),
            );
        };

        space.kubectl(&format!("cordon {node}")).ok();
        space.apply(&pod("web", ""));
        says("web", "node(s) were unschedulable");
        space.kubectl(&format!("uncordon {node}")).ok();
        space.ready("pod/web");

        space
            .kubectl(&format!("taint nodes {node} team=a:NoSchedule"))
            .ok();
        space.apply(&pod("stranger", ""));
        says("stranger", "node(s) had untolerated taint(s)");
        space.apply(&pod("friend", "  tolerations: [{key: team, value: a}]\n"));
        space.ready("pod/friend");
        space.kubectl(&format!("taint nodes {node} team-")).ok();
        space.ready("pod/stranger");

        space
            .kubectl("create pdb web --selector=app=web --min-available=1")
            .ok();
        space.until("pdb/web", ".status.currentHealthy", "1");
        let drain =
            format!("drain {node} --force --ignore-daemonsets --timeout=2s --pod-selector=app=web");
        let refused = space.kubectl(&drain).ran();
        assert_ne!(refused.code, 0, "{refused}");
        holds(
            &refused.both(),
            "Cannot evict pod as it would violate the pod's disruption budget.",
        );
        space.kubectl("delete pdb web").ok();
        let drained = space.kubectl(&drain.replace("=2s", "=60s")).ok();
        holds(&drained, "pod/web evicted");
        space.kubectl(&format!("uncordon {node}")).ok();

        let cores: u64 = space
            .field("nodes", ".items[0].status.allocatable.cpu")
            .parse()
            .expect("whole cores");
        let asking = format!("    resources: {{requests: {{cpu: {}m}}}}\n", cores * 600);
        let with_request = |name: &str, more: &str| {
            pod(name, more).replace("'1000']}", &format!("'1000'], {}}}", asking.trim()))
        };
        space.apply(&with_request("low", ""));
        space.ready("pod/low");
        space
            .apply("apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: high}\nvalue: 1000\n");
        space.apply(&with_request("high", "  priorityClassName: high\n"));
        space.ready("pod/high");
        let gone = space.kubectl("get pod low").fails(1);
        holds(&gone, "NotFound");
        eventually("the event", || {
            let told = space
                .kubectl("get events --field-selector=reason=Preempted")
                .ok();
            match told.contains(&format!("on node {node}")) {
                true => Ok(()),
                false => Err(told),
            }
        });
    }
    Arc::into_inner(instance)
        .expect("the namespace is gone")
        .purge();
}
