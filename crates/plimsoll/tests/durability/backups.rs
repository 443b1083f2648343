//! Everything in one file while it runs, and back.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::machine::{Machine, program};
use super::run::{command, eventually, run};

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      volumes: [{name: own, emptyDir: {}}]
      containers:
      - name: main
        image: built:1
        command: [sh, -c, "trap exit TERM; sleep 100000 & wait"]
        volumeMounts: [{name: own, mountPath: /own}]
"#;

const DOCKERFILE: &str = "FROM busybox:static
RUN echo first > /first && echo second > /gone && ln /first /again && ln -s /first /link && chmod 4755 /first
RUN rm /gone && mkdir -p /deep/dir && echo x > /deep/dir/file
";

fn started() -> Machine {
    let machine = Machine::new(800).started();
    let context = machine.disk.outside().join("context");
    fs::create_dir(&context).expect("a directory");
    fs::write(context.join("Dockerfile"), DOCKERFILE).expect("written");
    machine
        .docker(&format!("build -q -t built:1 {}", context.display()))
        .ok();
    machine.apply(MANIFEST).ok();
    machine
        .kubectl("rollout status deployment/web --timeout=90s")
        .ok();
    machine.docker("volume create --label a=b shelf").ok();
    machine
        .docker_with(
            "run --rm -v shelf:/shelf busybox:static sh -c",
            &["echo kept > /shelf/kept; chown 7:8 /shelf/kept"],
        )
        .ok();
    machine
        .docker_with(
            "run -d --name app --restart always -v shelf:/shelf built:1 sh -c",
            &["trap exit TERM; sleep 100000 & wait"],
        )
        .ok();
    machine
        .docker_with("exec app sh -c", &["echo mine > /mine; rm /deep/dir/file"])
        .ok();
    machine
}

/// What must be the same before and after.
fn state(machine: &Machine, data_dir: &Path) -> Vec<String> {
    let kubectl = |words: &str| machine.kubectl_at(data_dir, words).ok();
    vec![
        kubectl("get deployment web -o jsonpath={.metadata.uid}"),
        kubectl("get pods -l app=web -o jsonpath={.items[*].metadata.uid}"),
        kubectl("get configmap before -o jsonpath={.data.a}/{.metadata.uid}"),
        kubectl("get secret hidden -o jsonpath={.data.a}"),
    ]
}

#[test]
fn a_backup_made_while_writing_brings_everything_back() {
    let machine = started();
    machine
        .kubectl("create configmap before --from-literal=a=1")
        .ok();
    machine
        .kubectl("create secret generic hidden --from-literal=a=1")
        .ok();
    let before = state(&machine, &machine.data_dir);
    let image = machine.docker("inspect -f {{.Id}} built:1").ok();
    let file = machine.disk.outside().join("plimsoll.backup");

    // objects are made all the time; which were there when it began, and which came after it ended, is known
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let (at_start, at_end) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let n = made.load(Ordering::SeqCst);
                machine
                    .kubectl(&format!("create configmap n-{n:04} --from-literal=n={n}"))
                    .ok();
                made.store(n + 1, Ordering::SeqCst);
            }
        });
        eventually("some are made", || {
            if made.load(Ordering::SeqCst) > 2 {
                Ok(())
            } else {
                Err(String::new())
            }
        });
        let at_start = made.load(Ordering::SeqCst);
        let backup = machine.plimsoll(&format!("backup {}", file.display()));
        let at_end = made.load(Ordering::SeqCst) + 1;
        stop.store(true, Ordering::SeqCst);
        assert!(backup.err.contains("packed"), "{backup}");
        backup.ok();
        (at_start, at_end)
    });
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(
        fs::metadata(&file).expect("the file").permissions().mode() & 0o777,
        0o600
    );
    machine.docker("images").ok();

    machine
        .plimsoll(&format!("restore {}", file.display()))
        .fails("is not empty");
    machine.plimsoll("down --purge").ok();
    assert!(!machine.data_dir.exists());
    machine
        .plimsoll(&format!("restore {}", file.display()))
        .ok();
    machine.plimsoll("up").ok();

    assert_eq!(state(&machine, &machine.data_dir), before);
    let maps = machine
        .kubectl("get configmaps -o jsonpath={.items[*].metadata.name}")
        .ok();
    let found: Vec<u64> = maps
        .split(' ')
        .filter_map(|name| name.strip_prefix("n-")?.parse().ok())
        .collect();
    assert_eq!(
        found,
        (0..found.len() as u64).collect::<Vec<_>>(),
        "one moment, without a hole"
    );
    assert!(
        (at_start..=at_end).contains(&(found.len() as u64)),
        "{at_start} {} {at_end}",
        found.len()
    );

    assert_eq!(machine.docker("inspect -f {{.Id}} built:1").ok(), image);
    let content = "cat /first /again /link; ls /gone; stat -c %a /first";
    let told = machine.docker_with("run --rm built:1 sh -c", &[content]);
    assert_eq!(told.ok(), "first\nfirst\nfirst\n4755\n");
    // the same archive comes out of it: nothing that counts was changed on the way
    let save = machine.docker(&format!(
        "save -o {} built:1",
        machine.disk.outside().join("image.tar").display()
    ));
    save.ok();
    machine.docker("rmi built:1").fails("is using it");
    eventually("the container runs again", || {
        let now = machine.container("app");
        if now == "running/0" { Ok(()) } else { Err(now) }
    });
    let told = machine
        .docker_with(
            "exec app sh -c",
            &["cat /mine /shelf/kept; stat -c %u:%g /shelf/kept; ls /deep/dir"],
        )
        .ok();
    assert_eq!(told, "mine\nkept\n7:8\n");
    assert_eq!(
        machine.docker("volume inspect -f {{.Labels.a}} shelf").ok(),
        "b\n"
    );
    machine
        .kubectl("rollout status deployment/web --timeout=90s")
        .ok();
    machine.kubectl("scale deployment web --replicas=3").ok();
    machine
        .kubectl("rollout status deployment/web --timeout=90s")
        .ok();
}

