//! The life of an instance: killed, stopped, started again, removed, beside another.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Busy, Instance, Root, Run, Space, Traces, eventually, holds, lacks};

/// The processes in the instance's cgroups with their start times: together they name a process for ever.
fn contained(instance: &Instance) -> BTreeMap<u32, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("cgroup").contains(&instance.name)
            && let Some((_, rest)) = read("stat").rsplit_once(')')
        {
            found.insert(
                pid,
                rest.split_whitespace()
                    .nth(19)
                    .unwrap_or_default()
                    .to_owned(),
            );
        }
    }
    found
}

fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a pid");
    kill_process(pid, signal).expect("it runs");
}

/// What must not change while the daemon is away: uid, address, container and restarts of each pod.
fn pods(space: &Space) -> Vec<String> {
    let pods = space.get("pods -l app=web");
    let pods = pods["items"].as_array().expect("a list").iter();
    let mut found: Vec<String> = pods
        .map(|pod| {
            let container = &pod["status"]["containerStatuses"][0];
            let parts = [
                &pod["metadata"]["uid"],
                &pod["status"]["podIP"],
                &container["containerID"],
                &container["restartCount"],
            ];
            parts.map(ToString::to_string).join(" ")
        })
        .collect();
    found.sort();
    found
}

pub fn containers_survive_a_killed_daemon() {
    let busy = Busy::new();
    let (instance, space) = (&busy.instance, &busy.space);
    busy.answers();
    instance.docker("run -d --name ends busybox:static sh -c 'while [ -e /tmp ]; do [ -e /tmp/end ] && exit 5; sleep 0.2; done'").ok();
    instance.docker("exec ends true").ok();
    let app = instance.docker("inspect -f {{.State.Pid}} app").ok();
    let (before, pods_before) = (contained(instance), pods(space));
    assert!(
        pods_before.len() == 2 && pods_before.iter().all(|pod| pod.ends_with(" 0")),
        "{pods_before:?}"
    );
    let servers: BTreeMap<_, _> = before
        .iter()
        .filter(|(pid, _)| command(**pid).starts_with("httpd"))
        .collect();
    assert_eq!(servers.len(), 3, "two pods and a container: {before:?}");

    let daemon = instance.daemon_pid();
    kill(daemon, Signal::KILL);
    eventually("the daemon is dead", || {
        if command(daemon).is_empty() {
            Ok(())
        } else {
            Err("alive")
        }
    });
    // without a daemon everything serves
    busy.answers();
    let now = contained(instance);
    assert!(
        servers
            .iter()
            .all(|(pid, start)| now.get(pid) == Some(start)),
        "{before:?} became {now:?}"
    );
    assert_eq!(
        instance.plimsoll("status").ran().code,
        3,
        "status says that the daemon is not running"
    );
    // one ends while nobody watches
    let root = before
        .keys()
        .find(|pid| command(**pid).starts_with("sh -c while"))
        .expect("it runs");
    fs::write(format!("/proc/{root}/root/tmp/end"), "").expect("written");
    eventually("it ended", || {
        if command(*root).is_empty() {
            Ok(())
        } else {
            Err("alive")
        }
    });

    instance.plimsoll("up").ok();
    assert_ne!(instance.daemon_pid(), daemon);
    busy.answers();
    let now = contained(instance);
    assert!(
        servers
            .iter()
            .all(|(pid, start)| now.get(pid) == Some(start)),
        "{before:?} became {now:?}"
    );
    assert_eq!(instance.docker("inspect -f {{.State.Pid}} app").ok(), app);
    assert_eq!(
        instance
            .docker("inspect -f {{.State.Status}}/{{.State.ExitCode}} ends")
            .ok(),
        "exited/5\n",
        "the exit code was kept"
    );
    space.rolled_out("web");
    assert_eq!(
        pods(space),
        pods_before,
        "the same pods, addresses and containers, none restarted"
    );
    holds(&space.kubectl("exec deploy/web -- hostname").ok(), "web-");
    instance.docker("exec app true").ok();
    instance.docker("logs app").ok();

    // what was adopted can be ended and replaced
    space.kubectl("delete pod -l app=web --wait=false").ok();
    eventually("other pods have come", || {
        let now = pods(space);
        if now.len() == 2 && pods_before.iter().all(|old| !now.contains(old)) {
            Ok(())
        } else {
            Err(now.join(", "))
        }
    });
    space.rolled_out("web");
    instance.docker("rm -f app").ok();
    busy.alone().purge();
}

fn command(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline"))
        .unwrap_or_default()
        .replace('\0', " ")
}

