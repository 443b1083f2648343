//! exec and attach: input, output, terminals, exit codes.

mod common;

use common::{World, eventually};
use engine::*;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

fn exec(argv: &[&str]) -> ExecSpec {
    ExecSpec {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        ..ExecSpec::default()
    }
}

/// All output and the exit.
async fn finish(mut process: Process) -> (i32, String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(piece) = process.output.recv().await {
        match piece {
            Output::Stdout(bytes) => stdout.extend(bytes),
            Output::Stderr(bytes) => stderr.extend(bytes),
        }
    }
    let exit = process.wait().await.expect("wait");
    (
        exit.code,
        String::from_utf8_lossy(&stdout).into_owned(),
        String::from_utf8_lossy(&stderr).into_owned(),
    )
}

async fn sleeper(world: &common::Session) {
    world.sandbox("plim-s").await;
    let mut spec = world.spec("plim-s", "plim-c", &["sleep", "1000"]);
    spec.env = vec!["A=1".into(), "B=2".into()];
    spec.cwd = "/srv".into();
    world.start(spec).await;
}

#[test]
fn exec_has_the_containers_world_and_its_own_exit_code() {
    World::run(async |world| {
        sleeper(&world).await;
        let process = world
            .engine
            .exec(
                "plim-c",
                exec(&["sh", "-c", "echo out; echo err >&2; exit 9"]),
            )
            .await
            .expect("exec");
        assert_eq!(finish(process).await, (9, "out\n".into(), "err\n".into()));
        let script = "echo $A $B $HOME; pwd; id -u; grep -E '^(Seccomp|CapBnd):' /proc/self/status; cat /proc/1/cmdline; ls /proc/self/fd | wc -l; \
            for n in pid mnt ipc uts net; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n differs; done; \
            grep -c plim-c /proc/self/cgroup || true";
        let spec = ExecSpec {
            env: vec!["B=3".into()],
            ..exec(&["sh", "-c", script])
        };
        let (code, stdout, stderr) =
            finish(world.engine.exec("plim-c", spec).await.expect("exec")).await;
        assert_eq!((code, stderr.as_str()), (0, ""));
        let hierarchies = std::fs::read_to_string("/proc/self/cgroup")
            .expect("cgroup")
            .lines()
            .filter(|line| !line.starts_with("0:"))
            .count();
        let expected = format!(
            "1 3 /root\n/srv\n0\nCapBnd:\t00000000a80425fb\nSeccomp:\t2\nsleep\x001000\x004\n{hierarchies}\n"
        );
        assert_eq!(stdout, expected);
        let spec = ExecSpec {
            user: "web".into(),
            cwd: "/tmp".into(),
            ..exec(&["sh", "-c", "id -u; id -G; pwd; echo $HOME"])
        };
        let (_, stdout, _) = finish(world.engine.exec("plim-c", spec).await.expect("exec")).await;
        assert_eq!(stdout, "1000\n1000 2000\n/tmp\n/srv\n");
    });
}

#[test]
fn exec_carries_input_and_much_output() {
    World::run(async |world| {
        sleeper(&world).await;
        let spec = ExecSpec {
            stdin: true,
            ..exec(&["cat"])
        };
        let mut process = world.engine.exec("plim-c", spec).await.expect("exec");
        let mut stdin = process.stdin.take().expect("stdin");
        let sent: Vec<u8> = (0..3 << 20)
            .map(|number: u32| (number % 251) as u8)
            .collect();
        let copy = sent.clone();
        tokio::spawn(async move {
            stdin.write_all(&copy).await.expect("write");
            stdin.shutdown().await.expect("end");
        });
        let mut received = Vec::new();
        while let Some(Output::Stdout(bytes)) = process.output.recv().await {
            received.extend(bytes);
        }
        assert!(received == sent, "{} of {}", received.len(), sent.len());
        assert_eq!(process.wait().await.expect("wait").code, 0);
        // Many at once.
        let all = (0..10).map(|number| {
            let engine = world.engine.clone();
            tokio::spawn(async move {
                let process = engine
                    .exec(
                        "plim-c",
                        exec(&["sh", "-c", &format!("echo {number}; exit {number}")]),
                    )
                    .await
                    .expect("exec");
                assert_eq!(
                    finish(process).await,
                    (number, format!("{number}\n"), String::new())
                );
            })
        });
        for task in all.collect::<Vec<_>>() {
            task.await.expect("exec");
        }
    });
}