#[test]
fn a_backup_goes_through_pipes_and_to_another_directory() {
    let machine = started();
    machine
        .kubectl("create configmap before --from-literal=a=1")
        .ok();
    machine
        .kubectl("create secret generic hidden --from-literal=a=1")
        .ok();
    let before = state(&machine, &machine.data_dir);
    machine.plimsoll("down").ok();
    let elsewhere = machine.disk.path().join("elsewhere");
    let mut backup = command(program(), "backup -");
    backup
        .env("PLIMSOLL_DATA_DIR", &machine.data_dir)
        .stdout(Stdio::piped());
    let mut backup = backup.spawn().expect("it runs");
    let mut restore = command(program(), "restore -");
    restore
        .env("PLIMSOLL_DATA_DIR", &elsewhere)
        .stdin(backup.stdout.take().expect("a pipe"));
    let restored = restore.status().expect("it runs");
    assert!(restored.success() && backup.wait().expect("it ends").success());

    let up = machine.plimsoll_at(&elsewhere, "up");
    let other = Elsewhere(&machine, elsewhere.clone());
    up.ok();
    assert_eq!(state(&machine, &elsewhere), before);
    machine
        .kubectl_at(&elsewhere, "rollout status deployment/web --timeout=90s")
        .ok();
    let text = fs::read_to_string(elsewhere.join("instance.json")).expect("read");
    assert!(
        !text.contains(&machine.name()),
        "an instance with a name of its own: {text}"
    );
    drop(other);
    assert!(machine.data_dir.exists() && !elsewhere.exists());
}

/// The instance in the other directory.
struct Elsewhere<'a>(&'a Machine, std::path::PathBuf);

impl Drop for Elsewhere<'_> {
    fn drop(&mut self) {
        let ran = self.0.plimsoll_at(&self.1, "down --purge");
        assert!(ran.code == 0 || std::thread::panicking(), "{ran}");
    }
}

#[test]
fn a_backup_needs_an_instance_and_a_place_outside_of_it() {
    let machine = Machine::new(200).started();
    let inside = machine.data_dir.join("x.backup");
    machine
        .plimsoll(&format!("backup {}", inside.display()))
        .fails("write it elsewhere");
    let nowhere = machine.disk.outside().join("no/such/directory/x");
    machine
        .plimsoll(&format!("backup {}", nowhere.display()))
        .fails("cannot write");
    let empty = machine.disk.path().join("empty");
    machine
        .plimsoll_at(
            &empty,
            &format!("backup {}", machine.disk.outside().join("x").display()),
        )
        .fails("there is no instance");
    // a disk that is too small for it
    let file = machine.disk.path().join("x.backup");
    machine.disk.fill();
    machine
        .plimsoll(&format!("backup {}", file.display()))
        .fails("No space left");
    machine.disk.free();
    let listed = run(command("ls", &machine.disk.path().display().to_string())).ok();
    assert!(
        listed.contains("data") && !listed.contains("x.backup"),
        "{listed}"
    );
}
