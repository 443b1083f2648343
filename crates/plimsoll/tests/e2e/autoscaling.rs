//! The main job: load comes, replicas rise; load goes, replicas fall.

use std::sync::Arc;

use crate::support::{Space, alone, eventually, holds, repository, with_images};

pub fn replicas_follow_the_load_up_and_down() {
    let _alone = alone();
    let instance = Arc::new(with_images());
    {
        let space = Space::within(instance.clone(), "web");
        let apply = |file: &str| {
            space
                .kubectl(&format!(
                    "apply -f {}",
                    repository(&format!("examples/web-app/{file}")).display()
                ))
                .ok()
        };
        apply("deployment.yaml");
        apply("service.yaml");
        holds(
            &apply("hpa.yaml"),
            "horizontalpodautoscaler.autoscaling/web-app-hpa created",
        );
        space.rolled_out("web-app-deployment");
        eventually("the autoscaler sees the CPU", || {
            let ran = space.kubectl("get hpa web-app-hpa").ran();
            if ran.stdout.contains("%/80%") {
                Ok(())
            } else {
                Err(ran)
            }
        });

        let address = space.field("service/web-app", ".spec.clusterIP");
        let load = space
            .instance
            .plimsoll(&format!(
                "load-test http://{address}/cgi-bin/work --rate 24 --seconds 90"
            ))
            .background();
        load.line_with("answered");
        let replicas = |path: &str| {
            space
                .field("deployment/web-app-deployment", path)
                .parse::<u32>()
                .unwrap_or(0)
        };
        eventually("more than three replicas are ready", || {
            let ready = replicas(".status.readyReplicas");
            if ready > 3 { Ok(()) } else { Err(ready) }
        });
        let described = space.kubectl("describe hpa web-app-hpa").ok();
        for part in [
            "SuccessfulRescale",
            "cpu resource utilization (percentage of request) above target",
            "ScalingActive",
            "AbleToScale",
        ] {
            holds(&described, part);
        }
        drop(load);

        // the window of five minutes is upstream's; the other file has a short one
        holds(
            &apply("hpa-quick.yaml"),
            "horizontalpodautoscaler.autoscaling/web-app-hpa configured",
        );
        eventually("three replicas are left", || {
            let left = (replicas(".spec.replicas"), replicas(".status.replicas"));
            if left == (3, 3) {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        });
        holds(
            &space.kubectl("get hpa web-app-hpa").ok(),
            "Deployment/web-app-deployment",
        );
        holds(
            &space.kubectl("describe hpa web-app-hpa").ok(),
            "All metrics below target",
        );
    }
    Arc::into_inner(instance)
        .expect("the namespace is gone")
        .purge();
}
