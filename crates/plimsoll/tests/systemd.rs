//! The service on a machine that systemd runs, from `plimsoll install` on a fresh one over a reboot to `plimsoll uninstall`.
//!
//! Nobody's machine is to be changed so: `make test-v2` runs these two, one a boot, in a virtual machine with a disk of its own
//! (`scripts/guest/run --systemd --disk`). The first one's end is a shutdown in order.
#![forbid(unsafe_code)]
#![allow(dead_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "e2e/support/command.rs"]
mod command;
#[path = "e2e/support/disk.rs"]
mod disk;
#[path = "e2e/support/poll.rs"]
mod poll;
#[path = "e2e/support/terminal.rs"]
mod terminal;

use command::Run;
use poll::eventually;
use terminal::Terminal;

const UNIT: &str = "plimsoll.service";
const INSTALLED: &str = "/usr/local/bin/plimsoll";
/// How containers of these tests are known among the machine's processes.
const MARK: &str = "86399";

const WEB: &str = "
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
      containers:
      - name: main
        image: busybox:static
        command: [sleep, '86399']
        resources: {limits: {memory: 48Mi}}
";

/// The program before it is installed.
fn downloaded() -> PathBuf {
    std::env::var_os("PLIMSOLL_E2E_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_plimsoll").into(), PathBuf::from)
}

#[track_caller]
fn fresh_machine() {
    let first = fs::read_to_string("/proc/1/comm").expect("readable");
    assert_eq!(first.trim(), "systemd", "this machine is run by another");
    assert!(
        Path::new("/run/guest").exists(),
        "only in the guest: what is installed on this machine would be changed"
    );
}

fn systemctl(arguments: &str) -> Run {
    Run::new("systemctl", arguments)
}

/// A command at a shell of the machine's administrator.
fn shell(script: &str) -> Run {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients");
    let script = format!("eval \"$({INSTALLED} env)\"\n{script}");
    Run::new("bash", "-c").argument(&script).env(
        "PATH",
        format!(
            "{}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            clients.display()
        ),
    )
}

/// The marked processes, each with its start.
fn marked() -> BTreeSet<(u32, String)> {
    let processes = fs::read_dir("/proc").expect("readable").flatten();
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let words = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            let sleeps = words.split('\0').eq(["sleep", MARK, ""]);
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let start = stat.rsplit(')').next()?.split_whitespace().nth(19)?;
            sleeps.then(|| (pid, start.to_owned()))
        })
        .collect()
}

fn main_pid() -> String {
    let pid = systemctl(&format!("show -p MainPID --value {UNIT}")).ok();
    pid.trim().to_owned()
}

/// What the kernel holds the pods to, by the files of their own.
fn limits() -> String {
    shell("for pod in $(kubectl get pods -o name | sort); do kubectl exec $pod -- cat /sys/fs/cgroup/memory.max; done").ok()
}

