//! Metrics without an adapter: what pods expose themselves scales them, up with the load and down when it goes.

use serde_json::Value;

use crate::support::{Space, eventually, holds, shared};

/// The example, scraped by the usual annotations, with one replica and little to ask for.
const WEB: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations: {prometheus.io/scrape: "true", prometheus.io/port: "8080"}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: my-web-app:latest
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1}
        resources: {requests: {cpu: 10m, memory: 8Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
"#;

/// Does nothing, as often as it is told to.
const WORKER: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: {name: worker}
spec:
  replicas: 1
  selector: {matchLabels: {app: worker}}
  template:
    metadata: {labels: {app: worker}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: worker, image: 'busybox:static', command: [sh, -c, "trap exit TERM; sleep 9999 & wait"]}
"#;

/// An autoscaler of one to three replicas that follows quickly.
fn autoscaler(target: &str, metric: &str) -> String {
    format!(
        "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: scaler}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {target}}}
  minReplicas: 1
  maxReplicas: 3
  metrics: [{metric}]
  behavior:
    scaleDown: {{stabilizationWindowSeconds: 2, policies: [{{type: Percent, value: 100, periodSeconds: 2}}]}}
"
    )
}

fn until_replicas(space: &Space, deployment: &str, wanted: u32) {
    let what = format!("{wanted} replicas of {deployment} are ready");
    eventually(&what, || {
        let read = |path| space.field(&format!("deployment/{deployment}"), path);
        let (declared, ready) = (read(".spec.replicas"), read(".status.readyReplicas"));
        if declared == wanted.to_string() && ready == declared {
            Ok(())
        } else {
            Err(format!(
                "{declared} declared, {ready} ready\n{}\n{}",
                space.kubectl("get hpa").ran(),
                space.kubectl("describe hpa").ran()
            ))
        }
    });
}

/// Requests from outside the daemon, then none: `target` has one replica, three, one again; `reason` is the first rescale's.
fn follows_requests(name: &str, target: &str, metric: &str, reason: &str) {
    let space = Space::within(shared(), name);
    space.apply(WEB);
    if target != "web" {
        space.apply(WORKER);
    }
    space.rolled_out("web");
    space.rolled_out(target);
    space.apply(&autoscaler(target, metric));
    space.until_says("describe hpa scaler", "ValidMetricFound");
    until_replicas(&space, target, 1);

    let address = space.field("service/web", ".spec.clusterIP");
    let url = format!("http://{address}/cgi-bin/work?rounds=1");
    let load = space
        .instance
        .plimsoll(&format!("load-test {url} --rate 12 --seconds 95"))
        .background();
    load.line_with("answered");
    until_replicas(&space, target, 3);
    let described = space.kubectl("describe hpa scaler").ok();
    holds(&described, "SuccessfulRescale");
    holds(&described, reason);
    drop(load);
    until_replicas(&space, target, 1);
    space.until_says("describe hpa scaler", "All metrics below target");
}

pub fn a_pods_metric_scales_up_and_down() {
    follows_requests(
        "metric-pods",
        "web",
        "{type: Pods, pods: {metric: {name: http_requests}, target: {type: AverageValue, averageValue: '2'}}}",
        "reason: pods metric http_requests above target",
    );
}

pub fn a_metric_of_a_service_scales_up_and_down() {
    follows_requests(
        "metric-object",
        "web",
        "{type: Object, object: {describedObject: {apiVersion: v1, kind: Service, name: web}, \
         metric: {name: http_requests}, target: {type: Value, value: '4'}}}",
        "reason: Service metric http_requests above target",
    );
}

pub fn an_external_metric_scales_another_deployment_up_and_down() {
    follows_requests(
        "metric-external",
        "worker",
        "{type: External, external: {metric: {name: http_requests, selector: {matchLabels: {namespace: metric-external}}}, \
         target: {type: AverageValue, averageValue: '2'}}}",
        "reason: external metric http_requests(&LabelSelector{MatchLabels:map[string]string{namespace: metric-external,}",
    );
}

/// Holds as many MiB of memory as it is told to by a request.
const HOLDER: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: {name: holder}
spec:
  replicas: 1
  selector: {matchLabels: {app: holder}}
  template:
    metadata: {labels: {app: holder}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: holder
        image: busybox:static
        command:
        - sh
        - -c
        - |
          trap exit TERM
          mkdir -p /tmp/www/cgi-bin
          { echo '#!/bin/sh'
            echo 'dd if=/dev/zero of=/dev/shm/held bs=1M count=$QUERY_STRING 2>/dev/null'
            echo 'printf "Content-Type: text/plain\r\n\r\nheld\n"'; } > /tmp/www/cgi-bin/hold
          chmod 755 /tmp/www/cgi-bin/hold
          httpd -f -p 8080 -h /tmp/www & wait
        ports: [{containerPort: 8080}]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
        resources: {requests: {memory: 24Mi}}
"#;

pub fn memory_scales_up_and_down() {
    let space = Space::within(shared(), "metric-memory");
    space.apply(HOLDER);
    space.rolled_out("holder");
    space.apply(&autoscaler(
        "holder",
        "{type: Resource, resource: {name: memory, target: {type: Utilization, averageUtilization: 70}}}",
    ));
    space.until_says("describe hpa scaler", "ValidMetricFound");
    until_replicas(&space, "holder", 1);
    let pod = space.field("pods", ".items[0].status.podIP");
    let hold = |mebibytes: u32| {
        let url = format!("http://{pod}:8080/cgi-bin/hold?{mebibytes}");
        holds(&space.instance.fetch(&url), "held");
    };
    hold(48);
    until_replicas(&space, "holder", 3);
    holds(
        &space.kubectl("describe hpa scaler").ok(),
        "reason: memory resource utilization (percentage of request) above target",
    );
    hold(0);
    until_replicas(&space, "holder", 1);
}

/// Two containers, of which the first one works when it is told to.
const PAIR: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: {name: pair}
spec:
  replicas: 1
  selector: {matchLabels: {app: pair}}
  template:
    metadata: {labels: {app: pair}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: works
        image: busybox:static
        command: [sh, -c, "trap exit TERM; while :; do if [ -e /tmp/go ]; then :; else sleep 0.2 & wait; fi; done"]
        resources: {requests: {cpu: 100m}, limits: {cpu: 100m}}
      - name: rests
        image: busybox:static
        command: [sh, -c, "trap exit TERM; sleep 3600 & wait"]
        resources: {requests: {cpu: 100m}}
"#;

pub fn one_containers_load_scales_its_pods_and_no_others_does() {
    let space = Space::within(shared(), "metric-container");
    space.apply(PAIR);
    space.rolled_out("pair");
    let of = |container: &str| {
        // all that one may take (100 %, as measured a little more or less) is a load for two
        let target = "target: {type: Utilization, averageUtilization: 60}";
        let metric = format!(
            "{{type: ContainerResource, containerResource: {{name: cpu, container: {container}, {target}}}}}"
        );
        autoscaler("pair", &metric)
    };
    let first = space.field("pods", ".items[0].metadata.name");
    space
        .kubectl(&format!("exec {first} -c works -- touch /tmp/go"))
        .ok();
    // the load is seen, and is not that of the container that counts
    space.apply(&of("rests"));
    space.until_says("describe hpa scaler", "ValidMetricFound");
    eventually("the load is measured", || {
        let top = space
            .kubectl(&format!("top pod {first} --containers --no-headers"))
            .ran()
            .stdout;
        let works = top
            .lines()
            .find(|line| line.contains(" works "))
            .unwrap_or_default();
        let milli = works
            .split_whitespace()
            .nth(2)
            .and_then(|cpu| cpu.strip_suffix('m')?.parse().ok());
        if milli.unwrap_or(0) > 70 {
            Ok(())
        } else {
            Err(top)
        }
    });
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(space.field("deployment/pair", ".spec.replicas"), "1");
    space.apply(&of("works"));
    until_replicas(&space, "pair", 2);
    let told = space.kubectl("describe hpa scaler").ok();
    holds(&told, "resource cpu of container \"works\" on pods");
    space
        .kubectl(&format!("exec {first} -c works -- rm /tmp/go"))
        .ok();
    until_replicas(&space, "pair", 1);
}

/// A pod whose page a script writes, and how it is asked for.
fn exposing(name: &str, script: &str) -> String {
    let script = format!(
        "trap exit TERM\nmkdir -p /tmp/www/cgi-bin\ncat > /tmp/www/cgi-bin/m <<'END'\n#!/bin/sh\n\
         printf 'Content-Type: text/plain\\r\\n\\r\\n'\n{script}\nEND\nchmod 755 /tmp/www/cgi-bin/m\n\
         httpd -f -p 8080 -h /tmp/www & wait"
    );
    format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{app: {name}}}
  annotations: {{prometheus.io/scrape: 'true', prometheus.io/port: '8080', prometheus.io/path: /cgi-bin/m}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:static
    command: [sh, -c, {script:?}]
---
"
    )
}

fn raw(space: &Space, path: &str) -> Result<Value, String> {
    let ran = space.kubectl(&format!("get --raw {path}")).ran();
    if ran.code != 0 {
        return Err(ran.to_string());
    }
    serde_json::from_str(&ran.stdout).map_err(|error| format!("{error}: {ran}"))
}

pub fn hostile_endpoints_harm_nobody_and_the_size_stays() {
    let space = Space::within(shared(), "metric-hostile");
    let pods = [
        exposing("hangs", "sleep 20"),
        exposing(
            "nan",
            "echo depth NaN; echo 'depth{of=\"two\"} +Inf'; echo 'depth{of=\"three\"} 7'",
        ),
        exposing("endless", "exec yes 'endless{a=\"b\"} 1'"),
        exposing("many", "seq 1 5000 | sed 's/.*/many{n=\"&\"} 1/'"),
        exposing("back", "echo jobs_total $((4000000000 - $(date +%s)))"),
        exposing("good", "echo depth 5"),
    ];
    space.apply(&pods.concat());
    space.apply(WORKER);
    let external = |metric: &str| {
        format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/metric-hostile/{metric}")
    };
    let until = |metric: &str, pod: &str, reasons: &[&str]| {
        eventually(&format!("{metric} of {pod} is {reasons:?}"), || {
            let list = raw(&space, &external(metric))?;
            let items = list["items"].as_array().ok_or("no items")?;
            let has = |item: &Value| {
                let labels = &item["metricLabels"];
                labels["pod"] == pod && reasons.iter().any(|reason| labels["reason"] == *reason)
            };
            if items.iter().any(has) {
                Ok(())
            } else {
                Err(list.to_string())
            }
        });
    };
    until("scrape_failed", "hangs", &["timeout"]);
    // whichever bound a busy machine comes to first
    until("scrape_failed", "endless", &["too_large", "timeout"]);
    until("scrape_samples_dropped", "nan", &["not_finite"]);
    until("scrape_samples_dropped", "many", &["pod_limit"]);
    until("scrape_samples_dropped", "back", &["backwards"]);

    // the others are told, and are told what is now
    let pods = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/metric-hostile/pods";
    let depths = eventually("two pods tell their depth", || {
        let list = raw(&space, &format!("{pods}/*/depth"))?;
        let items = list["items"].as_array().ok_or("no items")?.clone();
        if items.len() == 2 {
            Ok(items)
        } else {
            Err(list.to_string())
        }
    });
    let told: Vec<_> = depths
        .iter()
        .map(|item| {
            (
                item["describedObject"]["name"].as_str(),
                item["value"].as_str(),
            )
        })
        .collect();
    assert_eq!(told, [(Some("good"), Some("5")), (Some("nan"), Some("7"))]);
    for item in &depths {
        let at: jiff::Timestamp = item["timestamp"]
            .as_str()
            .expect("text")
            .parse()
            .expect("a time");
        let age = jiff::Timestamp::now().duration_since(at);
        assert!(age.as_secs() < 8, "{item}");
    }

    // an autoscaler on what goes backwards says so, and leaves the size alone
    space.kubectl("scale deployment worker --replicas=2").ok();
    space.rolled_out("worker");
    space.apply(&autoscaler(
        "worker",
        "{type: External, external: {metric: {name: jobs}, target: {type: AverageValue, averageValue: '1'}}}",
    ));
    let described = space.until_says("describe hpa scaler", "FailedGetExternalMetric");
    holds(
        &described,
        "unable to get external metric metric-hostile/jobs/nil: no metrics returned from external metrics API",
    );
    space.apply(&autoscaler(
        "worker",
        "{type: Pods, pods: {metric: {name: nothing}, target: {type: AverageValue, averageValue: '1'}}}",
    ));
    let described = space.until_says("describe hpa scaler", "FailedGetPodsMetric");
    holds(
        &described,
        "unable to get metric nothing: unable to fetch metrics from custom metrics API: the server could not find the metric nothing for pods",
    );
    space.apply(&autoscaler(
        "worker",
        "{type: Object, object: {describedObject: {apiVersion: v1, kind: Service, name: web}, metric: {name: nothing}, target: {type: Value, value: '1'}}}",
    ));
    let described = space.until_says("describe hpa scaler", "FailedGetObjectMetric");
    holds(
        &described,
        "unable to get metric nothing on Service metric-hostile/web: unable to fetch metrics from custom metrics API: the server could not find the metric nothing for services",
    );
    assert_eq!(space.field("deployment/worker", ".spec.replicas"), "2");

    let log = std::fs::read_to_string(space.instance.data_dir.join("daemon.log")).expect("the log");
    let about = |pod: &str| {
        let pod = format!("pod=\"{pod}\"");
        let failed = "the scrape failed: no whole page";
        log.lines()
            .filter(|line| {
                [pod.as_str(), "metric-hostile", failed]
                    .iter()
                    .all(|part| line.contains(part))
            })
            .count()
    };
    assert_eq!(about("hangs"), 1, "a trouble is logged once");
}
