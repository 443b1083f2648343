//! What people expect of a kubelet where a pod does not simply start, run and end.

use std::fs;
use std::net::TcpStream;

use crate::supervision::{kill, supervisor};
use crate::support::{Process, Root, Run, Space, eventually, free_port, pod};

/// `user:secret`, with its password in bcrypt.
const PASSWORDS: &str = "user:$2y$05$6X8gVDBVQm.Wb0VcnCHQ9OPXCNr73sUoK6v7zENlziHBzdeo3skMu\n";

/// Debian's registry that lets in who knows the password, and its address.
fn private_registry() -> (Process, String) {
    let directory = Root::scratch();
    let address = format!("127.0.0.1:{}", free_port());
    let (passwords, settings) = (directory.join("htpasswd"), directory.join("registry.yml"));
    fs::write(&passwords, PASSWORDS).expect("written");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n\
         auth: {{htpasswd: {{realm: private, path: {}}}}}\n",
        directory.join("data").display(),
        passwords.display(),
    );
    fs::write(&settings, text).expect("written");
    let registry = Process::start("docker-registry", ["serve".into(), settings]);
    eventually("the registry listens", || {
        TcpStream::connect(&address).map(drop)
    });
    (registry, address)
}

pub fn private_images_are_pulled_with_the_secrets_of_a_pod() {
    let space = Space::new("private");
    let (_registry, address) = private_registry();
    let archive = Root::scratch().join("image.tar");
    let docker = |arguments: &str| space.instance.docker(arguments);
    // one of its own: names of one image would keep others from being removed
    docker("build -q -t private:1 -")
        .stdin("FROM busybox:static\nLABEL of=team\n")
        .ok();
    docker(&format!("save -o {} private:1", archive.display())).ok();
    docker("rmi private:1").ok();
    let image = format!("{address}/team/app:1");
    let copy = format!(
        "--insecure-policy copy --dest-creds user:secret --dest-tls-verify=false docker-archive:{} docker://{image}",
        archive.display()
    );
    Run::new("skopeo", &copy).ok();
    let secret = format!(
        "create secret docker-registry there --docker-server={address} --docker-username=user --docker-password=secret"
    );
    space.kubectl(&secret).ok();
    let pod = |name: &str, secrets: &str| {
        pod(name, "sleep 1000").replace("busybox:static", &image)
            + &format!("    imagePullPolicy: Always\n  imagePullSecrets: [{secrets}]\n")
    };
    space.apply(&pod("lost", "{name: nowhere}"));
    space.until_says(
        "describe pod lost",
        "Unable to retrieve some image pull secrets (nowhere); attempting to pull the image may not succeed.",
    );
    space.until_says("get pod lost --no-headers", "ImagePullBackOff");
    space.apply(&pod("own", "{name: nowhere}, {name: there}"));
    space.ready("pod/own");
    // those of its account are a pod's own
    let account =
        "patch serviceaccount default -p '{\"imagePullSecrets\": [{\"name\": \"there\"}]}'";
    space.kubectl(account).ok();
    space.apply(&pod("given", ""));
    space.ready("pod/given");
}

pub fn what_others_say_of_a_pod_while_its_hook_runs_stands() {
    let space = Space::new("gates");
    let hook = "[sh, -c, 'while [ ! -e /tmp/go ]; do sleep 0.1; done']";
    space.apply(&format!(
        "{}    lifecycle: {{postStart: {{exec: {{command: {hook}}}}}}}\n  readinessGates: [{{conditionType: example.com/gate}}]\n",
        pod("gated", "sleep 1000")
    ));
    space.until_says("exec gated -- echo it runs", "it runs");
    let gate = "patch pod gated --subresource=status --type=strategic -p";
    let told = "'{\"status\": {\"conditions\": [{\"type\": \"example.com/gate\", \"status\": \"True\"}]}}'";
    space.kubectl(&format!("{gate} {told}")).ok();
    space.kubectl("exec gated -- touch /tmp/go").ok();
    space.ready("pod/gated");
}

