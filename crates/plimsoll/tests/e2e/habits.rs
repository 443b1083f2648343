//! What people with Docker habits, and their programs, rely on beyond the plain way.

use crate::support::{Root, Run, eventually, holds, with_images};

/// A filter that is not understood would have others' containers deleted.
pub fn filters_mean_what_they_say() {
    let instance = with_images();
    let docker = |arguments: &str| instance.docker(arguments);
    for (name, labels) in [
        ("one", "-l a=1 -l b=2"),
        ("two", "-l a=1"),
        ("three", "-l c"),
    ] {
        let command = format!("run --name {name} {labels} busybox:static true");
        docker(&command).ok();
    }
    docker("run -d --name four -p 127.0.0.1::80 busybox:static sleep 1000").ok();
    let names = |filters: &str| {
        let said = docker(&format!("ps -a --format '{{{{.Names}}}}' {filters}")).ok();
        let mut names: Vec<String> = said.lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    for (filters, expected) in [
        ("-f label=a=1 -f label=b=2", "one"),
        ("-f label=a=1", "one two"),
        ("-f label=a -f label=c", ""),
        ("-f name=^/?one$", "one"),
        ("-f name=^on$", ""),
        ("-f name=o", "four one two"),
        ("-f before=two", "one"),
        ("-f since=two", "four three"),
        ("-f ancestor=busybox:static -f status=running", "four"),
        ("-f ancestor=nothing", ""),
        ("-f publish=80", "four"),
        ("-f publish=81", ""),
        ("-f id=nothing", ""),
    ] {
        assert_eq!(names(filters), expected, "{filters}");
    }
    holds(
        &docker("ps -f colour=red").fails(1),
        "invalid filter 'colour'",
    );
    holds(
        &docker("ps -a -f before=nobody").fails(1),
        "No such container",
    );

    docker("container prune -f --filter until=24h").ok();
    docker("container prune -f --filter label=b=2 --filter label=c").ok();
    assert_eq!(names(""), "four one three two", "none of them was meant");
    docker("container prune -f --filter label!=a").ok();
    assert_eq!(names(""), "four one two");
    docker("container prune -f --filter label=b").ok();
    assert_eq!(names(""), "four two");
    holds(
        &docker("container prune -f --filter colour=red").fails(1),
        "invalid filter 'colour'",
    );

    docker("build -q -t old:1 -")
        .stdin("FROM busybox:static\nLABEL keep=yes\n")
        .ok();
    docker("image prune -af --filter label!=keep --filter until=24h").ok();
    let listed = |reference: &str| {
        let command = format!("images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' {reference}");
        docker(&command).ok().trim().to_owned()
    };
    assert_eq!(listed("old"), "old:1");
    assert_eq!(listed("-f reference=busy*"), "busybox:static");
    assert_eq!(listed("-f reference=*:1"), "old:1");
    docker("tag old:1 localhost:5000/team/app:1").ok();
    assert_eq!(
        listed("localhost:5000/team/app"),
        "localhost:5000/team/app:1"
    );
    // the cache of the build above outlives a filter that spares it
    docker("builder prune -f --filter until=24h").ok();
    let cached = docker("build -t old:2 -")
        .stdin("FROM busybox:static\nLABEL keep=yes\n")
        .ok();
    holds(&cached, "Using cache");
    holds(
        &docker("builder prune -f --filter colour=red").fails(1),
        "invalid filter 'colour'",
    );
    docker("system prune -f").ok();
    docker("builder prune -f").ok();
    docker("network prune -f").ok();
    assert_eq!(names(""), "four");
    docker("rm -f four").ok();
    instance.purge();
}

/// What is asked to end ends, what is restarted goes on, and nobody is cut off.
pub fn ends_and_beginnings() {
    let instance = with_images();
    let docker = |arguments: &str| instance.docker(arguments);
    let state = |name: &str| {
        let ran = docker(&format!("inspect -f '{{{{.State.Status}}}}' {name}")).ran();
        ran.stdout.trim().to_owned()
    };
    // between two attempts
    docker("run -d --name failing --restart always busybox:static false").ok();
    eventually("it is tried more and more seldom", || {
        let count = docker("inspect -f '{{.RestartCount}}' failing").ok();
        match count.trim().parse::<u32>() {
            Ok(count) if count >= 3 => Ok(()),
            _ => Err(count),
        }
    });
    docker("stop failing").ok();
    let count = docker("inspect -f '{{.RestartCount}}' failing").ok();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(docker("inspect -f '{{.RestartCount}}' failing").ok(), count);
    assert_eq!(state("failing"), "exited");
    docker("rm failing").ok();
    // a signal by hand
    let script = "trap \"exit 0\" TERM; while :; do sleep 0.1; done";
    let run = format!("run -d --name asked --restart always busybox:static sh -c '{script}'");
    docker(&run).ok();
    docker("exec asked true").ok();
    docker("kill -s TERM asked").ok();
    eventually("it has ended", || match &*state("asked") {
        "exited" => Ok(()),
        other => Err(other.to_owned()),
    });
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(state("asked"), "exited");
    docker("rm asked").ok();
    // one that would be removed at its end
    docker("run -d --rm --name fleeting busybox:static sleep 1000").ok();
    docker("restart -t 0 fleeting").ok();
    assert_eq!(state("fleeting"), "running");
    // commands that are not there, and one that nobody listens to
    let ran = docker("exec fleeting no-such-command").ran();
    assert_eq!(ran.code, 127, "{ran}");
    holds(&ran.both(), "OCI runtime exec failed");
    let chatty = "i=0; while [ $i -lt 20 ]; do echo $i; i=$((i+1)); sleep 0.05; done; touch /done";
    docker(&format!("exec -d fleeting sh -c '{chatty}'")).ok();
    eventually("it has said all", || {
        let ran = docker("exec fleeting test -e /done").ran();
        if ran.code == 0 { Ok(()) } else { Err(ran) }
    });
    docker("rm -f fleeting").ok();
    // a reader that takes its time
    let slow = "-c 'docker run --rm busybox:static seq 1 1000000 | (sleep 12; wc -l)'";
    let socket = instance.run_dir().join("docker.sock");
    let counted = Run::new("sh", slow)
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .env("HOME", Root::home())
        .ok();
    assert_eq!(counted.trim(), "1000000");
    // settings of its own kernel namespaces
    let run =
        "run --rm --sysctl net.core.somaxconn=77 busybox:static cat /proc/sys/net/core/somaxconn";
    assert_eq!(docker(run).ok(), "77\n");
    // this machine, as containers name it
    let hosts = "run --rm --add-host there:host-gateway busybox:static cat /etc/hosts";
    holds(&docker(hosts).ok(), &format!("{}\tthere", instance.gateway));
    instance.purge();
}

/// What programs look for in the words of a build.
pub fn a_build_says_what_it_made() {
    let instance = with_images();
    let said = instance
        .docker("build -t said:1 -")
        .stdin("FROM busybox:static\nLABEL said=yes\n")
        .ok();
    let id = instance.docker("inspect -f '{{.Id}}' said:1").ok();
    let short = &id.trim_start_matches("sha256:")[..12];
    holds(
        &said,
        &format!("Successfully built {short}\nSuccessfully tagged said:1"),
    );
    instance.purge();
}

/// By the image's check, by one's own, and by none.
pub fn health_is_checked_and_told() {
    let instance = with_images();
    let docker = |arguments: &str| instance.docker(arguments);
    docker("build -q -t checked:1 -")
        .stdin("FROM busybox:static\nHEALTHCHECK --interval=1s --retries=2 CMD cat /tmp/well\nCMD [\"sleep\", \"1000\"]\n")
        .ok();
    let health = |name: &str| {
        let ran = docker(&format!("inspect -f '{{{{.State.Health.Status}}}}' {name}")).ran();
        ran.stdout.trim().to_owned()
    };
    let becomes = |name: &str, wanted: &str| {
        eventually(&format!("{name} is {wanted}"), || match health(name) {
            now if now == wanted => Ok(()),
            other => Err(other),
        });
    };
    docker("run -d --name image checked:1").ok();
    docker("run -d --name own --health-cmd true --health-interval 1s checked:1").ok();
    docker("run -d --name slow --health-cmd 'sleep 1000' --health-interval 1s --health-timeout 1s --health-retries 1 checked:1").ok();
    docker("run -d --name none --no-healthcheck checked:1").ok();
    becomes("image", "unhealthy");
    let log = docker("inspect -f '{{(index .State.Health.Log 0).Output}}' image").ok();
    holds(&log, "/tmp/well");
    docker("exec image touch /tmp/well").ok();
    becomes("image", "healthy");
    becomes("own", "healthy");
    becomes("slow", "unhealthy");
    let log = docker("inspect -f '{{(index .State.Health.Log 0).Output}}' slow").ok();
    holds(&log, "Health check exceeded timeout");
    let count = docker("exec slow sh -c 'ps | grep -c \"[s]leep 1000\"'").ok();
    assert!(
        count.trim().parse::<u32>().is_ok_and(|count| count <= 2),
        "{count}"
    );
    assert_eq!(
        docker("inspect -f '{{.State.Health}}' none").ok(),
        "<nil>\n"
    );
    let names = |filter: &str| {
        let said = docker(&format!("ps --format '{{{{.Names}}}}' -f health={filter}")).ok();
        let mut names: Vec<String> = said.lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(names("healthy"), "image own");
    assert_eq!(names("unhealthy"), "slow");
    assert_eq!(names("none"), "none");
    holds(&docker("ps -f name=^own$").ok(), "(healthy)");
    // found again by another daemon
    instance.kill_daemon();
    instance.plimsoll("up").ok();
    becomes("own", "healthy");
    docker("rm -f image own slow none").ok();
    instance.purge();
}

/// What somebody has named is theirs, also when the name was invented for them.
pub fn volumes_go_only_with_who_they_were_made_for() {
    let instance = with_images();
    let docker = |arguments: &str| instance.docker(arguments);
    let volumes = || docker("volume ls -q").ok();
    // a volume for two steps of a pipeline
    let made = docker("volume create").ok().trim().to_owned();
    let step = |command: &str| {
        docker(&format!(
            "run --rm -v {made}:/out busybox:static sh -c '{command}'"
        ))
    };
    step("echo built >/out/file").ok();
    assert_eq!(step("cat /out/file").ok(), "built\n");
    // data of a container that has gone
    let command = "sh -c 'echo data >/d/file; sleep 1000'";
    docker(&format!("run -d --name db -v /d busybox:static {command}")).ok();
    let of_db = "inspect db --format '{{(index .Mounts 0).Name}}'";
    let left = docker(of_db).ok().trim().to_owned();
    docker("rm -f db").ok();
    docker(&format!("run --rm -v {left}:/d busybox:static true")).ok();
    assert!(volumes().contains(&left), "{}", volumes());
    // lent ones go with the last that has them, others with their own
    docker("run -d --name lender -v /d busybox:static sleep 1000").ok();
    docker("run -d --name borrower --volumes-from lender busybox:static sleep 1000").ok();
    let lent = docker("inspect lender --format '{{(index .Mounts 0).Name}}'").ok();
    docker("rm -fv lender").ok();
    assert!(volumes().contains(lent.trim()), "the borrower has it");
    docker("rm -fv borrower").ok();
    assert!(!volumes().contains(lent.trim()), "{}", volumes());
    docker("run --rm -v /own busybox:static true").ok();
    let both = volumes();
    let mut both: Vec<&str> = both.lines().collect();
    both.sort_unstable();
    let mut expected = [made.as_str(), left.as_str()];
    expected.sort_unstable();
    assert_eq!(both, expected);
    for name in expected {
        docker(&format!("volume rm {name}")).ok();
    }
}

/// What is mounted in a directory is not given along where that is asked for.
pub fn binds_without_what_is_mounted_in_them() {
    let instance = with_images();
    let host = Root::scratch();
    let disk = host.join("disk");
    std::fs::create_dir(&disk).expect("made");
    let mount = |arguments: &[&str]| {
        let done = std::process::Command::new(arguments[0])
            .args(&arguments[1..])
            .status();
        assert!(done.expect("run").success(), "{arguments:?}");
    };
    let place = disk.display().to_string();
    mount(&["mount", "-t", "tmpfs", "plimsoll-test", &place]);
    std::fs::write(disk.join("file"), "x").expect("written");
    let seen = |more: &str| {
        let mount = format!("--mount type=bind,src={},dst=/host{more}", host.display());
        instance
            .docker(&format!("run --rm {mount} busybox:static ls /host/disk"))
            .ran()
            .stdout
    };
    let (all, without) = (seen(""), seen(",bind-nonrecursive=true"));
    mount(&["umount", &place]);
    assert_eq!((all.as_str(), without.as_str()), ("file\n", ""));
}
