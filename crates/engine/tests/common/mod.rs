//! An engine of its own for each test, with a root filesystem made from Debian's static busybox; cleaned up on panic too.

#![allow(dead_code)]

use engine::*;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "sleep", "true", "false", "id", "mount", "umount", "unshare", "ls",
    "printf", "kill", "ps", "head", "dd", "touch", "mkdir", "readlink", "hostname", "nc", "yes",
    "seq", "tail", "chmod", "stat", "stty", "tty", "chroot", "env", "pwd", "rm", "grep", "wc",
    "trap", "awk",
];

/// Everything that one test makes.
pub struct World {
    dir: TempDir,
    pub config: Config,
    runtime: tokio::runtime::Runtime,
}

impl World {
    pub fn new() -> World {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-engine-")
            .tempdir()
            .expect("temp dir");
        // Six digits that no other test process and no other test of this one has.
        let number =
            (std::process::id() << 8 | NUMBER.fetch_add(1, Ordering::Relaxed) & 0xff) & 0xff_ffff;
        let instance = format!("plim-{number:06x}");
        let config = Config {
            root: dir.path().join("engine"),
            run: dir.path().join("run"),
            cgroup_parent: format!("/{instance}"),
            instance,
            // Another program that knows the two words can be put to the same tests: `plimsoll` itself.
            supervisor: vec![
                std::env::var_os("PLIMSOLL_TEST_SUPERVISOR")
                    .unwrap_or_else(|| OsString::from(env!("CARGO_BIN_EXE_engine-supervisor"))),
                "supervise".into(),
            ],
        };
        make_rootfs(&dir.path().join("rootfs"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("runtime");
        World {
            dir,
            config,
            runtime,
        }
    }

    /// Runs a future on this world's runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Runs a test with a fresh engine.
    pub fn run<F: Future<Output = ()>>(test: impl FnOnce(Session) -> F) {
        let world = World::new();
        world.runtime.block_on(async {
            let engine = Engine::open(world.config.clone()).await.expect("open");
            test(Session {
                engine,
                config: world.config.clone(),
                dir: world.dir.path().to_owned(),
            })
            .await;
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let config = self.config.clone();
        let purged = self
            .runtime
            .block_on(async { Engine::open(config).await?.purge().await });
        let left = leftovers(&self.config);
        if !std::thread::panicking() {
            purged.expect("purge");
            assert_eq!(left, Vec::<String>::new(), "left behind");
        }
    }
}

/// What a test works with.
pub struct Session {
    pub engine: Engine,
    pub config: Config,
    pub dir: PathBuf,
}

impl Session {
    /// The same with the next daemon's engine. This one's goes first: two at once would both write down what becomes of a
    /// sandbox.
    pub async fn reopened(self) -> Session {
        let Session {
            engine,
            config,
            dir,
        } = self;
        drop(engine);
        Session {
            engine: Engine::open(config.clone()).await.expect("open again"),
            config,
            dir,
        }
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    pub fn log_path(&self, id: &str) -> PathBuf {
        self.dir.join("logs").join(id).join("0.log")
    }

    pub async fn sandbox(&self, id: &str) -> SandboxStatus {
        self.sandbox_with(SandboxSpec {
            id: id.into(),
            ..SandboxSpec::default()
        })
        .await
    }

    pub async fn sandbox_with(&self, spec: SandboxSpec) -> SandboxStatus {
        let id = spec.id.clone();
        self.engine
            .create_sandbox(spec)
            .await
            .expect("create sandbox");
        self.engine.start_sandbox(&id).await.expect("start sandbox")
    }

    pub fn spec(&self, sandbox: &str, id: &str, argv: &[&str]) -> ContainerSpec {
        ContainerSpec {
            id: id.into(),
            sandbox: sandbox.into(),
            rootfs: self.rootfs(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            log: LogConfig {
                path: self.log_path(id),
                ..LogConfig::default()
            },
            ..ContainerSpec::default()
        }
    }

    pub async fn start(&self, spec: ContainerSpec) {
        let id = spec.id.clone();
        self.engine
            .create_container(spec)
            .await
            .expect("create container");
        if let Err(error) = self.engine.start_container(&id).await {
            panic!("start {id}: {error}");
        }
    }

    /// Runs to the end: its exit and its output.
    pub async fn run(&self, spec: ContainerSpec) -> (ExitStatus, String) {
        let id = spec.id.clone();
        self.start(spec).await;
        let exit = self.engine.wait_container(&id).await.expect("wait");
        (exit, self.output(&id))
    }

    /// Runs a shell script to the end in a sandbox of its own.
    pub async fn script(&self, id: &str, script: &str) -> (ExitStatus, String) {
        self.script_with(id, script, |_| {}).await
    }

    pub async fn script_with(
        &self,
        id: &str,
        script: &str,
        change: impl FnOnce(&mut ContainerSpec),
    ) -> (ExitStatus, String) {
        let sandbox = format!("s-{id}");
        self.sandbox(&sandbox).await;
        let mut spec = self.spec(&sandbox, id, &["sh", "-c", script]);
        change(&mut spec);
        self.run(spec).await
    }

    /// Everything that a container wrote, both streams.
    pub fn output(&self, id: &str) -> String {
        String::from_utf8_lossy(&log_bytes(&self.log_path(id))).into_owned()
    }

    /// What a command that is run in a running container says.
    pub async fn said_by(&self, id: &str, script: &str) -> String {
        let spec = ExecSpec {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            ..ExecSpec::default()
        };
        let mut process = self.engine.exec(id, spec).await.expect("exec");
        let mut said = Vec::new();
        while let Some(output) = process.output.recv().await {
            match output {
                Output::Stdout(bytes) | Output::Stderr(bytes) => said.extend_from_slice(&bytes),
            }
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    pub fn container_dir(&self, sandbox: &str, id: &str) -> PathBuf {
        self.config
            .root
            .join("sandboxes")
            .join(sandbox)
            .join("containers")
            .join(id)
    }
}

/// Compiles a program of `tests/programs` for a container, without anything that it would need there.
pub fn compile(source: &str, flags: &[&str], program: &Path) {
    let name = program.file_name().expect("name").to_string_lossy();
    let file = program.with_file_name(format!("{name}.rs"));
    fs::write(&file, source).expect("write");
    let mut rustc = std::process::Command::new("rustc");
    rustc.args([
        "--edition",
        "2024",
        "--crate-name",
        "program",
        "-C",
        "target-feature=+crt-static",
    ]);
    let output = rustc.args(flags).arg("-o").args([program, &file]).output();
    fs::remove_file(&file).expect("remove");
    let output = output.expect("rustc");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

impl Session {
    /// Puts the attacker's program into the root filesystem, compiled once per test process.
    pub fn arm(&self) {
        static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
        let path = self.rootfs().join("bin/hostile");
        let bytes = PROGRAM.get_or_init(|| {
            compile(include_str!("../programs/hostile.rs"), &["-O"], &path);
            fs::read(&path).expect("read")
        });
        fs::write(&path, bytes).expect("write");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("chmod");
    }
}

/// A program to run in a container.
pub fn command(argv: &[&str]) -> ExecSpec {
    ExecSpec {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        ..ExecSpec::default()
    }
}

/// Enters a container: its exit code (the start's where it did not start) and everything that it wrote.
pub async fn enter(world: &Session, id: &str, spec: ExecSpec) -> (i32, String) {
    let mut process = match world.engine.exec(id, spec).await {
        Ok(process) => process,
        Err(Error::Exec { code, reason, .. }) => return (code, reason),
        Err(error) => panic!("exec: {error}"),
    };
    let mut text = Vec::new();
    while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = process.output.recv().await {
        text.extend_from_slice(&bytes);
    }
    let exit = process.wait().await.expect("wait");
    (exit.code, String::from_utf8_lossy(&text).into_owned())
}

/// Whether this machine has cgroup v2 alone.
pub fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Content of a log without its stamps.
pub fn log_bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in fs::read(path)
        .unwrap_or_default()
        .split(|byte| *byte == b'\n')
    {
        let Some(line) = logs::parse_line(line) else {
            continue;
        };
        bytes.extend_from_slice(&line.content);
        if !line.partial {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// Waits for something that will be; gives up after 20 seconds.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if check().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never came: {what}");
}

fn make_rootfs(root: &Path) {
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "srv"] {
        fs::create_dir_all(root.join(dir)).expect("mkdir");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static");
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).expect("link");
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/srv:/bin/sh\n",
    )
    .expect("passwd");
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nweb:x:1000:\nextra:x:2000:web\n",
    )
    .expect("group");
}

/// Processes, mounts, cgroups and files that belong to this instance.
pub fn leftovers(config: &Config) -> Vec<String> {
    let mut left = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let run = config.run.display().to_string();
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&run))
            .map(|line| format!("mount {line}")),
    );
    let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
    let hierarchies = hierarchies.map(|hierarchy| hierarchy.path());
    for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        let dir = hierarchy.join(&config.instance);
        if dir.exists() {
            left.push(format!("cgroup {}", dir.display()));
        }
    }
    for path in [&config.root, &config.run] {
        if path.exists() {
            left.push(format!("file {}", path.display()));
        }
    }
    for process in fs::read_dir("/proc").expect("proc").flatten() {
        let Ok(line) = fs::read_to_string(process.path().join("cmdline")) else {
            continue;
        };
        if line.contains(&run) {
            left.push(format!("process {} {line}", process.file_name().display()));
        }
    }
    left
}
