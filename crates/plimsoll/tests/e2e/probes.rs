//! Probes act: liveness restarts, readiness decides about traffic.

use crate::stand_in::SICK;
use crate::support::{Space, eventually, holds, pod, stand_in_image};

pub fn a_failing_liveness_probe_restarts_the_container() {
    let space = Space::new("liveness");
    for (name, probe) in [
        ("http", "httpGet: {path: /missing, port: 8080}"),
        ("tcp", "tcpSocket: {port: 9}"),
        ("exec", "exec: {command: [cat, /missing]}"),
    ] {
        let serve = pod(name, "trap 'exit 0' TERM; httpd -f -p 8080 -h /tmp & wait");
        space.apply(&format!(
            "{serve}    livenessProbe: {{{probe}, periodSeconds: 1, failureThreshold: 1}}\n"
        ));
    }
    for name in ["http", "tcp", "exec"] {
        eventually(&format!("{name} was restarted"), || {
            let count = space.field(
                &format!("pod/{name}"),
                ".status.containerStatuses[0].restartCount",
            );
            if count.parse::<u32>().is_ok_and(|count| count > 0) {
                Ok(())
            } else {
                Err(count)
            }
        });
        let described = space.until_says(
            &format!("describe pod {name}"),
            "failed liveness probe, will be restarted",
        );
        holds(&described, "Liveness probe failed");
    }
    holds(
        &space.kubectl("describe pod http").ok(),
        "HTTP probe failed with statuscode: 404",
    );
    // one that succeeds is left alone
    let serve = pod("fine", "httpd -f -p 8080 -h /etc");
    space.apply(&format!("{serve}    livenessProbe: {{httpGet: {{path: /passwd, port: 8080}}, periodSeconds: 1, failureThreshold: 3, initialDelaySeconds: 2}}\n"));
    space.ready("pod/fine");
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(
        space.field("pod/fine", ".status.containerStatuses[0].restartCount"),
        "0"
    );
}

pub fn readiness_decides_who_gets_traffic() {
    let space = Space::new("readiness");
    for (name, probe) in [
        ("by-http", "httpGet: {path: /ready, port: 8080}"),
        ("by-tcp", "tcpSocket: {port: 9090}"),
        ("by-exec", "exec: {command: [test, -e, /tmp/ready]}"),
    ] {
        // answers its name at /; /tmp/ready makes it ready for http and exec, a second server on 9090 for tcp
        let script =
            "mkdir /tmp/www; hostname > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www";
        let pod = pod(name, script).replace(&format!("app: {name}"), "app: probed");
        space.apply(&format!(
            "{pod}    readinessProbe: {{{probe}, periodSeconds: 1, failureThreshold: 1}}\n"
        ));
    }
    space.apply("{apiVersion: v1, kind: Service, metadata: {name: probed}, spec: {selector: {app: probed}, ports: [{port: 80, targetPort: 8080}]}}");
    for name in ["by-http", "by-tcp", "by-exec"] {
        space.until(&format!("pod/{name}"), ".status.phase", "Running");
    }
    let slices = "endpointslices -l kubernetes.io/service-name=probed";
    let ready = || {
        space.field(
            slices,
            ".items[*].endpoints[?(@.conditions.ready==true)].targetRef.name",
        )
    };
    let now_ready = |wanted: &[&str]| {
        eventually(&format!("{wanted:?} are ready"), || {
            let found = ready();
            let mut names: Vec<&str> = found.split_whitespace().collect();
            names.sort_unstable();
            if names == wanted {
                Ok(())
            } else {
                Err(found.clone())
            }
        });
    };
    now_ready(&[]);
    assert_eq!(
        space.field(
            "pod/by-exec",
            ".status.conditions[?(@.type==\"Ready\")].status"
        ),
        "False"
    );
    let address = format!(
        "http://{}/",
        space.field("service/probed", ".spec.clusterIP")
    );

    space.kubectl("exec by-exec -- touch /tmp/ready").ok();
    now_ready(&["by-exec"]);
    assert_eq!(space.instance.fetch(&address), "by-exec\n");
    space.kubectl("exec by-http -- touch /tmp/www/ready").ok();
    space.kubectl("exec by-tcp -- httpd -p 9090 -h /tmp").ok();
    now_ready(&["by-exec", "by-http", "by-tcp"]);
    eventually("each of the three gets requests", || {
        let mut seen: Vec<String> = (0..20).map(|_| space.instance.fetch(&address)).collect();
        seen.sort();
        seen.dedup();
        if seen.len() == 3 {
            Ok(())
        } else {
            Err(seen.concat())
        }
    });
    space.kubectl("exec by-exec -- rm /tmp/ready").ok();
    now_ready(&["by-http", "by-tcp"]);
    eventually("the one that is not ready gets no request", || {
        let seen: String = (0..20).map(|_| space.instance.fetch(&address)).collect();
        if seen.contains("by-exec") {
            Err(seen)
        } else {
            Ok(())
        }
    });
    holds(
        &space.kubectl("describe pod by-exec").ok(),
        "Readiness probe failed",
    );
}

/// Pods that serve in the ways that people's programs do; each becomes ready, and is no longer when it says so.
pub fn probes_by_grpc_and_tls_decide_in_real_pods() {
    let space = Space::new("probe-ways");
    stand_in_image(&space.instance);
    for (name, way, probe) in [
        ("grpc", "grpc:9000", "grpc: {port: 9000}"),
        ("named", "grpc:9000", "grpc: {port: 9000, service: cart}"),
        (
            "unknown",
            "grpc:9000",
            "grpc: {port: 9000, service: basket}",
        ),
        (
            "https",
            "https:8443",
            "httpGet: {path: /ready, port: 8443, scheme: HTTPS}",
        ),
        // who encrypts is not understood by who does not
        ("plain", "https:8443", "httpGet: {path: /ready, port: 8443}"),
    ] {
        space.apply(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: stand-in:e2e
    args: ['{way}']
    readinessProbe: {{{probe}, periodSeconds: 1, failureThreshold: 1}}
"
        ));
    }
    let ready = ".status.conditions[?(@.type==\"Ready\")].status";
    let healed = [
        (
            "grpc",
            "Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")",
        ),
        (
            "named",
            "Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")",
        ),
        (
            "https",
            "Readiness probe failed: HTTP probe failed with statuscode: 503",
        ),
    ];
    for (name, _) in healed {
        space.ready(&format!("pod/{name}"));
    }
    for (name, said) in healed {
        space.kubectl(&format!("exec {name} -- touch {SICK}")).ok();
        space.until(&format!("pod/{name}"), ready, "False");
        space.until_says(&format!("describe pod {name}"), said);
        space.kubectl(&format!("exec {name} -- rm {SICK}")).ok();
        space.ready(&format!("pod/{name}"));
    }
    for (name, said) in [
        ("unknown", "unknown service"),
        ("plain", "Readiness probe failed"),
    ] {
        space.until_says(&format!("describe pod {name}"), said);
        assert_eq!(space.field(&format!("pod/{name}"), ready), "False");
    }
    // and a container that is not alive is started again
    space.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: alive}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: stand-in:e2e
    args: ['grpc:9000']
    livenessProbe: {grpc: {port: 9000}, periodSeconds: 1, failureThreshold: 1}
",
    );
    space.ready("pod/alive");
    space.kubectl(&format!("exec alive -- touch {SICK}")).ok();
    space.until(
        "pod/alive",
        ".status.containerStatuses[0].restartCount",
        "1",
    );
    space.ready("pod/alive");
}
