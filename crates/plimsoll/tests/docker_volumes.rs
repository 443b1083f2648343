//! Volumes by the unmodified docker command: binds, named and anonymous volumes, tmpfs, what is borrowed, and what is refused.
#![forbid(unsafe_code)]

#[path = "e2e/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

use std::path::Path;

use support::{Instance, Root, Run, eventually, holds, lacks};

#[test]
fn volumes_by_the_docker_command() {
    let root = Root::make();
    let outcome = std::panic::catch_unwind(|| {
        let instance = support::with_images();
        build(&instance);
        let scenarios: &[fn(&Instance)] = &[
            binds,
            named_volumes,
            anonymous_volumes,
            memory,
            borrowed_and_read_only,
            refusals,
            crashes,
        ];
        for scenario in scenarios {
            scenario(&instance);
        }
        instance.purge();
    });
    let left = root.clean();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    assert!(left.is_empty(), "{left:?}");
}

/// An image with something in the place of its volume.
fn build(instance: &Instance) {
    let context = Root::scratch();
    std::fs::write(
        context.join("Dockerfile"),
        "FROM busybox:static\nRUN mkdir -p /srv/deep && echo image > /srv/deep/file && chmod 1770 /srv && chown 7:8 /srv\nVOLUME /srv\n",
    )
    .expect("written");
    instance
        .docker(&format!("build -q -t with-volume {}", context.display()))
        .ok();
}

fn volumes(instance: &Instance) -> Vec<String> {
    let text = instance.docker("volume ls -q").ok();
    text.lines().map(str::to_owned).collect()
}

fn binds(instance: &Instance) {
    let home = Root::scratch();
    std::fs::write(home.join("file"), "host").expect("written");
    let run = |mounts: &str, script: &str| {
        instance.docker(&format!(
            "run --rm {mounts} busybox:static sh -c '{script}'"
        ))
    };
    let path = home.display();
    assert_eq!(
        run(
            &format!("-v {path}:/data"),
            "cat /data/file; echo new > /data/new"
        )
        .ok(),
        "host"
    );
    assert_eq!(
        std::fs::read_to_string(home.join("new")).expect("there"),
        "new\n"
    );
    holds(
        &run(&format!("-v {path}:/data:ro"), "touch /data/x").fails(1),
        "Read-only file system",
    );
    holds(
        &run(
            &format!("--mount type=bind,src={path},dst=/data,readonly"),
            "touch /data/x",
        )
        .fails(1),
        "Read-only file system",
    );
    assert_eq!(
        run(&format!("-v {path}/file:/one"), "cat /one").ok(),
        "host",
        "a single file"
    );
    // a source that is missing is made for -v, and refused for --mount
    run(&format!("-v {path}/made/here:/data"), "touch /data/x").ok();
    assert!(home.join("made/here/x").exists());
    holds(
        &run(
            &format!("--mount type=bind,src={path}/absent,dst=/data"),
            "true",
        )
        .fails(125),
        "bind source path does not exist",
    );
    assert!(!home.join("absent").exists());
    // what is mounted later is seen by who asked for it
    let shared = home.join("shared");
    std::fs::create_dir(&shared).expect("made");
    let mounts = Mounts::new(&shared);
    instance
        .docker(&format!(
            "run -d --name sees -v {}:/data:rslave busybox:static sleep 1000",
            shared.display()
        ))
        .ok();
    instance
        .docker(&format!(
            "run -d --name blind -v {}:/data busybox:static sleep 1000",
            shared.display()
        ))
        .ok();
    mounts.tmpfs(&shared.join("late"));
    std::fs::write(shared.join("late/file"), "x").expect("written");
    instance.docker("exec sees cat /data/late/file").ok();
    instance.docker("exec blind cat /data/late/file").fails(1);
    let shown = instance
        .docker("inspect -f '{{range .Mounts}}{{.Type}} {{.Propagation}} {{.RW}}{{end}}' sees")
        .ok();
    assert_eq!(shown, "bind rslave true\n");
    instance.docker("rm -f sees blind").ok();
}

/// A shared mount point with what is mounted in it, as long as it is held.
struct Mounts(std::path::PathBuf);

