//! The power goes while everything runs; after `up` all of it runs again, and nothing acknowledged is missing.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use super::machine::Machine;
use super::run::{command, eventually, run};

const MANIFEST: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: greeting}
data: {text: hello}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      volumes:
      - {name: own, emptyDir: {}}
      - {name: greeting, configMap: {name: greeting}}
      containers:
      - name: main
        image: busybox:static
        command: [sh, -c, "trap exit TERM; cat /greeting/text; httpd -f -p 8080 -h /greeting & wait"]
        volumeMounts: [{name: own, mountPath: /own}, {name: greeting, mountPath: /greeting}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  restartPolicy: Never
  containers: [{name: main, image: "busybox:static", command: [sleep, "100000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: failing}
spec:
  restartPolicy: OnFailure
  containers: [{name: main, image: "busybox:static", command: [sleep, "100000"]}]
"#;

const DOCKERFILE: &str = "FROM busybox:static\nRUN echo built > /built && mkdir /many && for n in $(seq 300); do echo $n > /many/$n; done\n";

/// The exit code of what ran when the machine went down. (137, killed, where the kernel had written the record of the start
/// by itself: this is no real reboot, and the record is of this boot.)
const LOST: [i32; 2] = [255, 137];

/// uid, name and restarts of each pod of the deployment.
fn pods(machine: &Machine) -> Vec<(String, String, i64)> {
    let list = machine.get("pods -l app=web");
    let mut found: Vec<_> = list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|pod| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let container = &pod["status"]["containerStatuses"][0];
            let restarts = if container["ready"] == true {
                container["restartCount"].as_i64()
            } else {
                None
            };
            (
                text(&pod["metadata"]["uid"]),
                text(&pod["metadata"]["name"]),
                restarts.unwrap_or(-1),
            )
        })
        .collect();
    found.sort();
    found
}

/// Writes a file into a directory of this machine and syncs the file, as a careful program does.
fn write_synced(path: &Path, text: &str) {
    fs::write(path, text)
        .and_then(|()| fs::File::open(path)?.sync_all())
        .expect("written");
}

#[test]
fn after_a_power_cut_pods_and_containers_run_again() {
    let machine = Machine::new(600).started();
    machine.apply(MANIFEST).ok();
    machine
        .kubectl("rollout status deployment/web --timeout=90s")
        .ok();
    machine
        .kubectl("wait --for=condition=Ready pod/once pod/failing --timeout=90s")
        .ok();
    let before = pods(&machine);
    assert!(
        before.len() == 2 && before.iter().all(|pod| pod.2 == 0),
        "{before:?}"
    );

    // what programs have synced is theirs to find again
    let uid = &before[0].0;
    let own = machine
        .data_dir
        .join("node/pods")
        .join(uid)
        .join("volumes/own");
    write_synced(&own.join("kept"), "kept");
    machine.docker("volume create shelf").ok();
    let shelf = machine
        .docker("volume inspect -f {{.Mountpoint}} shelf")
        .ok();
    let shelf = Path::new(shelf.trim());
    write_synced(&shelf.join("kept"), "kept");

    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|taken| taken.local_addr())
        .expect("a port")
        .port();
    let web = "trap exit TERM; httpd -f -p 80 -h /shelf & wait";
    machine
        .docker_with(
            &format!("run -d --name always --restart always -p {port}:80 -v shelf:/shelf busybox:static sh -c"),
            &[web],
        )
        .ok();
    for (name, policy) in [
        ("unless", "unless-stopped"),
        ("failing", "on-failure"),
        ("never", "no"),
        ("stopped-unless", "unless-stopped"),
        ("stopped-always", "always"),
    ] {
        machine
            .docker(&format!(
                "run -d --name {name} --restart {policy} busybox:static sleep 100000"
            ))
            .ok();
    }
    machine
        .docker("stop -t 0 stopped-unless stopped-always")
        .ok();
    // its record tells of an earlier run, which ended well, and would not be a reason to start it again
    machine
        .docker_with(
            "run -d --name twice --restart on-failure -v shelf:/shelf busybox:static sh -c",
            &["test -e /shelf/again && exec sleep 100000; exit 0"],
        )
        .ok();
    assert_eq!(machine.docker("wait twice").ok(), "0\n");
    write_synced(&shelf.join("again"), "");
    machine.docker("start twice").ok();
    machine
        .docker("create --name created --restart always busybox:static sleep 100000")
        .ok();
    let context = machine.disk.outside().join("context");
    fs::create_dir(&context).expect("a directory");
    fs::write(context.join("Dockerfile"), DOCKERFILE).expect("written");
    machine
        .docker(&format!("build -q -t built:1 {}", context.display()))
        .ok();
    let image = machine.docker("inspect -f {{.Id}} built:1").ok();
    machine.docker("tag built:1 built:2").ok();
    machine
        .kubectl("create configmap last --from-literal=a=1")
        .ok();

    machine.lose_power();
    machine.plimsoll("up").ok();

    assert_eq!(
        machine
            .kubectl("get configmap last -o jsonpath={.data.a}")
            .ok(),
        "1"
    );
    eventually(
        "the same pods run again, each container for the second time",
        || {
            let now = pods(&machine);
            let expected: Vec<_> = before
                .iter()
                .map(|(uid, name, _)| (uid.clone(), name.clone(), 1))
                .collect();
            if now == expected {
                Ok(())
            } else {
                Err(format!("{now:?}"))
            }
        },
    );
    let web = machine.get("pods -l app=web");
    let last = &web["items"][0]["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert!(LOST.iter().any(|code| last["exitCode"] == *code), "{last}");
    machine
        .kubectl("wait --for=condition=Ready pod/failing --timeout=90s")
        .ok();
    eventually("a pod that never restarts has failed", || {
        let phase = machine
            .kubectl("get pod once -o jsonpath={.status.phase}")
            .ok();
        if phase == "Failed" {
            Ok(())
        } else {
            Err(phase)
        }
    });
    for (_, name, _) in &before {
        assert_eq!(
            machine.kubectl(&format!("logs {name}")).ok(),
            "hello",
            "the configuration is there"
        );
    }
    let name = &before[0].1;
    assert_eq!(
        machine
            .kubectl(&format!("exec {name} -- cat /own/kept"))
            .ok(),
        "kept"
    );
    let address = machine
        .kubectl("get service web -o jsonpath={.spec.clusterIP}")
        .ok();
    for (url, text) in [
        (format!("http://{address}/text"), "hello"),
        (format!("http://127.0.0.1:{port}/kept"), "kept"),
    ] {
        eventually(&format!("an answer from {url}"), || {
            let ran = run(command("curl", &format!("-sS -f -m 5 {url}")));
            if ran.out == text {
                Ok(())
            } else {
                Err(ran.to_string())
            }
        });
    }
    for (name, state) in [
        ("always", "running/0"),
        ("unless", "running/0"),
        ("failing", "running/0"),
        ("twice", "running/0"),
        ("stopped-always", "running/0"),
        ("stopped-unless", "exited/137"),
        ("created", "created/0"),
    ] {
        eventually(&format!("{name} is {state}"), || {
            let now = machine.container(name);
            if now == state { Ok(()) } else { Err(now) }
        });
    }
    let never = machine.container("never");
    assert!(
        LOST.iter().any(|code| never == format!("exited/{code}")),
        "{never}"
    );
    for tag in ["built:1", "built:2"] {
        assert_eq!(
            machine
                .docker(&format!("inspect -f {{{{.Id}}}} {tag}"))
                .ok(),
            image
        );
    }
    let told = machine
        .docker_with(
            "run --rm built:2 sh -c",
            &["cat /built /many/300; ls /many | wc -l"],
        )
        .ok();
    assert_eq!(told, "built\n300\n300\n");
}