pub fn down_stops_everything_and_up_brings_the_pods_back() {
    let busy = Busy::new();
    let (instance, space) = (&busy.instance, &busy.space);
    space
        .kubectl("create configmap kept --from-literal=a=1")
        .ok();
    holds(&instance.plimsoll("down").ok(), "plimsoll is down");
    let left = instance.traces();
    for sort in ["process", "mount", "link", "table"] {
        assert!(
            left.of_sort(sort).is_empty(),
            "{sort} left by `down`:\n{left}"
        );
    }
    assert_eq!(instance.plimsoll("status").ran().code, 3);
    holds(&instance.plimsoll("ps").fails(1), "is the daemon up?");
    holds(&instance.plimsoll("get pods").fails(1), "is the daemon up?");
    holds(&instance.plimsoll("down").ok(), "down");

    instance.plimsoll("up").ok();
    space.rolled_out("web");
    holds(&instance.fetch(&busy.service), "root:x:0");
    assert_eq!(space.field("configmap/kept", ".data.a"), "1");
    holds(&instance.docker("images").ok(), "my-web-app");
    // like dockerd's, a container without a restart policy stays stopped until somebody starts it
    holds(&instance.docker("ps -a").ok(), "app");
    instance.docker("start app").ok();
    busy.answers();
    busy.alone().purge();
}

pub fn purge_leaves_no_trace() {
    let busy = Busy::new();
    busy.instance
        .docker("run -d --name other -v /opt/data -p 0:80 busybox:static sleep 1000")
        .ok();
    let before = busy.instance.traces();
    // what there is to remove; else the test would prove nothing
    for (sort, least) in [
        ("process", 8),
        ("mount", 4),
        ("cgroup", 1),
        ("link", 1),
        ("address", 1),
        ("route", 1),
        ("table", 1),
        ("file", 2),
    ] {
        assert!(
            before.of_sort(sort).len() >= least,
            "fewer than {least} of {sort}:\n{before}"
        );
    }
    let ports = links_of(&busy.instance.name);
    assert!(
        ports.len() >= 4,
        "a link for each pod and container: {ports:?}"
    );
    let instance = busy.alone();
    let (name, data_dir) = (instance.name.clone(), instance.data_dir.clone());
    // also when the daemon has died and everything else runs on
    kill(instance.daemon_pid(), Signal::KILL);
    holds(
        &instance.plimsoll("down --purge").ok(),
        "left nothing behind",
    );
    // a process that exits is seen until the kernel has taken it apart
    eventually("no trace of `down --purge`", || {
        let after = Traces::of(&name, &data_dir);
        if after.is_empty() { Ok(()) } else { Err(after) }
    });
    for port in ports {
        assert!(
            !fs::exists(format!("/sys/class/net/{port}")).expect("readable"),
            "link {port} is left"
        );
    }
    for pid in before.of_sort("process") {
        let (pid, what) = pid.split_once(' ').expect("a pid and a command");
        assert_ne!(
            command(pid.parse().expect("a number")),
            what,
            "process {pid} is left"
        );
    }
    assert!(!data_dir.exists() && !instance.run_dir().exists());
    holds(&instance.plimsoll("down --purge").ok(), "nothing to do");
}

/// The host's ends of the links into pods and containers.
fn links_of(bridge: &str) -> Vec<String> {
    let shown = Run::new("ip", &format!("-o link show master {bridge}")).ok();
    shown
        .lines()
        .filter_map(|line| Some(line.split([':', '@']).nth(1)?.trim().to_owned()))
        .collect()
}

pub fn two_instances_live_side_by_side() {
    let (one, other) = (Busy::new(), Busy::new());
    assert_ne!(one.instance.name, other.instance.name);
    assert_ne!(one.instance.api_port, other.instance.api_port);
    one.answers();
    other.answers();
    let names = |busy: &Busy| busy.space.field("pods", ".items[*].metadata.uid");
    assert_ne!(names(&one), names(&other));
    one.instance.docker("tag busybox:static mine:1").ok();
    lacks(&other.instance.docker("images").ok(), "mine");
    // the credentials of one are worth nothing to the other
    let foreign = one.instance.data_dir.join("kubeconfig");
    let url = format!("https://127.0.0.1:{}", other.instance.api_port);
    let said = other
        .instance
        .kubectl(&format!(
            "--kubeconfig {} --server {url} --insecure-skip-tls-verify get pods",
            foreign.display()
        ))
        .fails(1);
    // refused by TLS or by the API: in any case before anything was told
    lacks(&said, "web-");
    lacks(&said, "No resources");
    // the end of one is no matter to the other
    one.alone().purge();
    other.answers();
    other.space.kubectl("exec deploy/web -- true").ok();
    other.alone().purge();
}

