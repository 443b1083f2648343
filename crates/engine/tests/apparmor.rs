//! AppArmor, on a kernel that has it (`make test-v2` runs this on one); on others, what is left of it.

mod common;

use common::{Session, World, command, enter};
use engine::*;
use std::io::Write;
use std::process::{Command, Stdio};

/// Whether there is AppArmor. Where there must be some, its absence is a failure.
fn present() -> bool {
    let found = app_armor();
    let promised = std::env::var_os("PLIMSOLL_TEST_APPARMOR").is_some();
    assert!(!promised || found == AppArmor::Ready, "{found:?}");
    found == AppArmor::Ready
}

const SIGUSR1: i32 = 10;
/// The label of the process that asks.
const LABEL: &str = "cat /proc/self/attr/current; echo";

fn default_profile(world: &Session) -> String {
    format!("{}-default", world.config.instance)
}

/// Gives the kernel a profile that forbids nothing but writing beneath /srv.
struct Loaded(&'static str);

impl Loaded {
    fn new(name: &'static str) -> Loaded {
        let text = format!(
            "profile {name} {{ file, capability, network, signal, ptrace, deny /srv/** w, }}"
        );
        Loaded::parse("-Kr", &text);
        Loaded(name)
    }

    fn parse(action: &str, text: &str) {
        let mut parser = Command::new("apparmor_parser")
            .arg(action)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("apparmor_parser");
        let mut stdin = parser.stdin.take().expect("stdin");
        stdin.write_all(text.as_bytes()).expect("write");
        drop(stdin);
        assert!(parser.wait().expect("wait").success(), "{text}");
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = std::fs::write("/sys/kernel/security/apparmor/.remove", self.0);
    }
}

#[test]
fn containers_and_who_enters_them_have_the_default_profile() {
    if !present() {
        return;
    }
    World::run(async |world| {
        let name = default_profile(&world);
        let enforced = format!("{name} (enforce)");
        assert_eq!(world.engine.default_profile(), Some(name.as_str()));
        world.sandbox("plim-s").await;
        let start = async |id: &str, change: &dyn Fn(&mut Security)| {
            let script = "trap 'exit 7' USR1; sleep 1000 & wait";
            let mut spec = world.spec("plim-s", id, &["sh", "-c", script]);
            change(&mut spec.security);
            world.start(spec).await;
        };
        start("plim-plain", &|_| {}).await;
        start("plim-powerless", &|security| {
            security.no_new_privileges = true
        })
        .await;
        start("plim-free", &|security| {
            security.app_armor_profile = "unconfined".into()
        })
        .await;
        start("plim-privileged", &|security| security.privileged = true).await;
        for (id, expected) in [
            ("plim-plain", enforced.as_str()),
            ("plim-powerless", &enforced),
            ("plim-free", "unconfined"),
            ("plim-privileged", "unconfined"),
        ] {
            let status = world.engine.container(id).await.expect("known");
            let pid = status.pid.expect("it runs");
            let own = std::fs::read_to_string(format!("/proc/{pid}/attr/current")).expect("label");
            assert_eq!(own.trim(), expected, "{id}");
            let (_, said) = enter(&world, id, command(&["sh", "-c", LABEL])).await;
            assert_eq!(said.trim(), expected, "{id}");
            // more rights for one command take no profile away, as with dockerd
            let mut spec = command(&["sh", "-c", LABEL]);
            spec.privileged = true;
            let (_, said) = enter(&world, id, spec).await;
            assert_eq!(said.trim(), expected, "{id}");
        }
        let (exit, _) = enter(&world, "plim-plain", command(&["kill", "-0", "1"])).await;
        assert_eq!(exit, 0, "processes of a container may signal each other");
        for id in ["plim-plain", "plim-powerless"] {
            let grace = std::time::Duration::from_secs(30);
            let exit = world.engine.stop_container(id, Some(SIGUSR1), grace);
            assert_eq!(exit.await.expect("stop").code, 7, "the engine may signal");
        }
    });
}

/// With all rights and nothing masked, so that nothing but the profile is in the way.
#[test]
fn the_default_profile_refuses_what_rights_would_allow() {
    if !present() {
        return;
    }
    World::run(async |world| {
        world.engine.load_default_profile().await.expect("load");
        let name = default_profile(&world);
        // `h` asks the kernel for no more than its help
        let script = "exec 2>&1
            try() { \"$@\" && echo done: $* || echo refused: $*; }
            write() { echo $2 > $1; }
            try write /proc/sysrq-trigger h
            try write /proc/sys/kernel/sysrq 1
            try write /proc/sys/vm/drop_caches 1
            try write /proc/sys/kernel/shmmni 4096
            try write /proc/self/comm me
            try write /sys/kernel/mm/ksm/run 0
            try head -c 1 /sys/kernel/security/apparmor/profiles
            try mount -t tmpfs none /srv
            try mkdir /sys/fs/cgroup/plim-x
            try touch /tmp/file";
        let run = async |id: &'static str, profile: &str| {
            let (_, said) = world
                .script_with(id, script, |spec| {
                    spec.security.privileged = true;
                    spec.security.app_armor_profile = profile.into();
                    spec.security.seccomp_unconfined = true;
                    for hidden in ["/proc/sysrq-trigger", "/sys/kernel/security"] {
                        spec.mounts.push(Mount {
                            source: hidden.into(),
                            target: hidden.into(),
                            ..Mount::default()
                        });
                    }
                })
                .await;
            said
        };
        let said = run("plim-confined", &name).await;
        for refused in [
            "write /proc/sysrq-trigger",
            "write /proc/sys/kernel/sysrq",
            "write /proc/sys/vm/drop_caches",
            "write /sys/kernel/mm/ksm/run",
            "head -c 1 /sys/kernel/security/apparmor/profiles",
            "mount -t tmpfs",
        ] {
            assert!(
                said.contains(&format!("refused: {refused}")),
                "{refused}: {said}"
            );
        }
        for allowed in [
            "write /proc/sys/kernel/shmmni",
            "write /proc/self/comm",
            "touch /tmp/file",
        ] {
            assert!(
                said.contains(&format!("done: {allowed}")),
                "{allowed}: {said}"
            );
        }
        let said = run("plim-unconfined", "unconfined").await;
        for allowed in [
            "write /proc/sysrq-trigger",
            "write /proc/sys/kernel/sysrq",
            "write /sys/kernel/mm/ksm/run",
            "head -c 1 /sys/kernel/security/apparmor/profiles",
            "mount -t tmpfs",
        ] {
            assert!(
                said.contains(&format!("done: {allowed}")),
                "{allowed}: {said}"
            );
        }
    });
}

#[test]
fn a_profile_of_ones_own_by_name_and_one_that_is_not_there() {
    World::run(async |world| {
        let refused = async |id: &str, words: &str| {
            world.sandbox(&format!("s-{id}")).await;
            let mut spec = world.spec(&format!("s-{id}"), id, &["true"]);
            spec.security.app_armor_profile = "plim-nowhere".into();
            world.engine.create_container(spec).await.expect("create");
            let error = world.engine.start_container(id).await.expect_err("started");
            assert!(error.to_string().contains(words), "{error}");
        };
        if !present() {
            refused("plim-none", "AppArmor is not supported on this host").await;
            assert_eq!(world.engine.default_profile(), None);
            let (exit, _) = world.script("plim-plain", "true").await;
            assert_eq!(exit.code, 0);
            return;
        }
        refused(
            "plim-none",
            "apparmor failed to apply profile: write /proc/thread-self/attr/apparmor/exec: no such file or directory",
        )
        .await;
        let _loaded = Loaded::new("plim-own-one");
        let script = format!("{LABEL}; touch /srv/file; touch /tmp/file && echo made");
        let change = |spec: &mut ContainerSpec| {
            spec.security.app_armor_profile = "plim-own-one".into();
        };
        let (_, said) = world.script_with("plim-own", &script, change).await;
        assert!(said.contains("plim-own-one (enforce)"), "{said}");
        assert!(
            said.contains("Permission denied") && said.contains("made"),
            "{said}"
        );
    });
}

#[test]
fn it_is_loaded_again_when_somebody_unloaded_it_and_unloaded_by_purge() {
    if !present() {
        return;
    }
    let world = World::new();
    let name = format!("{}-default", world.config.instance);
    world.block_on(async {
        let session = Session {
            engine: Engine::open(world.config.clone()).await.expect("open"),
            config: world.config.clone(),
            dir: world.config.root.parent().expect("parent").to_owned(),
        };
        assert!(
            !app_armor_profile_loaded(&name).expect("list"),
            "made when it is needed"
        );
        let (_, said) = session.script("plim-first", LABEL).await;
        assert!(said.contains(&name), "{said}");
        std::fs::write("/sys/kernel/security/apparmor/.remove", &name).expect("unload");
        assert!(!app_armor_profile_loaded(&name).expect("list"));
        let (_, said) = session.script("plim-second", LABEL).await;
        assert!(said.contains(&name), "{said}");
        // another daemon of the same instance, and another instance beside it
        let again = Engine::open(world.config.clone()).await.expect("open");
        again.load_default_profile().await.expect("load");
        let _other = Loaded::new("plim-neighbour-default");
        again.purge().await.expect("purge");
        assert!(
            !app_armor_profile_loaded(&name).expect("list"),
            "left behind"
        );
        assert!(app_armor_profile_loaded("plim-neighbour-default").expect("list"));
    });
}