/// Nor does their pods' end wait for them.
pub fn hooks_without_end_keep_nobody_from_starting() {
    let space = Space::new("hooks");
    for name in ["a", "b", "c", "d", "e"] {
        let hook = "    lifecycle: {postStart: {exec: {command: [sleep, '100000']}}}\n";
        space.apply(&(pod(name, "sleep 1000") + hook));
        space.until_says(&format!("exec {name} -- echo it runs"), "it runs");
    }
    space.apply(&pod("plain", "sleep 1000"));
    space.ready("pod/plain");
    space.kubectl("delete pods --all --timeout=60s").ok();
}

pub fn a_job_whose_worker_hung_is_not_complete() {
    let space = Space::new("hung");
    space.apply(
        "apiVersion: batch/v1
kind: Job
metadata: {name: hung}
spec:
  template:
    spec:
      restartPolicy: OnFailure
      terminationGracePeriodSeconds: 10
      containers:
      - name: main
        image: busybox:static
        command: [sh, -c, \"trap 'exit 0' TERM; while :; do sleep 0.1; done\"]
        livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 1}
",
    );
    eventually("its container was started again", || {
        let path = ".items[0].status.containerStatuses[0].restartCount";
        let count = space.field("pods -l job-name=hung", path);
        match count.parse::<u32>() {
            Ok(count) if count > 0 => Ok(()),
            _ => Err(count),
        }
    });
    assert_eq!(space.field("job/hung", ".status.succeeded"), "");
    assert_eq!(space.field("job/hung", ".status.active"), "1");
}

pub fn a_deletion_shortens_the_end_of_a_pod_whose_time_is_over() {
    let space = Space::new("shortened");
    let stubborn = pod("stubborn", "trap '' TERM; while :; do sleep 0.1; done").replace(
        "terminationGracePeriodSeconds: 1",
        "terminationGracePeriodSeconds: 600",
    );
    space.apply(&(stubborn + "  activeDeadlineSeconds: 2\n"));
    space.until_says("describe pod stubborn", "DeadlineExceeded");
    space
        .kubectl("delete pod stubborn --grace-period=2 --timeout=60s")
        .ok();
}

/// What init containers prepared in a network is gone with it.
pub fn init_containers_run_again_in_a_new_sandbox() {
    let space = Space::new("prepared");
    let there = "ip addr show dev lo | grep -q 192.0.2.77";
    space.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: prepared}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: prepare
    image: busybox:static
    command: [ip, addr, add, 192.0.2.77/32, dev, lo]
    securityContext: {{capabilities: {{add: [NET_ADMIN]}}}}
  containers:
  - name: main
    image: busybox:static
    command: [sh, -c, '{there} || exit 3; echo found; exec sleep 1000']
"
    ));
    space.ready("pod/prepared");
    let uid = space.field("pod/prepared", ".metadata.uid");
    kill(supervisor(&space.instance, &uid));
    let restarts = ".status.initContainerStatuses[0].restartCount";
    space.until("pod/prepared", restarts, "1");
    space.ready("pod/prepared");
    let restarts = ".status.containerStatuses[0].restartCount";
    space.until("pod/prepared", restarts, "1");
    assert_eq!(space.kubectl("logs prepared").ok(), "found\n");
}

pub fn logs_of_the_previous_attempt_are_of_what_ended_last() {
    let space = Space::new("previous");
    let script = "cat /proc/sys/kernel/random/uuid; exit 1";
    space.apply(&(pod("crash", script) + "    terminationMessagePolicy: FallbackToLogsOnError\n"));
    let of = |path: &str| space.field("pod/crash", &format!(".status.containerStatuses[0]{path}"));
    let (log, message) = eventually("it waits after its second attempt", || {
        // what is read in between is of one moment if nothing has changed around it
        let now = || [of(".restartCount"), of(".state.waiting.reason")];
        let before = now();
        let message = of(".lastState.terminated.message");
        let log = space.kubectl("logs --previous crash").ran().stdout;
        let stands = before[0] != "0" && before[1] == "CrashLoopBackOff" && before == now();
        match stands {
            true => Ok((log, message)),
            false => Err(before.join(" ")),
        }
    });
    assert_ne!(log, "");
    assert_eq!(log, message);
}
