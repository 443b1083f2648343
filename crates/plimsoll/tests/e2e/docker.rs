//! Containers by the unmodified docker command.

use std::net::TcpListener;

use crate::support::{Instance, Root, Run, eventually, free_port, holds, lacks, shared};

/// Removes a test's containers, however it ends.
struct Containers<'a>(&'a Instance, &'static str);

impl Drop for Containers<'_> {
    fn drop(&mut self) {
        let _ = self.0.docker(&format!("rm -f {}", self.1)).ran();
    }
}

pub fn an_app_is_run_asked_stopped_and_removed() {
    let instance = shared();
    let _containers = Containers(&instance, "walk");
    let port = free_port();
    let images = instance.docker("images").ok();
    holds(&images, "my-web-app");
    holds(&images, "busybox");

    let id = instance
        .docker(&format!("run -d --name walk -p {port}:8080 my-web-app"))
        .ok();
    assert_eq!(id.trim().len(), 64, "the full ID: {id}");
    for address in ["127.0.0.1", &instance.gateway] {
        assert_eq!(
            instance.fetch(&format!("http://{address}:{port}/healthz")),
            "ok\n"
        );
    }
    if std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|table| table.contains(" lo")) {
        assert_eq!(
            instance.fetch(&format!("http://[::1]:{port}/healthz")),
            "ok\n"
        );
    }
    let listed = instance.docker("ps --no-trunc").ok();
    let line = listed
        .lines()
        .find(|line| line.contains(id.trim()))
        .expect("the container is listed");
    holds(line, &format!(":{port}->8080/tcp"));
    holds(line, "walk");
    holds(line, "Up ");
    holds(
        &instance.docker("logs walk").ok(),
        "web-app listens on port 8080",
    );

    assert_eq!(
        instance.docker("exec walk cat /app/www/healthz").ok(),
        "ok\n"
    );
    assert_eq!(
        instance
            .docker("exec -i walk cat")
            .stdin("through\nthe pipe\n")
            .ok(),
        "through\nthe pipe\n"
    );
    holds(
        &instance
            .docker("exec walk sh -c 'echo out; echo err >&2; exit 9'")
            .fails(9),
        "out\nerr",
    );
    assert_eq!(
        instance.docker("inspect -f {{.State.Status}} walk").ok(),
        "running\n"
    );

    instance.docker("stop walk").ok();
    let ended = instance
        .docker("inspect -f {{.State.Status}}/{{.State.ExitCode}} walk")
        .ok();
    assert_eq!(
        ended, "exited/0\n",
        "the app ended by itself when it was told to; it was not killed"
    );
    TcpListener::bind(("0.0.0.0", port)).expect("the published port is free again");
    lacks(&instance.docker("ps").ok(), "walk");
    holds(&instance.docker("ps -a").ok(), "Exited (0)");

    instance.docker("start walk").ok();
    assert_eq!(
        instance.fetch(&format!("http://127.0.0.1:{port}/healthz")),
        "ok\n"
    );
    instance.docker("rm walk").fails(1);
    instance.docker("rm -f walk").ok();
    lacks(&instance.docker("ps -a --format {{.Names}}").ok(), "walk");
    holds(
        &instance.docker("logs walk").fails(1),
        "No such container: walk",
    );
}

pub fn a_port_of_one_loopback_address_is_of_no_other() {
    if !std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|table| table.contains(" lo")) {
        return;
    }
    let instance = shared();
    let _containers = Containers(&instance, "four six");
    let port = free_port();
    for (name, address) in [("four", "127.0.0.1"), ("six", "[::1]")] {
        let program = format!("echo {name} > /tmp/who; exec httpd -f -p 80 -h /tmp");
        let publish = format!("-p {address}:{port}:80 busybox:static");
        let run = format!("run -d --name {name} {publish} sh -c '{program}'");
        instance.docker(&run).ok();
        // the same port again is refused at once, whoever asks
        let again = format!("run --rm {publish} true");
        holds(
            &instance.docker(&again).fails(125),
            "address already in use",
        );
    }
    for (name, address) in [("four", "127.0.0.1"), ("six", "[::1]")] {
        let answer = instance.fetch(&format!("http://{address}:{port}/who"));
        assert_eq!(answer.trim(), name);
    }
    let inspected = instance
        .docker("inspect -f '{{json .NetworkSettings.Ports}}' six")
        .ok();
    holds(&inspected, "\"HostIp\":\"::1\"");
    instance.docker("rm -f six").ok();
    TcpListener::bind(("::1", port)).expect("free again, while the other is held");
    TcpListener::bind(("127.0.0.1", port)).expect_err("held");
}