#[test]
fn exec_with_a_terminal() {
    World::run(async |world| {
        sleeper(&world).await;
        let spec = ExecSpec {
            tty: true,
            stdin: true,
            ..exec(&["sh"])
        };
        let mut process = world.engine.exec("plim-c", spec).await.expect("exec");
        process.resize(123, 45).await.expect("resize");
        let mut stdin = process.stdin.take().expect("stdin");
        stdin
            .write_all(b"tty; stty size; exit 5\n")
            .await
            .expect("type");
        let (code, stdout, _) = finish(process).await;
        assert_eq!(code, 5);
        assert!(
            stdout.contains("/dev/pts/") && stdout.contains("45 123"),
            "{stdout:?}"
        );
    });
}

#[test]
fn exec_says_what_is_wrong() {
    World::run(async |world| {
        sleeper(&world).await;
        for (argv, expected, code) in [
            ("ghost", "executable file not found in $PATH", 127),
            ("/etc", "is a directory", 126),
        ] {
            let error = world
                .engine
                .exec("plim-c", exec(&[argv]))
                .await
                .err()
                .expect("refused");
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.start_code(), Some(code));
        }
        let error = world
            .engine
            .exec(
                "plim-c",
                ExecSpec {
                    user: "ghost".into(),
                    ..exec(&["true"])
                },
            )
            .await
            .err()
            .expect("refused");
        assert!(
            error.to_string().contains("unable to find user ghost"),
            "{error}"
        );
        assert!(matches!(
            world.engine.exec("plim-c", exec(&[])).await,
            Err(Error::Invalid { .. })
        ));
        world
            .engine
            .stop_container("plim-c", None, Duration::ZERO)
            .await
            .expect("stop");
        assert!(matches!(
            world.engine.exec("plim-c", exec(&["true"])).await,
            Err(Error::State { .. })
        ));
    });
}

#[test]
fn who_attaches_before_the_start_misses_nothing() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        let mut spec = world.spec(
            "plim-s",
            "plim-c",
            &["sh", "-c", "echo first; cat; echo last >&2; exit 4"],
        );
        (spec.stdin, spec.stdin_once) = (true, true);
        world.engine.create_container(spec).await.expect("create");
        let mut process = world.engine.attach("plim-c", true).await.expect("attach");
        let mut stdin = process.stdin.take().expect("stdin");
        stdin.write_all(b"typed early\n").await.expect("type");
        world.engine.start_container("plim-c").await.expect("start");
        stdin.write_all(b"typed late\n").await.expect("type");
        stdin.shutdown().await.expect("end");
        let (code, stdout, stderr) = finish(process).await;
        assert_eq!(
            (code, stdout.as_str(), stderr.as_str()),
            (4, "first\ntyped early\ntyped late\n", "last\n")
        );
        assert_eq!(
            world.output("plim-c"),
            "first\ntyped early\ntyped late\nlast\n"
        );
    });
}

#[test]
fn a_container_with_a_terminal_is_attached_to_and_resized() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        let mut spec = world.spec("plim-s", "plim-c", &["sh"]);
        (spec.tty, spec.stdin) = (true, true);
        world.start(spec).await;
        world
            .engine
            .resize_container("plim-c", 90, 30)
            .await
            .expect("resize");
        let mut process = world.engine.attach("plim-c", true).await.expect("attach");
        let other = world
            .engine
            .attach("plim-c", false)
            .await
            .expect("attach twice");
        let mut stdin = process.stdin.take().expect("stdin");
        stdin
            .write_all(b"stty size; readlink /proc/self/fd/0\n")
            .await
            .expect("type");
        eventually("answer", async || {
            world.output("plim-c").contains("/dev/pts/0")
        })
        .await;
        stdin.write_all(b"exit 6\n").await.expect("type");
        let (code, stdout, _) = finish(process).await;
        assert_eq!(code, 6);
        assert!(stdout.contains("30 90"), "{stdout:?}");
        assert_eq!(finish(other).await.0, 6);
    });
}

#[test]
fn someone_attached_who_goes_leaves_the_container_alone() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        world
            .start(world.spec(
                "plim-s",
                "plim-c",
                &["sh", "-c", "while true; do echo tick; sleep 0.02; done"],
            ))
            .await;
        for _ in 0..5 {
            let mut process = world.engine.attach("plim-c", false).await.expect("attach");
            assert!(process.output.recv().await.is_some());
        }
        assert_eq!(
            world
                .engine
                .container("plim-c")
                .await
                .map(|status| status.state),
            Some(State::Running)
        );
    });
}
