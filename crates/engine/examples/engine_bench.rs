//! How long the engine takes: sandbox start, container start to exit of `true`, exec of `true`; beside `runc run` of an equal
//! program where runc is installed. Needs root and a static busybox; removes everything that it made.
//!
//! `cargo run -p engine --example engine_bench [N]`

use engine::{
    Config, ContainerSpec, Engine, ExecSpec, LogConfig, Resources, SandboxNetwork, SandboxSpec,
};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const COUNT_DEFAULT: usize = 20;

fn main() {
    let mut args = std::env::args_os().skip(1);
    let word = args.next();
    match word.as_ref().and_then(|word| word.to_str()) {
        Some("supervise") => engine::supervise_main(args),
        Some("runtime") => engine::runtime_main(args),
        _ => {}
    }
    let count = word
        .and_then(|word| word.to_str()?.parse().ok())
        .unwrap_or(COUNT_DEFAULT);
    let dir = tempfile::Builder::new()
        .prefix("plimsoll-bench-")
        .tempdir()
        .expect("temp dir");
    let rootfs = dir.path().join("rootfs");
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(rootfs.join(name)).expect("mkdir");
    }
    fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("a static busybox in /bin");
    for applet in ["true", "sleep"] {
        symlink("busybox", rootfs.join("bin").join(applet)).expect("link");
    }
    let instance = format!("plim-{:06x}", std::process::id() & 0xff_ffff);
    let config = Config {
        root: dir.path().join("engine"),
        run: dir.path().join("run"),
        cgroup_parent: format!("/{instance}"),
        instance,
        supervisor: vec!["/proc/self/exe".into(), "supervise".into()],
    };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("n = {count}, load average {}", load.trim());
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let begun = Instant::now();
        let engine = Engine::open(config).await.expect("open");
        line("open", &mut [begun.elapsed()]);
        measure(&engine, &rootfs, dir.path(), count).await;
        engine.purge().await.expect("purge");
    });
    runc(&rootfs, dir.path(), count);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load average afterwards {}", load.trim());
}

async fn measure(engine: &Engine, rootfs: &Path, dir: &Path, count: usize) {
    let container = |sandbox: &str, id: &str, argv: &[&str]| ContainerSpec {
        id: id.into(),
        sandbox: sandbox.into(),
        rootfs: rootfs.to_owned(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        resources: Resources {
            memory_limit_bytes: Some(64 << 20),
            pids_limit: Some(100),
            ..Resources::default()
        },
        log: LogConfig {
            path: dir.join("logs").join(id),
            ..LogConfig::default()
        },
        ..ContainerSpec::default()
    };
    let (mut sandboxes, mut starts, mut exits, mut stops) = (vec![], vec![], vec![], vec![]);
    for number in 0..count {
        let (sandbox, id) = (format!("s{number}"), format!("c{number}"));
        let begun = Instant::now();
        let spec = SandboxSpec {
            id: sandbox.clone(),
            network: SandboxNetwork::None,
            ..SandboxSpec::default()
        };
        engine.create_sandbox(spec).await.expect("create");
        engine.start_sandbox(&sandbox).await.expect("start");
        sandboxes.push(begun.elapsed());
        let begun = Instant::now();
        engine
            .create_container(container(&sandbox, &id, &["true"]))
            .await
            .expect("create");
        engine.start_container(&id).await.expect("start");
        starts.push(begun.elapsed());
        let exit = engine.wait_container(&id).await.expect("wait");
        exits.push(begun.elapsed());
        assert_eq!(exit.code, 0);
        let begun = Instant::now();
        engine.remove_sandbox(&sandbox).await.expect("remove");
        stops.push(begun.elapsed());
    }
    line("sandbox created and started", &mut sandboxes);
    line("container of `true`, created and started", &mut starts);
    line("container of `true`, to its exit", &mut exits);
    line("sandbox removed", &mut stops);

    let spec = SandboxSpec {
        id: "long".into(),
        network: SandboxNetwork::None,
        ..SandboxSpec::default()
    };
    engine.create_sandbox(spec).await.expect("create");
    let pid = engine
        .start_sandbox("long")
        .await
        .expect("start")
        .supervisor_pid;
    engine
        .create_container(container("long", "long", &["sleep", "1000"]))
        .await
        .expect("create");
    engine.start_container("long").await.expect("start");
    let mut execs = vec![];
    for _ in 0..count {
        let begun = Instant::now();
        let spec = ExecSpec {
            argv: vec!["true".into()],
            ..ExecSpec::default()
        };
        let process = engine.exec("long", spec).await.expect("exec");
        assert_eq!(process.wait().await.expect("wait").code, 0);
        execs.push(begun.elapsed());
    }
    line("exec of `true`", &mut execs);
    // Long enough for the supervising process to give back what it does not use.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let smaps = fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.unwrap_or_default()));
    for field in smaps
        .unwrap_or_default()
        .lines()
        .filter(|line| line.starts_with("Private_") || line.starts_with("Rss"))
    {
        println!("supervising process: {field}");
    }
}

/// The same program by runc, with the specification that it writes itself.
fn runc(rootfs: &Path, dir: &Path, count: usize) {
    let bundle = dir.join("runc");
    fs::create_dir_all(&bundle).expect("mkdir");
    let made = Command::new("runc")
        .args(["spec", "-b"])
        .arg(&bundle)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return println!("runc is not installed");
    }
    let path = bundle.join("config.json");
    let text = fs::read_to_string(&path).expect("specification");
    let text = text
        .replace("\"terminal\": true", "\"terminal\": false")
        .replace("\"sh\"", "\"true\"")
        .replace(
            "\"path\": \"rootfs\"",
            &format!("\"path\": {:?}", rootfs.display().to_string()),
        );
    fs::write(&path, text).expect("specification");
    let mut runs = vec![];
    for number in 0..count {
        let begun = Instant::now();
        let status = Command::new("runc")
            .arg("--root")
            .arg(dir.join("runc-state"))
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(format!("plim-bench-{}-{number}", std::process::id()))
            .stdin(Stdio::null())
            .status();
        if !status.is_ok_and(|status| status.success()) {
            return println!("runc cannot run the program");
        }
        runs.push(begun.elapsed());
    }
    line("runc run of `true`", &mut runs);
}

fn line(what: &str, times: &mut [Duration]) {
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let (median, last) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{what:44} median {:8.2} ms   slowest {:8.2} ms",
        ms(median),
        ms(last)
    );
}