impl Mounts {
    fn new(path: &Path) -> Self {
        Run::new(
            "mount",
            &format!("-t tmpfs plimsoll-test {}", path.display()),
        )
        .ok();
        let made = Self(path.to_owned());
        Run::new("mount", &format!("--make-shared {}", path.display())).ok();
        std::fs::create_dir(path.join("late")).expect("made");
        made
    }

    fn tmpfs(&self, path: &Path) {
        Run::new(
            "mount",
            &format!("-t tmpfs plimsoll-test {}", path.display()),
        )
        .ok();
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = Run::new("umount", &format!("-R -l {}", self.0.display())).ran();
    }
}

fn named_volumes(instance: &Instance) {
    assert_eq!(
        instance.docker("volume create --label a=b plain").ok(),
        "plain\n"
    );
    let shown = instance
        .docker("volume inspect -f '{{.Driver}} {{.Scope}} {{.Labels.a}}' plain")
        .ok();
    assert_eq!(shown, "local local b\n");
    holds(
        &instance.docker("volume ls --filter label=a=b").ok(),
        "plain",
    );
    lacks(
        &instance.docker("volume ls --filter label=a=c").ok(),
        "plain",
    );
    // a new volume gets what the image has in its place, with the owner and rights of the directory
    let of = |volume: &str, script: &str| {
        instance.docker(&format!(
            "run --rm -v {volume} with-volume sh -c '{script}'"
        ))
    };
    assert_eq!(
        of(
            "fresh:/srv",
            "cat /srv/deep/file; stat -c %u:%g:%a /srv; echo mine > /srv/deep/file"
        )
        .ok(),
        "image\n7:8:1770\n"
    );
    assert_eq!(
        of("fresh:/srv", "cat /srv/deep/file").ok(),
        "mine\n",
        "once"
    );
    assert_eq!(of("bare:/srv:nocopy", "ls /srv").ok(), "");
    assert_eq!(of("fresh:/other:ro", "cat /other/deep/file").ok(), "mine\n");
    // it stays with whoever uses it
    instance
        .docker("create --name user -v fresh:/srv busybox:static true")
        .ok();
    let used = instance.docker("volume rm fresh").fails(1);
    holds(&used, "volume is in use");
    lacks(&instance.docker("volume prune -a -f").ok(), "fresh");
    holds(
        &instance.docker("volume ls --filter dangling=false").ok(),
        "fresh",
    );
    instance.docker("rm -v user").ok();
    assert!(
        volumes(instance).contains(&"fresh".to_owned()),
        "named volumes stay"
    );
    assert_eq!(volumes(instance), ["fresh"], "prune took the others");
    instance.docker("volume rm fresh").ok();
    holds(
        &instance.docker("volume rm fresh").fails(1),
        "no such volume",
    );
    assert_eq!(volumes(instance), [""; 0]);
}

fn anonymous_volumes(instance: &Instance) {
    instance.docker("run --rm with-volume true").ok();
    eventually("--rm takes it along", || {
        let left = volumes(instance);
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(" "))
        }
    });
    instance
        .docker("run --name once -v /more with-volume sh -c 'cat /srv/deep/file; touch /more/x'")
        .ok();
    assert_eq!(volumes(instance).len(), 2, "the image's and the user's");
    let shown = instance
        .docker("inspect -f '{{range .Mounts}}{{.Type}} {{.Destination}} {{end}}' once")
        .ok();
    assert_eq!(shown.trim(), "volume /more volume /srv");
    instance.docker("rm -v once").ok();
    assert_eq!(volumes(instance), [""; 0]);
    instance.docker("run --name once with-volume true").ok();
    instance.docker("volume create named").ok();
    instance.docker("rm once").ok();
    assert_eq!(volumes(instance).len(), 2, "without -v it stays");
    instance.docker("volume prune -f").ok();
    assert_eq!(
        volumes(instance),
        ["named"],
        "prune leaves what somebody named"
    );
    instance.docker("volume prune -a -f").ok();
    assert_eq!(volumes(instance), [""; 0]);
}

