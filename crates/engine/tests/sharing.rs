//! Namespaces that are shared: processes and shared memory of a sandbox's containers, of the host, of another container.

mod common;

use common::{World, command, enter, eventually};
use engine::*;
use std::fs;

fn sharing(id: &str, pid: PidNamespace, ipc: IpcNamespace) -> SandboxSpec {
    SandboxSpec {
        id: id.into(),
        pid,
        ipc,
        ..SandboxSpec::default()
    }
}

fn namespace(pid: u32, name: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{name}"))
        .expect("link")
        .display()
        .to_string()
}

#[test]
fn containers_of_a_sandbox_see_each_others_processes() {
    World::run(async |world| {
        for (sandbox, user_namespace) in [("plim-plain", false), ("plim-mapped", true)] {
            let spec = SandboxSpec {
                user_namespace,
                ..sharing(sandbox, PidNamespace::Sandbox, IpcNamespace::Sandbox)
            };
            world.sandbox_with(spec).await;
            let (one, two) = (format!("{sandbox}-1"), format!("{sandbox}-2"));
            let sleeper = "(sleep 4321 &); sleep 1234";
            world
                .start(world.spec(sandbox, &one, &["sh", "-c", sleeper]))
                .await;
            let mut tracer = world.spec(sandbox, &two, &["sleep", "5678"]);
            tracer.security.capabilities_add = vec!["SYS_PTRACE".into(), "DAC_READ_SEARCH".into()];
            world.start(tracer).await;
            let (_, said) = enter(&world, &two, command(&["ps", "-o", "pid,args"])).await;
            for process in ["sleep 1234", "sleep 4321", "sleep 5678"] {
                assert!(said.contains(process), "{process}: {said}");
            }
            let first = said
                .lines()
                .find(|line| line.split_whitespace().next() == Some("1"));
            assert!(
                first.is_some_and(|line| line.trim().ends_with("/pause")),
                "{said}"
            );
            assert!(
                !said.contains(&world.config.run.display().to_string()),
                "{said}"
            );
            let script = "ls /proc/1/fd /proc/1/root; readlink /proc/1/exe; cat /proc/1/environ; echo x > /proc/1/exe; kill -9 1; kill -0 1 && echo alive";
            let (_, said) = enter(&world, &two, command(&["sh", "-c", script])).await;
            assert!(said.contains("alive") && !said.contains("target"), "{said}");
            // Who may trace it finds nothing that it could do.
            let script = "ls -a /proc/1/root/ | tr '\\n' ' '; grep -hE '^(Uid|CapBnd|CapPrm|NoNewPrivs):' /proc/1/status; ls /proc/1/fd | wc -l";
            let (_, said) = enter(&world, &two, command(&["sh", "-c", script])).await;
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            let shrunk = "Uid: 65535 65535 65535 65535 CapPrm: 0000000000000000 CapBnd: 0000000000000000 NoNewPrivs: 1";
            assert!(said.contains(shrunk), "{said}");
            // Without a user namespace it may look, and sees an empty place.
            let (looked, refused) = (
                said.contains(". .. "),
                said.contains("/proc/1/root/: Permission denied"),
            );
            assert!(looked && !user_namespace || refused, "{said}");
            // One that ends takes along what it left running, and nothing of the other.
            let exit = world
                .engine
                .stop_container(
                    &one,
                    Some(libc::SIGKILL),
                    std::time::Duration::from_secs(20),
                )
                .await
                .expect("stop");
            assert_eq!(exit.code, 137);
            eventually("the end of what it left", async || {
                let (_, said) = enter(&world, &two, command(&["ps", "-o", "args"])).await;
                !said.contains("sleep 4321") && said.contains("sleep 5678")
            })
            .await;
            // Zombies are reaped by whoever is the first process.
            let orphan = "(sleep 0.01 & sleep 0.02 &) ; true";
            enter(&world, &two, command(&["sh", "-c", orphan])).await;
            eventually("no zombies", async || {
                let (_, said) = enter(
                    &world,
                    &two,
                    command(&["sh", "-c", "grep -h State /proc/[0-9]*/status"]),
                )
                .await;
                !said.contains('Z')
            })
            .await;
            world
                .engine
                .start_container(&one)
                .await
                .expect("start again");
            let again = Engine::open(world.config.clone()).await.expect("open");
            assert_eq!(
                again.container(&two).await.expect("known").state,
                State::Running
            );
            drop(again);
            world.engine.stop_sandbox(sandbox).await.expect("stop");
        }
        eventually("the end of the first processes", async || {
            !fs::read_dir("/proc")
                .expect("proc")
                .flatten()
                .any(|process| {
                    let words =
                        fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
                    ["sleep\u{0}5678\u{0}", "sleep\u{0}4321\u{0}"].contains(&words.as_str())
                })
        })
        .await;
    });
}

