//! An autoscaler whose target is a custom resource: it reads and writes the scale subresource, and finds the pods, which nobody
//! but the test makes, by the selector in the object's status.

use crate::support::{Space, eventually, holds};

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: fleets.scaled.example}
spec:
  group: scaled.example
  scope: Namespaced
  names: {plural: fleets, singular: fleet, kind: Fleet}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {boats: {type: integer, minimum: 1}}}
          status: {type: object, properties: {afloat: {type: integer}, chosen: {type: string}}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.boats, statusReplicasPath: .status.afloat, labelSelectorPath: .status.chosen}
"#;

const FLEET: &str = r#"
apiVersion: scaled.example/v1
kind: Fleet
metadata: {name: armada}
spec: {boats: 1}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: admiral}
spec:
  scaleTargetRef: {apiVersion: scaled.example/v1, kind: Fleet, name: armada}
  minReplicas: 1
  maxReplicas: 4
  metrics: [{type: Pods, pods: {metric: {name: cargo}, target: {type: AverageValue, averageValue: '10'}}}]
  behavior:
    scaleDown: {stabilizationWindowSeconds: 2, policies: [{type: Percent, value: 100, periodSeconds: 2}]}
"#;

/// A pod that exposes what its file says.
fn boat(number: u32) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata:
  name: boat-{number}
  labels: {{fleet: armada}}
  annotations: {{prometheus.io/scrape: "true", prometheus.io/port: "8080"}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:static
    command: [sh, -c, "trap exit TERM; mkdir /www; echo cargo 10 > /www/metrics; httpd -f -p 8080 -h /www & wait"]
    ports: [{{containerPort: 8080}}]
    readinessProbe: {{httpGet: {{path: /metrics, port: 8080}}, periodSeconds: 1}}
"#
    )
}

fn load(space: &Space, boats: std::ops::RangeInclusive<u32>, cargo: u32) {
    for number in boats {
        let load = format!("exec boat-{number} -- sh -c 'echo cargo {cargo} > /www/metrics'");
        space.kubectl(&load).ok();
    }
}

/// What a controller of fleets would do with the pods and with the status.
fn afloat(space: &Space, boats: u32) {
    for number in 1..=boats {
        space.apply(&boat(number));
    }
    for number in 1..=boats {
        space.ready(&format!("pod/boat-{number}"));
    }
    let status = format!(
        r#"{{"status": {{"afloat": {boats}, "chosen": "fleet=armada,colour notin (black)"}}}}"#
    );
    space
        .kubectl("patch fleet armada --subresource=status --type=merge -p")
        .argument(&status)
        .ok();
}

pub fn a_custom_resource_follows_a_metric_of_pods_made_by_hand() {
    let space = Space::new("scaled");
    let all = &space.instance;
    all.kubectl("apply -f -").stdin(DEFINITION).ok();
    all.kubectl("wait --for=condition=Established crd/fleets.scaled.example --timeout=60s")
        .ok();
    space.apply(FLEET);
    // whose pods are meant is not known yet
    space.until_says("describe hpa admiral", "InvalidSelector");
    assert_eq!(space.field("fleet/armada", ".spec.boats"), "1");

    let boats = |wanted: &str| {
        eventually(&format!("{wanted} boats are wanted"), || {
            let found = space.field("fleet/armada", ".spec.boats");
            if found == wanted {
                Ok(())
            } else {
                Err(format!(
                    "{found}\n{}",
                    space.kubectl("describe hpa admiral").ran()
                ))
            }
        });
    };
    // one that is chosen by nobody's selector does not count
    let other = boat(9).replace("{fleet: armada}", "{fleet: armada, colour: black}");
    space.apply(&other);
    space.ready("pod/boat-9");
    load(&space, 9..=9, 1000);
    afloat(&space, 1);
    load(&space, 1..=1, 28);
    boats("3");
    let described = space.kubectl("describe hpa admiral").ok();
    holds(&described, "Fleet/armada");
    holds(
        &described,
        "New size: 3; reason: pods metric cargo above target",
    );
    load(&space, 1..=1, 10);
    afloat(&space, 3);
    space.until_says(
        "get hpa admiral -o jsonpath={.status.currentMetrics[0].pods.current.averageValue}/{.status.currentReplicas}/{.status.desiredReplicas}",
        "10/3/3",
    );
    assert_eq!(space.field("fleet/armada", ".spec.boats"), "3");
    load(&space, 1..=3, 2);
    boats("1");
    space.until_says("describe hpa admiral", "All metrics below target");
    // and by hand, through the same subresource
    space.kubectl("delete hpa admiral").ok();
    space.kubectl("scale fleet armada --replicas=2").ok();
    assert_eq!(space.field("fleet/armada", ".spec.boats"), "2");
    space.kubectl("delete fleet armada").ok();
    all.kubectl("delete crd fleets.scaled.example").ok();
}