pub fn run_hands_through_the_exit_code() {
    let instance = shared();
    for (command, code) in [
        ("true", 0),
        ("sh -c 'exit 3'", 3),
        ("/etc/passwd", 126),
        ("no-such-program", 127),
    ] {
        instance
            .docker(&format!(
                "run --rm --label code={code} busybox:static {command}"
            ))
            .fails(code);
        eventually("an automatic removal", || {
            let left = instance
                .docker(&format!("ps -aq --filter label=code={code}"))
                .ok();
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    }
    let said = instance
        .docker("run --rm -i busybox:static sh -c 'cat; echo err >&2'")
        .stdin("in\n")
        .ran();
    assert_eq!(
        (said.stdout.as_str(), said.stderr.as_str()),
        ("in\n", "err\n"),
        "{said}"
    );
    let environment = "run --rm -e COLOUR=green -w /tmp -h somewhere busybox:static sh -c 'echo $COLOUR $PWD $(hostname) $$'";
    assert_eq!(
        instance.docker(environment).ok(),
        "green /tmp somewhere 1\n"
    );
}

pub fn refusals_come_at_once_and_leave_nothing() {
    let instance = shared();
    let _containers = Containers(&instance, "refused");

    instance
        .docker("run -d --name refused busybox:static sleep 1000")
        .ok();
    let again = instance
        .docker("run -d --name refused busybox:static sleep 1000")
        .fails(125);
    holds(
        &again,
        "Conflict. The container name \"/refused\" is already in use by container",
    );

    let somebody = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = somebody.local_addr().expect("an address").port();
    let taken = instance
        .docker(&format!(
            "run --rm -d --label case=taken -p {port}:80 busybox:static sleep 1000"
        ))
        .fails(125);
    holds(&taken, &port.to_string());
    assert!(
        taken.contains("address already in use") || taken.contains("already allocated"),
        "{taken}"
    );
    eventually("nothing left of a container whose port is taken", || {
        let left = instance.docker("ps -aq --filter label=case=taken").ok();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });

    // a port nobody listens on: the registry cannot be reached
    let missing = instance
        .docker("run --rm --label case=missing 127.0.0.1:1/none:1 true")
        .fails(125);
    holds(&missing, "127.0.0.1:1/none");
    assert_eq!(
        instance.docker("ps -aq --filter label=case=missing").ok(),
        ""
    );
    holds(
        &instance.docker("rmi no-such-image").fails(1),
        "No such image: no-such-image",
    );
    holds(&instance.docker("rmi busybox:static").fails(1), "conflict");
}

pub fn paused_and_let_go_on() {
    let instance = shared();
    let _containers = Containers(&instance, "sleeper");
    let inspect = |field: &str| {
        instance
            .docker(&format!("inspect -f {{{{{field}}}}} sleeper"))
            .ok()
    };
    instance.docker("run -d --name sleeper busybox:static sh -c 'trap exit TERM; while :; do date +%s%N > /now; sleep 0.1; done'").ok();
    instance.docker("pause sleeper").ok();
    assert_eq!(inspect(".State.Status"), "paused\n");
    assert_eq!(inspect(".State.Paused"), "true\n");
    holds(
        &instance.docker("ps --filter status=paused").ok(),
        "(Paused)",
    );
    holds(
        &instance.docker("pause sleeper").fails(1),
        "is already paused",
    );
    holds(
        &instance.docker("exec sleeper true").fails(1),
        "is paused, unpause the container before exec",
    );
    let now = || instance.docker("cp sleeper:/now -").ok();
    let before = now();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(now(), before, "nothing happens in it");
    instance.docker("unpause sleeper").ok();
    assert_eq!(inspect(".State.Status"), "running\n");
    instance.docker("exec sleeper true").ok();
    holds(
        &instance.docker("unpause sleeper").fails(1),
        "is not paused",
    );
    // one that is paused can be stopped
    instance.docker("pause sleeper").ok();
    instance.docker("stop -t 30 sleeper").ok();
    assert_eq!(inspect(".State.Status"), "exited\n");
    holds(&instance.docker("pause sleeper").fails(1), "is not running");
}

pub fn devices_are_given_and_limits_and_policy_change() {
    let instance = shared();
    let _containers = Containers(&instance, "given");
    // of no driver: who may open it is told so, who may not is told that instead
    let device = Root::scratch().join("device");
    Run::new("mknod", &format!("{} c 300 7", device.display())).ok();
    let until = "sh -c 'until [ -e /end ]; do sleep 0.1; done; exit 3'";
    instance
        .docker(&format!(
            "run -d --name given --device {}:/dev/mine:r -m 64m --memory-swap 64m --pids-limit 50 busybox:static {until}",
            device.display()
        ))
        .ok();
    holds(
        &instance.docker("exec given head -c 1 /dev/mine").fails(1),
        "No such device",
    );
    holds(
        &instance
            .docker("exec given sh -c 'echo x > /dev/mine'")
            .fails(1),
        "Operation not permitted",
    );
    let refused = instance
        .docker("run --rm --device /dev/plim-none busybox:static true")
        .fails(127);
    holds(
        &refused,
        "error gathering device information while adding custom device \"/dev/plim-none\": no such file or directory",
    );
    instance
        .docker("run --rm --ipc=none busybox:static sh -c '! grep /dev/shm /proc/mounts && ! test -e /dev/shm'")
        .ok();

    let limits = || {
        let read = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes \
            /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; true";
        instance.docker(&format!("exec given sh -c '{read}'")).ok()
    };
    assert_eq!(limits(), "67108864\n50\n");
    instance
        .docker("update -m 96m --memory-swap 96m --cpus 0.5 --pids-limit 20 --restart on-failure:2 given")
        .ok();
    assert_eq!(limits(), "100663296\n20\n");
    let shown = instance
        .docker("inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.RestartPolicy.Name}}' given")
        .ok();
    assert_eq!(shown, "100663296 500000000 on-failure\n");
    holds(
        &instance.docker("update --cpu-quota 5000 given").fails(1),
        "CPU Quota cannot be updated as NanoCPUs has already been set",
    );
    instance.docker("exec given touch /end").ok();
    eventually("it was started twice more", || {
        let said = instance
            .docker("inspect -f '{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}' given")
            .ok();
        if said == "2 exited 3\n" {
            Ok(())
        } else {
            Err(said)
        }
    });
}

pub fn limits_bind() {
    let instance = shared();
    let _containers = Containers(&instance, "eater");
    // tail keeps a line in memory, and this one never ends
    instance
        .docker("run --name eater -m 16m busybox:static tail /dev/zero")
        .fails(137);
    assert_eq!(
        instance
            .docker("inspect -f {{.State.OOMKilled}} eater")
            .ok(),
        "true\n"
    );

    let forks = instance.docker("run --rm --pids-limit 8 busybox:static sh -c 'for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done'").ran();
    holds(&forks.stderr, "can't fork");
    // a tenth of a CPU, and it wants all
    instance
        .docker("run -d --name busy --label case=busy --cpus 0.1 busybox:static sh -c 'while :; do :; done'")
        .ok();
    eventually("the kernel throttles it", || {
        // v1 has it in a directory of its own
        let said = instance
            .docker("exec busy sh -c 'cat /sys/fs/cgroup/cpu.stat /sys/fs/cgroup/cpu*/cpu.stat 2>/dev/null'")
            .ran()
            .stdout;
        let times = said
            .lines()
            .find_map(|line| line.strip_prefix("nr_throttled "));
        if times.is_some_and(|times| times != "0") {
            Ok(())
        } else {
            Err(said)
        }
    });
    instance.docker("rm -f busy").ok();
    let read_only = instance
        .docker("run --rm --read-only busybox:static touch /x")
        .fails(1);
    holds(&read_only, "Read-only file system");
    // isolation that is on by default
    holds(
        &instance
            .docker("run --rm busybox:static mount -t tmpfs none /mnt")
            .ran()
            .stderr,
        "ermi",
    );
    assert_eq!(
        instance
            .docker("run --rm --network none busybox:static sh -c 'ls /sys/class/net'")
            .ok(),
        "lo\n"
    );
}