#[test]
fn the_hosts_processes_and_shared_memory_are_an_option() {
    World::run(async |world| {
        world
            .sandbox_with(sharing("plim-h", PidNamespace::Host, IpcNamespace::Host))
            .await;
        let marker = format!("plim-{}", std::process::id());
        let script = format!(
            "cat /proc/{}/comm; echo told > /dev/shm/{marker}; (sleep 4322 &); sleep 1000",
            std::process::id()
        );
        world
            .start(world.spec("plim-h", "plim-c", &["sh", "-c", &script]))
            .await;
        let pid = world
            .engine
            .container("plim-c")
            .await
            .and_then(|status| status.pid)
            .expect("pid");
        for name in ["pid", "ipc"] {
            assert_eq!(
                namespace(pid, name),
                namespace(std::process::id(), name),
                "{name}"
            );
        }
        assert_ne!(namespace(pid, "uts"), namespace(std::process::id(), "uts"));
        let path = std::path::Path::new("/dev/shm").join(&marker);
        eventually("the host's shared memory", async || path.exists()).await;
        fs::remove_file(&path).expect("remove");
        let own = fs::read_to_string("/proc/self/comm").expect("comm");
        eventually("the host's processes", async || {
            world.output("plim-c").contains(own.trim())
        })
        .await;
        let (code, said) = enter(
            &world,
            "plim-c",
            command(&["sh", "-c", "ps -o args | grep -c 'sleep 432[2]'"]),
        )
        .await;
        assert_eq!((code, said.trim()), (0, "1"));
        world
            .engine
            .stop_container("plim-c", None, std::time::Duration::ZERO)
            .await
            .expect("stop");
        eventually("the end of what it left", async || {
            !fs::read_dir("/proc")
                .expect("proc")
                .flatten()
                .any(|process| {
                    fs::read_to_string(process.path().join("cmdline"))
                        .unwrap_or_default()
                        .contains("4322")
                })
        })
        .await;
    });
}

#[test]
fn another_containers_namespaces_are_joined_while_it_runs() {
    World::run(async |world| {
        world.sandbox("plim-lender").await;
        world
            .start(world.spec(
                "plim-lender",
                "plim-a",
                &["sh", "-c", "echo lent > /dev/shm/x; exec sleep 1234"],
            ))
            .await;
        let other = || "plim-a".to_owned();
        world
            .sandbox_with(sharing(
                "plim-s",
                PidNamespace::Container(other()),
                IpcNamespace::Container(other()),
            ))
            .await;
        eventually("the lender's file", async || {
            enter(&world, "plim-a", command(&["cat", "/dev/shm/x"]))
                .await
                .1
                == "lent\n"
        })
        .await;
        let (exit, said) = world
            .run(world.spec(
                "plim-s",
                "plim-b",
                &[
                    "sh",
                    "-c",
                    "cat /dev/shm/x; ps -o args; ls -l /proc/self/ns/ipc",
                ],
            ))
            .await;
        assert_eq!(exit.code, 0, "{said}");
        assert!(
            said.contains("lent\n") && said.contains("sleep 1234"),
            "{said}"
        );
        let pid = world
            .engine
            .container("plim-a")
            .await
            .and_then(|status| status.pid)
            .expect("pid");
        assert!(said.contains(&namespace(pid, "ipc")), "{said}");
        world
            .engine
            .stop_container("plim-a", None, std::time::Duration::ZERO)
            .await
            .expect("stop");
        let error = world
            .engine
            .start_container("plim-b")
            .await
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains("container plim-a: it is not running"),
            "{error}"
        );
    });
}

#[test]
fn without_shared_memory_there_is_no_place_for_it() {
    World::run(async |world| {
        let script = "exec 2>&1; grep -c /dev/shm /proc/mounts; touch /dev/shm/x || echo none";
        let (_, said) = world
            .script_with("plim-none", script, |spec| spec.no_shared_memory = true)
            .await;
        assert!(said.starts_with("0\n") && said.contains("none\n"), "{said}");
        let (_, said) = world.script("plim-some", script).await;
        assert!(said.starts_with("1\n") && !said.contains("none"), "{said}");
    });
}
