//! Deployments by kubectl: the walkthrough, rollouts, and what one looks at in pods.

use serde_json::Value;

use crate::support::{Space, eventually, holds, pod, repository};

pub fn the_walkthrough_with_kubectl() {
    let space = Space::new("walk");
    let file = repository("examples/walkthrough/deployment.yaml");
    let apply = || space.kubectl(&format!("apply -f {}", file.display())).ok();
    assert_eq!(apply(), "deployment.apps/web-app-deployment created\n");
    space.rolled_out("web-app-deployment");
    assert_eq!(apply(), "deployment.apps/web-app-deployment unchanged\n");

    let wide = space.kubectl("get deploy,rs,pods -o wide").ok();
    for part in [
        "3/3",
        "my-web-app:latest",
        "app=web-app",
        "Running",
        "NOMINATED NODE",
    ] {
        holds(&wide, part);
    }
    holds(
        &space.kubectl("get deploy web-app-deployment -o yaml").ok(),
        "kind: Deployment",
    );
    let pods = space.get("pods");
    let pods = pods["items"].as_array().expect("a list");
    assert_eq!(pods.len(), 3);
    for pod in pods {
        assert_eq!(pod["status"]["phase"], "Running");
        assert_eq!(
            pod["spec"]["containers"][0]["imagePullPolicy"], "Always",
            "the tag is latest"
        );
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
        space.instance.fetch(&format!(
            "http://{}:8080/healthz",
            pod["status"]["podIP"].as_str().expect("an address")
        ));
    }

    let name = pods[0]["metadata"]["name"].as_str().expect("a name");
    let described = space.kubectl("describe deployment web-app-deployment").ok();
    for part in [
        "3 desired | 3 updated | 3 total | 3 available | 0 unavailable",
        "RollingUpdate",
        "Scaled up replica set",
        "NewReplicaSet:",
    ] {
        holds(&described, part);
    }
    let described = space.kubectl(&format!("describe pod {name}")).ok();
    for part in [
        "Successfully assigned walk/",
        "Pulled",
        "Created",
        "Started",
        "Controlled By:",
        "ContainersReady",
        "QoS Class:",
    ] {
        holds(&described, part);
    }
    holds(
        &space.kubectl(&format!("logs {name}")).ok(),
        "web-app listens on port 8080",
    );
    holds(
        &space.kubectl("logs deployment/web-app-deployment").ok(),
        "web-app listens on port 8080",
    );

    holds(
        &space
            .kubectl("scale deployment web-app-deployment --replicas=5")
            .ok(),
        "scaled",
    );
    space.rolled_out("web-app-deployment");
    space.until(
        "deployment/web-app-deployment",
        ".status.readyReplicas",
        "5",
    );
    space
        .kubectl("scale deployment web-app-deployment --replicas=1")
        .ok();
    eventually("one pod is left", || {
        let left = space.kubectl("get pods -o name").ok();
        if left.lines().count() == 1 {
            Ok(())
        } else {
            Err(left)
        }
    });

    space.kubectl(&format!("delete -f {}", file.display())).ok();
    eventually("nothing is left", || {
        let left = space.kubectl("get deploy,rs,pods -o name").ok();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

pub fn a_new_version_rolls_out_and_back() {
    let space = Space::new("rollout");
    space
        .instance
        .docker("tag my-web-app:latest my-web-app:v2")
        .ok();
    space
        .kubectl("create deployment web --image=my-web-app:latest --replicas=2")
        .ok();
    space.rolled_out("web");
    let image = || space.field("pods -l app=web", ".items[*].spec.containers[0].image");

    space
        .kubectl("set image deployment/web my-web-app=my-web-app:v2")
        .ok();
    space.rolled_out("web");
    eventually("only the new version runs", || {
        if image() == "my-web-app:v2 my-web-app:v2" {
            Ok(())
        } else {
            Err(image())
        }
    });
    let history = space.kubectl("rollout history deployment/web").ok();
    assert_eq!(
        history
            .lines()
            .filter(|line| line.starts_with(['1', '2']))
            .count(),
        2,
        "{history}"
    );
    holds(
        &space
            .kubectl("rollout history deployment/web --revision=2")
            .ok(),
        "my-web-app:v2",
    );

    holds(
        &space.kubectl("rollout undo deployment/web").ok(),
        "rolled back",
    );
    space.rolled_out("web");
    eventually("the old version is back", || {
        if image() == "my-web-app:latest my-web-app:latest" {
            Ok(())
        } else {
            Err(image())
        }
    });
    holds(
        &space.kubectl("rollout history deployment/web").ok(),
        "\n3 ",
    );

    // a version that cannot start leaves the old one serving
    space
        .kubectl("set image deployment/web my-web-app=127.0.0.1:1/none:1")
        .ok();
    space.until("deployment/web", ".status.updatedReplicas", "1");
    assert_eq!(
        space.field("deployment/web", ".status.availableReplicas"),
        "2"
    );
    space.kubectl("rollout undo deployment/web").ok();
    space.rolled_out("web");

    let names = || space.field("pods -l app=web", ".items[*].metadata.name");
    let before = names();
    holds(
        &space.kubectl("rollout restart deployment/web").ok(),
        "restarted",
    );
    space.rolled_out("web");
    eventually("every pod is a new one", || {
        let now = names();
        let same = now.is_empty() || before.split(' ').any(|name| now.contains(name));
        if same { Err(now) } else { Ok(()) }
    });
}

pub fn create_scale_and_autoscale_by_command() {
    // kubectl sends these as protobuf
    let space = Space::new("commands");
    holds(
        &space
            .kubectl("create deployment web --image=busybox:static -- sleep 1000")
            .ok(),
        "deployment.apps/web created",
    );
    holds(
        &space
            .kubectl("create configmap settings --from-literal=colour=green")
            .ok(),
        "created",
    );
    holds(
        &space
            .kubectl("create secret generic password --from-literal=word=secret")
            .ok(),
        "created",
    );
    assert_eq!(space.field("secret/password", ".data.word"), "c2VjcmV0");
    holds(
        &space
            .kubectl("autoscale deployment web --min=2 --max=4 --cpu=80%")
            .ok(),
        "autoscaled",
    );
    space.until("deployment/web", ".spec.replicas", "2");
    let autoscaler = space.kubectl("get hpa web").ok();
    for part in ["REFERENCE", "Deployment/web", "TARGETS", "MINPODS"] {
        holds(&autoscaler, part);
    }
    assert_eq!(
        space.get("horizontalpodautoscalers.v1.autoscaling/web")["spec"]["targetCPUUtilizationPercentage"],
        80
    );
    assert_eq!(
        space.get("horizontalpodautoscalers.v2.autoscaling/web")["spec"]["metrics"][0]["resource"]
            ["target"]["averageUtilization"],
        80
    );
    holds(
        &space.kubectl("create deployment web --image=x").fails(1),
        "deployments.apps \"web\" already exists",
    );
    holds(
        &space.instance.kubectl("create namespace commands").fails(1),
        "namespaces \"commands\" already exists",
    );
}

pub fn logs_follow_to_the_end_and_keep_the_previous() {
    let space = Space::new("logs");
    space.apply(
        &(pod("counter", "for i in 1 2 3 4 5; do echo $i; sleep 0.3; done")
            + "  restartPolicy: Never\n"),
    );
    space.until_says("get pod counter -o jsonpath={.status.phase}", "");
    let followed = eventually("the container has begun", || {
        let ran = space.kubectl("logs -f counter").ran();
        if ran.code == 0 {
            Ok(ran.stdout)
        } else {
            Err(ran)
        }
    });
    assert_eq!(followed, "1\n2\n3\n4\n5\n");
    assert_eq!(space.kubectl("logs counter --tail=2").ok(), "4\n5\n");
    let stamped = space.kubectl("logs counter --timestamps --tail=1").ok();
    assert!(
        stamped.starts_with("20") && stamped.ends_with("Z 5\n"),
        "{stamped}"
    );
    space.until("pod/counter", ".status.phase", "Succeeded");

    space.apply(&pod("again", "echo run; [ -e /tmp/x ] || sleep 1; exit 1"));
    space.until_says("logs again --previous", "run");
    holds(
        &space.kubectl("logs nobody").fails(1),
        "pods \"nobody\" not found",
    );
    holds(
        &space.kubectl("logs counter -c other").fails(1),
        "container other is not valid for pod counter",
    );
}

pub fn top_shows_what_pods_and_nodes_use() {
    let space = Space::new("top");
    space.apply(&pod("busy", "while :; do :; done"));
    let line = eventually("figures of the pod", || {
        let ran = space.kubectl("top pod busy --no-headers").ran();
        let cores = ran
            .stdout
            .split_whitespace()
            .nth(1)
            .and_then(|text| text.strip_suffix('m')?.parse::<u32>().ok());
        // one that never sleeps has at least a part of a core
        if cores.is_some_and(|milli| milli > 50) {
            Ok(ran.stdout)
        } else {
            Err(ran.both())
        }
    });
    holds(&line, "Mi");
    let node = space.until_says("top node --no-headers", "%");
    assert!(node.split_whitespace().count() >= 5, "{node}");
    let raw: Value = serde_json::from_str(
        &space
            .kubectl("get --raw /apis/metrics.k8s.io/v1beta1/nodes")
            .ok(),
    )
    .expect("JSON");
    assert_eq!(raw["kind"], "NodeMetricsList");
    space.kubectl("delete pod busy --now").ok();
}