/// That the service is up and both of its doors are open. By curl: each other client takes seconds where all is emulated.
#[track_caller]
fn answers(when: &str) {
    eventually(&format!("it answers {when}"), || {
        let ran = shell(
            "systemctl -q is-active plimsoll.service &&
            curl -sSfk $(awk '$1 == \"server:\" {print $2}' $KUBECONFIG)/readyz > /dev/null &&
            curl -sSf --unix-socket ${DOCKER_HOST#unix://} http://docker/_ping",
        )
        .ran();
        if ran.code == 0 { Ok(()) } else { Err(ran) }
    });
}

#[track_caller]
fn runs() {
    eventually("all pods and the container run", || {
        let ran = shell("kubectl rollout status deployment/web --timeout=30s").ran();
        match marked().len() {
            3 if ran.code == 0 => Ok(()),
            _ => Err(ran),
        }
    });
}

#[test]
#[ignore = "changes the machine: make test-v2 runs it in a virtual one"]
fn the_first_boot_installs_and_nothing_done_to_the_service_ends_a_container() {
    fresh_machine();
    let program = downloaded();
    Run::new(&program, "doctor").ok();
    let said = Run::new(&program, "install").ok();
    assert!(said.contains("runs now and after every boot"), "{said}");
    assert_eq!(
        systemctl(&format!("is-enabled {UNIT}")).ok().trim(),
        "enabled"
    );
    assert_eq!(
        systemctl(&format!("is-active {UNIT}")).ok().trim(),
        "active"
    );
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", main_pid()));
    assert_eq!(score.expect("it runs").trim(), "-999");

    shell("plimsoll import /bin/busybox busybox:static --busybox").ok();
    shell(&format!("docker run -d --name plain --restart unless-stopped -v kept:/kept busybox:static sleep {MARK}")).ok();
    shell("docker exec plain sh -c 'echo word > /kept/file'").ok();
    shell("kubectl create configmap kept --from-literal=word=kept").ok();
    shell("kubectl apply -f -").stdin(WEB).ok();
    runs();
    let before = marked();
    let bound = limits();
    assert_eq!(bound, "50331648\n50331648\n");

    let daemon = main_pid();
    shell(&format!("kill -9 {daemon}")).ok();
    eventually("another daemon", || {
        let now = main_pid();
        if now == "0" || now == daemon {
            Err(now)
        } else {
            Ok(())
        }
    });
    answers("after a kill -9");
    assert_eq!(marked(), before, "after a kill -9");

    systemctl(&format!("stop {UNIT}")).ok();
    let state = systemctl(&format!("is-active {UNIT}")).ran();
    assert_eq!(state.stdout.trim(), "inactive", "{state}");
    assert_eq!(marked(), before, "while it is stopped");
    systemctl(&format!("start {UNIT}")).ok();
    answers("after a stop and a start");
    assert_eq!(marked(), before, "after a stop and a start");

    // systemd writes its own groups anew at both; ours are not its
    systemctl("daemon-reload").ok();
    systemctl("daemon-reexec").ok();
    answers("after systemd itself was started anew");
    assert_eq!(marked(), before, "after systemd itself was started anew");
    assert_eq!(limits(), bound);

    // the next version, one byte longer
    let next = std::env::temp_dir().join("plimsoll-next");
    fs::copy(&program, &next).expect("copied");
    shell(&format!("echo >> {}", next.display())).ok();
    let said = Run::new(&next, "install").ok();
    assert!(said.contains("updated   /usr/local/bin/plimsoll"), "{said}");
    answers("after an upgrade");
    assert_eq!(marked(), before, "after an upgrade");

    let log = shell(&format!("journalctl --no-pager -u {UNIT}")).ok();
    assert!(log.contains("Started plimsoll.service"), "{log}");
}

#[test]
#[ignore = "changes the machine: make test-v2 runs it in a virtual one, after the other"]
fn the_second_boot_brings_everything_back_and_uninstalling_leaves_nothing() {
    fresh_machine();
    runs();
    let word = shell("kubectl get configmap kept -o 'jsonpath={.data.word}'").ok();
    assert_eq!(word, "kept");
    assert_eq!(shell("docker exec plain cat /kept/file").ok(), "word\n");
    assert_eq!(limits(), "50331648\n50331648\n");

    // down is down, also for the service
    let said = Run::new(INSTALLED, "down --time 2").ok();
    assert!(said.contains("Its service is stopped"), "{said}");
    std::thread::sleep(std::time::Duration::from_secs(5));
    let state = systemctl(&format!("is-active {UNIT}")).ran();
    assert_eq!(state.stdout.trim(), "inactive", "{state}");
    assert_eq!(marked(), BTreeSet::new());
    // what is started by hand, the service takes over
    Run::new(INSTALLED, "up").ok();
    runs();
    let before = marked();
    let said = Run::new(downloaded(), "install").ok();
    assert!(said.contains("ending the daemon that runs"), "{said}");
    answers("after it was taken over");
    assert_eq!(marked(), before, "after it was taken over");

    let before = marked();
    let said = Run::new(INSTALLED, "uninstall --settings").ok();
    assert!(
        said.contains("Containers and data are still there"),
        "{said}"
    );
    assert!(!Path::new(INSTALLED).exists() && !Path::new("/etc/plimsoll").exists());
    assert_eq!(main_pid(), "0");
    let state = systemctl(&format!("is-enabled {UNIT}")).ran();
    assert_ne!(state.code, 0, "{state}");
    assert_eq!(marked(), before, "containers outlive the service");

    Run::new(downloaded(), "down --purge").ok();
    assert_eq!(marked(), BTreeSet::new());
    let left = Run::new(
        "sh",
        "-c 'ls /var/lib/plimsoll | grep -v lost+found; ls -d /run/plimsoll /sys/fs/cgroup/plim-* 2>/dev/null; ip -o link | grep plim; nft list tables | grep plim; grep plim /proc/mounts | grep -v \" /var/lib/plimsoll \"'",
    )
    .ran();
    assert_eq!(left.stdout, "", "{left}");
}