pub fn a_second_up_changes_nothing() {
    let instance = Instance::up();
    let daemon = instance.daemon_pid();
    holds(&instance.plimsoll("up").ok(), "already up");
    let second = instance.plimsoll("up --foreground").fails(1);
    holds(&second, "another plimsoll is running");
    assert_eq!(instance.daemon_pid(), daemon);
    assert_eq!(instance.status()["running"], true);
    instance.purge();
}

pub fn a_taken_port_is_told_and_nothing_is_lost() {
    let instance = Instance::up();
    instance
        .kubectl("create configmap kept --from-literal=a=1")
        .ok();
    instance.plimsoll("down").ok();
    let port = u16::try_from(instance.api_port).expect("a port");
    let somebody = TcpListener::bind(("127.0.0.1", port)).expect("the port is free after `down`");
    let said = instance.plimsoll("up").fails(1);
    holds(&said, &format!("cannot listen on 127.0.0.1:{port}"));
    holds(&said, "already in use");
    holds(&said, &format!("(pid {}) has the port", std::process::id()));
    let left = instance.traces();
    assert!(
        left.of_sort("process").is_empty(),
        "a process of the failed start is left:\n{left}"
    );
    drop(somebody);
    instance.plimsoll("up").ok();
    assert_eq!(
        instance
            .kubectl("get configmap kept -o jsonpath={.data.a}")
            .ok(),
        "1"
    );

    // a damaged instance file names itself
    let damaged = Root::scratch();
    fs::write(damaged.join("instance.json"), "{").expect("written");
    holds(
        &Run::new(
            Root::plimsoll(),
            &format!("up --data-dir {}", damaged.display()),
        )
        .fails(1),
        "instance.json is damaged",
    );
    instance.purge();
}

/// In a mount namespace of its own one thing after the other is taken away that a kernel may lack.
pub fn a_missing_kernel_feature_is_named() {
    let scratch = Root::scratch();
    let kept = |text: &str, name: &str, without: &str| {
        let text: String = text
            .lines()
            .filter(|line| !line.ends_with(without))
            .map(|line| format!("{line}\n"))
            .collect();
        fs::write(scratch.join(name), text).expect("written");
        scratch.join(name).display().to_string()
    };
    let filesystems = kept(
        &fs::read_to_string("/proc/filesystems").expect("readable"),
        "filesystems",
        "overlay",
    );
    let controllers = kept("cpu io pids", "controllers", "nothing");
    let unified = fs::exists("/sys/fs/cgroup/cgroup.controllers").expect("readable");
    let no_memory = if unified {
        format!("mount --bind {controllers} /sys/fs/cgroup/cgroup.controllers")
    } else {
        "umount $(awk '$3 == \"cgroup\" && $4 ~ /(^|,)memory(,|$)/ { print $2 }' /proc/mounts)"
            .to_owned()
    };
    let rows = [
        (
            "umount -R -l /sys/fs/cgroup".to_owned(),
            [
                "a mounted cgroup hierarchy",
                "mount cgroup2 on /sys/fs/cgroup",
            ],
        ),
        (
            format!(
                "mount --bind {filesystems} /proc/filesystems; mount -t tmpfs none /sys/module; [ ! -d /lib/modules ] || mount -t tmpfs none /lib/modules"
            ),
            ["the overlay file system", "load the module overlay"],
        ),
        (
            no_memory,
            ["the cgroup controller memory", "kernel's command line"],
        ),
    ];
    for (take_away, told) in rows {
        let data_dir = Root::data_dir();
        let script = scratch.join("script");
        fs::write(
            &script,
            format!(
                "set -e\n{take_away}\nexec {} up --data-dir {}\n",
                Root::plimsoll().display(),
                data_dir.display()
            ),
        )
        .expect("written");
        let said = Run::new(
            "unshare",
            &format!("--mount --propagation private sh {}", script.display()),
        )
        .fails(1);
        holds(&said, "this kernel lacks");
        told.iter().for_each(|told| holds(&said, told));
        let name = fs::read_to_string(data_dir.join("instance.json")).expect("written before");
        let name: serde_json::Value = serde_json::from_str(&name).expect("JSON");
        let name = name["name"].as_str().expect("a name");
        let left = Traces::of(name, &data_dir);
        for sort in [
            "process", "mount", "cgroup", "link", "address", "route", "table",
        ] {
            assert!(
                left.of_sort(sort).is_empty(),
                "after {take_away:?}:\n{left}"
            );
        }
        Run::new(
            Root::plimsoll(),
            &format!("down --purge --data-dir {}", data_dir.display()),
        )
        .ok();
        let left = Traces::of(name, &data_dir);
        assert!(left.is_empty(), "after {take_away:?} and a purge:\n{left}");
    }
}
