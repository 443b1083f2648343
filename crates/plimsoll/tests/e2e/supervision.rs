//! Supervising processes: what they keep while the daemon is gone or another version, and what becomes of what they kept.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Instance, Root, Space, eventually, pod, with_images};

/// Numbers at full speed, with a breath now and then so that the log keeps all of them, until it is told to stop. Its end would
/// kill whoever tells it so from inside, hence the wait.
const COUNT: &str = "i=0; while [ ! -e /tmp/stop ]; do j=0; while [ $j -lt 500 ]; do echo $i; i=$((i+1)); j=$((j+1)); done; sleep 0.02; done; echo end $i; sleep 1";

pub fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), Signal::KILL).expect("it runs");
}

/// The supervising process of the sandbox with this id.
pub fn supervisor(instance: &Instance, id: &str) -> u32 {
    let traces = instance.traces().to_string();
    let line = traces
        .lines()
        .find(|line| line.contains("supervise") && line.contains(id))
        .unwrap_or_else(|| panic!("no supervising process of {id} in:\n{traces}"));
    let pid = line
        .split_whitespace()
        .nth(1)
        .and_then(|pid| pid.parse().ok());
    pid.expect("a pid")
}

fn inspect(instance: &Instance, name: &str, field: &str) -> String {
    let text = instance
        .docker(&format!("inspect -f {{{{{field}}}}} {name}"))
        .ok();
    text.trim().to_owned()
}

/// Pods are made again (`node::pods`); containers by their restart policy.
pub fn a_container_whose_supervising_process_is_killed_follows_its_policy() {
    let instance = with_images();
    for (name, policy) in [
        ("always", "--restart always"),
        ("failing", "--restart on-failure:3"),
        ("never", ""),
    ] {
        instance
            .docker(&format!(
                "run -d --name {name} {policy} busybox:static sleep 1000"
            ))
            .ok();
        let id = inspect(&instance, name, ".Id");
        let (before, supervisor) = (
            inspect(&instance, name, ".State.Pid"),
            supervisor(&instance, &id),
        );
        kill(supervisor);
        eventually("its end is known", || {
            // In one answer: between two it may end.
            let now = inspect(&instance, name, ".State.Status}}/{{.State.Pid");
            let settled = if policy.is_empty() {
                now == "exited/0"
            } else {
                now.starts_with("running/") && now != format!("running/{before}")
            };
            if settled { Ok(()) } else { Err(now) }
        });
        // Whoever reaps it may take a while.
        let left = fs::read_to_string(format!("/proc/{before}/cmdline")).unwrap_or_default();
        assert!(left.is_empty(), "killed with its cgroup: {left}");
        if policy.is_empty() {
            assert_eq!(inspect(&instance, name, ".State.ExitCode"), "137");
            instance.docker(&format!("start {name}")).ok();
        }
        instance.docker(&format!("exec {name} true")).ok();
        instance.docker(&format!("rm -f {name}")).ok();
    }
    instance.purge();
}

pub fn nothing_is_lost_while_the_daemon_is_killed_upgraded_and_downgraded() {
    let instance = std::sync::Arc::new(with_images());
    let space = Space::within(instance.clone(), "versions");
    space.apply(&(pod("counter", COUNT) + "  restartPolicy: Never\n"));
    space.apply(
        &(pod(
            "ends",
            "while [ ! -e /tmp/stop ]; do sleep 0.1; done; exit 7",
        ) + "  restartPolicy: Never\n"),
    );
    space.ready("pod/counter");
    space.ready("pod/ends");
    instance
        .docker(&format!(
            "run -d --name counter busybox:static sh -c '{}'",
            COUNT.replace('\'', "")
        ))
        .ok();
    instance.docker("run -d --name ends busybox:static sh -c 'while [ ! -e /tmp/stop ]; do sleep 0.1; done; exit 8'").ok();
    let pids = || ["counter", "ends"].map(|name| inspect(&instance, name, ".State.Pid"));
    let before = pids();

    // Another build of the program, as far as anybody can tell.
    let other = Root::scratch().join("plimsoll");
    fs::copy(Root::plimsoll(), &other).expect("copied");
    let mut bytes = fs::OpenOptions::new()
        .append(true)
        .open(&other)
        .expect("open");
    std::io::Write::write_all(&mut bytes, b"\n").expect("appended");
    drop(bytes);
    let root_of = |pid: &str| format!("/proc/{pid}/root/tmp/stop");
    for (round, program) in [other.clone(), Root::plimsoll(), other]
        .into_iter()
        .enumerate()
    {
        let daemon = instance.daemon_pid();
        kill(daemon);
        eventually("the daemon is dead", || {
            let gone = fs::read_to_string(format!("/proc/{daemon}/cmdline"))
                .unwrap_or_default()
                .is_empty();
            if gone { Ok(()) } else { Err("alive") }
        });
        if round == 1 {
            // Two end while nobody watches.
            fs::write(root_of(&before[1]), "").expect("written");
            let pod = pod_process(&instance);
            fs::write(root_of(&pod), "").expect("written");
            eventually("both ended", || {
                let alive = [&pod, &before[1]]
                    .into_iter()
                    .filter(|pid| Path::new(&format!("/proc/{pid}/root/tmp")).exists())
                    .count();
                if alive == 0 { Ok(()) } else { Err(alive) }
            });
        }
        instance.by_build(program, "up").ok();
        assert_eq!(
            inspect(&instance, "counter", ".State.Pid"),
            before[0],
            "round {round}"
        );
        instance.docker("exec counter true").ok();
    }
    assert_eq!(inspect(&instance, "ends", ".State.ExitCode"), "8");
    space.until(
        "pod/ends",
        ".status.containerStatuses[0].state.terminated.exitCode",
        "7",
    );

    instance.docker("exec counter touch /tmp/stop").ok();
    space.kubectl("exec counter -- touch /tmp/stop").ok();
    space.until("pod/counter", ".status.phase", "Succeeded");
    assert_eq!(instance.docker("wait counter").ok(), "0\n");
    assert_eq!(
        space.field("pod/counter", ".status.containerStatuses[0].restartCount"),
        "0"
    );
    for text in [
        instance.docker("logs counter").ok(),
        space.kubectl("logs counter").ok(),
    ] {
        complete(&text);
    }
    drop(space);
    std::sync::Arc::into_inner(instance)
        .expect("the last one")
        .purge();
}

/// Every number once and in order, and the end.
fn complete(text: &str) {
    let mut expected = 0_u64;
    for line in text.lines() {
        if line == format!("end {expected}") {
            println!("{expected} lines");
            assert!(expected > 1000);
            return;
        }
        assert_eq!(line, expected.to_string());
        expected += 1;
    }
    panic!("no end after {expected}");
}

/// The shell of the pod `ends`.
fn pod_process(instance: &Instance) -> String {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found = pids.filter(|pid| {
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("cgroup").contains(&instance.name) && read("cmdline").contains("exit 7")
    });
    found.next().expect("the pod runs")
}