fn memory(instance: &Instance) {
    let run = |mounts: &str, script: &str| {
        instance.docker(&format!(
            "run --rm {mounts} busybox:static sh -c '{script}'"
        ))
    };
    let options = run(
        "--tmpfs /fast:size=1m,mode=1770",
        "grep /fast /proc/mounts; stat -c %a /fast",
    )
    .ok();
    for part in ["tmpfs", "size=1024k", "noexec", "nosuid", "nodev", "1770\n"] {
        holds(&options, part);
    }
    holds(
        &run(
            "--mount type=tmpfs,dst=/fast,tmpfs-size=1048576",
            "dd if=/dev/zero of=/fast/x bs=1M count=2",
        )
        .fails(1),
        "No space left on device",
    );
    lacks(
        &run("--tmpfs /fast:exec", "grep /fast /proc/mounts").ok(),
        "noexec",
    );
    holds(
        &run("--tmpfs /fast:loud", "true").fails(125),
        "invalid tmpfs option",
    );
}

fn borrowed_and_read_only(instance: &Instance) {
    instance
        .docker("create --name lender -v lent:/data -v /anonymous busybox:static true")
        .ok();
    instance
        .docker("run --rm --volumes-from lender busybox:static sh -c 'echo x > /data/file; echo y > /anonymous/file'")
        .ok();
    assert_eq!(
        instance.docker("run --rm --volumes-from lender:ro busybox:static sh -c 'cat /data/file /anonymous/file; touch /data/x || echo no'").ran().stdout,
        "x\ny\nno\n"
    );
    holds(
        &instance
            .docker("run --rm --volumes-from nobody busybox:static true")
            .fails(125),
        "No such container",
    );
    instance.docker("rm -v lender").ok();
    assert_eq!(volumes(instance), ["lent"]);
    instance.docker("volume rm lent").ok();
    // a root that can only be read, with places that can be written
    let said = instance
        .docker("run --rm --read-only --tmpfs /tmp -v /data busybox:static sh -c 'touch /x; touch /tmp/x /data/x && echo written'")
        .ran()
        .both();
    holds(&said, "Read-only file system");
    holds(&said, "written");
    eventually("--rm takes it along", || {
        let left = volumes(instance);
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(" "))
        }
    });
}

fn refusals(instance: &Instance) {
    let create = |mounts: &str| {
        instance
            .docker(&format!("create {mounts} busybox:static true"))
            .fails(1)
    };
    for (mounts, why) in [
        ("-v a/b:/data", "includes invalid characters"),
        ("-v /a:/data:loud", "invalid mode"),
        ("-v /a:/", "destination can"),
        ("-v /a:/x -v /b:/x", "Duplicate mount point: /x"),
        (
            "--mount type=volume,dst=/x,volume-driver=nfs",
            "plugin not found",
        ),
        (
            "--mount type=volume,dst=/x,volume-opt=type=nfs",
            "not supported",
        ),
    ] {
        let said = create(mounts);
        holds(&said, why);
    }
    holds(
        &instance.docker("volume create --driver nfs x").fails(1),
        "plugin not found",
    );
    holds(
        &instance.docker("volume create -o type=nfs x").fails(1),
        "not supported",
    );
    holds(
        &instance.docker("volume create a/b").fails(1),
        "includes invalid characters",
    );
    assert_eq!(volumes(instance), [""; 0], "a refusal leaves nothing");
    assert_eq!(instance.docker("ps -aq").ok(), "");
}

/// A daemon that is killed forgets no volume and keeps no mount.
fn crashes(instance: &Instance) {
    instance
        .docker("run -d --name stays -v kept:/data --tmpfs /fast with-volume sh -c 'echo x > /data/file; sleep 1000'")
        .ok();
    kill_daemon(instance);
    instance.plimsoll("up").ok();
    eventually("the file", || {
        let ran = instance.docker("exec stays cat /data/file").ran();
        if ran.stdout == "x\n" {
            Ok(())
        } else {
            Err(ran)
        }
    });
    holds(
        &instance.docker("volume rm kept").fails(1),
        "volume is in use",
    );
    instance.docker("rm -f -v stays").ok();
    assert_eq!(volumes(instance), ["kept"]);
}

/// kill -9; returns when the process is gone, so that `up` does not take it for a running one.
fn kill_daemon(instance: &Instance) {
    let pid = instance.daemon_pid();
    let process = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .expect("a pid");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("killed");
    eventually("the end of the daemon", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // a zombie has ended
        match stat.is_empty() || stat.contains(") Z ") {
            true => Ok(()),
            false => Err(stat),
        }
    });
}
