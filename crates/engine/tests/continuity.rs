//! The daemon goes and comes while containers write as fast as they can: every line is in the log, once and in order.

mod common;

use common::{World, eventually};
use engine::*;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The log's files from the oldest on.
fn whole_log(path: &Path) -> String {
    let rotated = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        std::path::PathBuf::from(name)
    };
    let last = (1..)
        .take_while(|number| rotated(*number).exists())
        .last()
        .unwrap_or(0);
    println!("{last} rotations");
    assert!(last >= 2, "it was to be rotated");
    let files = (1..=last).rev().map(rotated).chain([path.to_owned()]);
    let bytes: Vec<u8> = files.flat_map(|file| common::log_bytes(&file)).collect();
    String::from_utf8(bytes).expect("text")
}

#[test]
fn no_line_and_no_exit_code_is_lost_while_the_daemon_comes_and_goes() {
    World::run(async |world| {
        world.arm();
        world.sandbox("plim-s").await;
        let mut spec = world.spec("plim-s", "plim-count", &["hostile", "count", "/stop"]);
        (spec.log.max_bytes, spec.log.max_files) = (1 << 20, 500);
        world.start(spec).await;
        let log = world.log_path("plim-count");
        let common::Session {
            mut engine,
            config,
            dir,
        } = world;
        for round in 0..5 {
            let name = format!("plim-short-{round}");
            let script = format!(
                "while [ ! -e /go-{round} ]; do sleep 0.02; done; exit {}",
                40 + round
            );
            let spec = ContainerSpec {
                id: name.clone(),
                sandbox: "plim-s".into(),
                rootfs: dir.join("rootfs"),
                argv: ["sh", "-c", &script].map(String::from).to_vec(),
                ..ContainerSpec::default()
            };
            engine.create_container(spec).await.expect("create");
            engine.start_container(&name).await.expect("start");
            // As with kill -9: everything that the daemon held is closed, nothing is told.
            drop(engine);
            fs::write(dir.join(format!("rootfs/go-{round}")), "").expect("write");
            let state = config
                .root
                .join(format!("sandboxes/plim-s/containers/{name}/state.json"));
            eventually("its end is recorded", async || {
                fs::read_to_string(&state).is_ok_and(|text| text.contains("\"exit\":{"))
            })
            .await;
            engine = Engine::open(config.clone()).await.expect("open again");
            let exit = engine.wait_container(&name).await.expect("wait");
            assert_eq!((exit.code, exit.lost), (40 + round, false));
            let status = engine.container("plim-count").await.expect("known");
            assert_eq!(status.state, State::Running, "round {round}");
        }
        fs::write(dir.join("rootfs/stop"), "").expect("write");
        let exit = engine.wait_container("plim-count").await.expect("wait");
        assert_eq!(exit.code, 0);
        let text = whole_log(&log);
        let mut lines = text.lines();
        let mut count = 0_u64;
        let end = lines.find(|line| {
            let next = *line == count.to_string();
            count += u64::from(next);
            !next
        });
        assert_eq!(end, Some(format!("end {count}").as_str()));
        assert_eq!(lines.next(), None);
        println!("{count} lines");
    });
}

/// A daemon that is newer than the supervising process asks for what that does not know: it is told so, and nothing else happens.
#[test]
fn a_request_from_the_future_is_refused_and_nothing_ends() {
    World::run(async |world| {
        world.sandbox("plim-s").await;
        world
            .start(world.spec("plim-s", "plim-c", &["sleep", "1000"]))
            .await;
        let mut socket = UnixStream::connect(world.config.run.join("s/plim-s")).expect("connect");
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("timeout");
        let mut writing = socket.try_clone().expect("clone");
        let mut ask = |kind: u8, payload: &str| {
            let mut frame = (payload.len() as u32).to_be_bytes().to_vec();
            frame.push(kind);
            frame.extend(payload.as_bytes());
            writing.write_all(&frame).expect("write");
        };
        ask(
            0,
            r#"{"seq":7,"request":{"Checkpoint":{"container":"plim-c","later":[1]}}}"#,
        );
        ask(99, "a frame of a later kind");
        ask(
            0,
            r#"{"seq":8,"request":{"Signal":{"container":"plim-c","signal":0,"later":true}},"later":{}}"#,
        );
        let mut told = || {
            let mut header = [0; 5];
            socket.read_exact(&mut header).expect("header");
            let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
            let mut payload = vec![0; length as usize];
            socket.read_exact(&mut payload).expect("payload");
            String::from_utf8(payload).expect("text")
        };
        let refused = told();
        assert!(
            refused.starts_with(r#"{"seq":7,"reply":{"Failed":{"kind":"Other","#),
            "{refused}"
        );
        assert_eq!(told(), r#"{"seq":8,"reply":"Done"}"#);
        let status = world.engine.container("plim-c").await.expect("known");
        assert_eq!(status.state, State::Running);
    });
}

/// What a pod uses up must not take along what watches it.
#[test]
fn a_supervising_process_is_not_in_the_cgroup_that_it_watches() {
    World::run(async |world| {
        let status = world.sandbox("plim-s").await;
        world
            .start(world.spec("plim-s", "plim-c", &["sleep", "1000"]))
            .await;
        let groups = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
        let pod = format!("{}/pods/plim-s", world.config.instance);
        let own = groups(status.supervisor_pid.expect("pid"));
        assert!(!own.contains(&pod) && own.contains("/supervisors"), "{own}");
        let container = world
            .engine
            .container("plim-c")
            .await
            .and_then(|status| status.pid);
        let inside = groups(container.expect("pid"));
        assert!(inside.contains(&format!("{pod}/plim-c")), "{inside}");
    });
}
