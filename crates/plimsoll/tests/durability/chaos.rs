//! Everything at once: under a rolling update and load the daemon, supervising processes and containers are killed, the disk
//! fills up, the clock jumps and the power goes, in an order that a seed decides. Afterwards what is there is what was declared,
//! and nothing else.
//!
//! `PLIMSOLL_CHAOS_SECONDS` says how long (40 unless told; `make chaos` takes ten minutes), `PLIMSOLL_SEED` which order (any
//! in a run whose length was told, otherwise 1).

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::clock;
use super::machine::Machine;
use super::run::{Ran, command, eventually, run};

const MANIFEST: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: page}
data: {text: hello}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      volumes: [{name: page, configMap: {name: page}}, {name: own, emptyDir: {}}]
      containers:
      - name: main
        image: busybox:static
        command: [sh, -c, "trap exit TERM; httpd -f -p 8080 -h /page & wait"]
        volumeMounts: [{name: page, mountPath: /page}, {name: own, mountPath: /own}]
        env: [{name: ROUND, value: "0"}]
        readinessProbe: {httpGet: {path: /text, port: 8080}, periodSeconds: 1}
        livenessProbe: {httpGet: {path: /text, port: 8080}, periodSeconds: 2, failureThreshold: 5}
        resources: {requests: {cpu: 10m}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

/// What can happen, with its weight.
const DISASTERS: [(&str, u32); 9] = [
    ("kill the daemon", 4),
    ("kill a supervising process", 3),
    ("kill a container", 3),
    ("roll out", 4),
    ("scale", 2),
    ("write", 4),
    ("fill the disk", 2),
    ("jump the clock", 2),
    ("cut the power", 1),
];

#[test]
fn after_chaos_what_is_there_is_what_was_declared() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    // always the same order among the other tests, any order in a run of its own
    let long = number("PLIMSOLL_CHAOS_SECONDS");
    let seed = number("PLIMSOLL_SEED").unwrap_or_else(|| match long {
        Some(_) => rand::rng().random_range(0..1_000_000),
        None => 1,
    });
    let seconds = long.unwrap_or(40);
    println!("chaos for {seconds} s; the same order again: PLIMSOLL_SEED={seed}");

    let mut chaos = Chaos::new(seed);
    let load = Load::on(&chaos.service());
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        chaos.one_more();
    }
    chaos.calm_down();
    chaos.declared_is_actual();
    let (answered, failed) = load.stop();
    println!(
        "{:?}; {} objects written; requests: {answered} answered, {failed} not",
        chaos.happened,
        chaos.written.len()
    );
    assert!(answered > 0, "no request was ever answered");
}

struct Chaos {
    machine: Machine,
    clock: PathBuf,
    rng: StdRng,
    happened: BTreeMap<&'static str, u32>,
    /// The template's round, and the replicas: the last that was acknowledged, and later ones that may have arrived.
    rounds: Vec<u32>,
    replicas: Vec<u32>,
    /// ConfigMaps whose writes were acknowledged.
    written: Vec<String>,
    step: u32,
    disk_is_full: bool,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let machine = Machine::new(500);
        let clock = machine.disk.outside().join("clock");
        clock::set(&clock, 0);
        let mut environment = clock::environment(&clock).to_vec();
        // a node that watches its disk would evict pods and keep new ones away for minutes (see `pressure`)
        environment.push(("PLIMSOLL_EVICTION_HARD", String::new()));
        environment.push(("PLIMSOLL_IMAGE_GC_HIGH", "100".into()));
        let machine = machine.with_environment(&environment).started();
        machine.apply(MANIFEST).ok();
        machine
            .docker("run -d --name keeper --restart always busybox:static sleep 100000")
            .ok();
        machine
            .kubectl("rollout status deployment/web --timeout=90s")
            .ok();
        Self {
            machine,
            clock,
            rng: StdRng::seed_from_u64(seed),
            happened: BTreeMap::new(),
            rounds: vec![0],
            replicas: vec![3],
            written: Vec::new(),
            step: 0,
            disk_is_full: false,
        }
    }

    fn service(&self) -> SocketAddr {
        let address = self
            .machine
            .kubectl("get service web -o jsonpath={.spec.clusterIP}")
            .ok();
        format!("{address}:80").parse().expect("an address")
    }

    /// The next disaster. All of chance is drawn here, whatever comes of it, so that a seed means an order.
    fn one_more(&mut self) {
        self.step += 1;
        let total = DISASTERS.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.rng.random_range(0..total);
        let picked = DISASTERS.iter().find(|(_, weight)| {
            let found = drawn < *weight;
            drawn = drawn.wrapping_sub(*weight);
            found
        });
        let what = picked.expect("one of them").0;
        let (choice, pause_ms): (u32, u64) = (self.rng.random(), self.rng.random_range(0..1500));
        println!("{:>4} {what}", self.step);
        *self.happened.entry(what).or_default() += 1;
        match what {
            "kill the daemon" => {
                if let Some(pid) = self.daemon() {
                    kill(pid);
                }
                // now and then others strike while it is away
                if choice % 3 != 0 {
                    self.up();
                }
            }
            "kill a supervising process" => kill_one(&self.supervisors(), choice),
            "kill a container" => kill_one(&self.contained(), choice),
            "roll out" => {
                let round = self.step;
                let ran = self
                    .machine
                    .kubectl(&format!("set env deployment/web ROUND={round}"));
                note(&mut self.rounds, round, &ran);
            }
            "scale" => {
                let replicas = 1 + choice % 5;
                let ran = self
                    .machine
                    .kubectl(&format!("scale deployment/web --replicas={replicas}"));
                note(&mut self.replicas, replicas, &ran);
            }
            "write" => {
                let name = format!("written-{}", self.step);
                let create = format!("create configmap {name} --from-literal=step={}", self.step);
                if self.machine.kubectl(&create).code == 0 {
                    self.written.push(name);
                }
            }
            "fill the disk" => {
                if self.disk_is_full {
                    self.machine.disk.free();
                } else {
                    self.machine.disk.fill();
                }
                self.disk_is_full = !self.disk_is_full;
            }
            "jump the clock" => {
                let hours = i64::from(choice % 49) - 24;
                clock::set(&self.clock, hours * 3600);
            }
            "cut the power" => {
                self.machine.lose_power();
                self.up();
            }
            _ => unreachable!("{what}"),
        }
        std::thread::sleep(Duration::from_millis(pause_ms));
        // it is never away for more than two disasters
        if what != "kill the daemon" && self.daemon().is_none() {
            self.up();
        }
    }

    /// Starts the daemon, which must work on a full disk, too.
    fn up(&self) {
        self.machine.plimsoll("up").ok();
    }

    fn calm_down(&mut self) {
        if self.disk_is_full {
            self.machine.disk.free();
            self.disk_is_full = false;
        }
        clock::set(&self.clock, 0);
        self.up();
    }

    fn declared_is_actual(&self) {
        let machine = &self.machine;
        for name in &self.written {
            let step = machine
                .kubectl(&format!("get configmap {name} -o jsonpath={{.data.step}}"))
                .ok();
            assert_eq!(Some(&*step), name.strip_prefix("written-"));
        }
        let deployment = machine.get("deployment web");
        let round = &deployment["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"];
        let round: u32 = round
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("a round");
        assert!(self.rounds.contains(&round), "{round}: {:?}", self.rounds);
        let replicas = deployment["spec"]["replicas"].as_u64().expect("a number");
        assert!(
            self.replicas
                .iter()
                .any(|wanted| u64::from(*wanted) == replicas),
            "{replicas}: {:?}",
            self.replicas
        );
        let value = round.to_string();
        eventually("the pods are those that were declared", || {
            let pods = machine.get("pods");
            let pods = pods["items"].as_array().expect("a list");
            let good = pods.iter().filter(|pod| {
                let spec = &pod["spec"]["containers"][0];
                spec["env"][0]["value"] == *value
                    && pod["status"]["containerStatuses"][0]["ready"] == true
                    && pod["metadata"]["deletionTimestamp"] == Value::Null
            });
            let good = good.count() as u64;
            if good == replicas && pods.len() as u64 == replicas {
                Ok(())
            } else {
                Err(format!(
                    "{good} good of {}, {replicas} wanted\n{}",
                    pods.len(),
                    machine.kubectl("get pods -o wide")
                ))
            }
        });
        eventually("the deployment knows it", || {
            let status = &machine.get("deployment web")["status"];
            let counts = [
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
            ];
            if counts.iter().all(|count| status[count] == replicas) {
                Ok(())
            } else {
                let sets = machine.kubectl("get replicasets -o json").out;
                let pods = machine.kubectl("get pods -o json").out;
                Err(format!("{status:#}\n{sets}\n{pods}"))
            }
        });
        eventually("the container that always runs", || {
            let state = machine.container("keeper");
            if state == "running/0" {
                Ok(())
            } else {
                Err(state)
            }
        });
        let address = self.service();
        eventually("twenty answers, one after another", || {
            let bad = (0..20).find(|_| !answers(&address));
            bad.map_or(Ok(()), |n| Err(format!("no answer to request {n}")))
        });
        // one supervising process, one link and one record for each pod and each container, and nobody in other cgroups
        let sandboxes = replicas as usize + 1;
        let entries = |path: &str| {
            let path = machine.data_dir.join(path);
            fs::read_dir(path).map_or(0, |entries| entries.flatten().count())
        };
        eventually("nothing is left over", || {
            let links = run(command(
                "ip",
                &format!("-o link show master {}", machine.name()),
            ))
            .ok();
            let found = [
                ("supervising processes", self.supervisors().len(), sandboxes),
                ("links", links.lines().count(), sandboxes),
                ("sandboxes", entries("engine/sandboxes"), sandboxes),
                ("directories of pods", entries("node/pods"), sandboxes - 1),
            ];
            // a container that has ended keeps its files until its successor's successor starts
            let unknown = self.snapshots_of_nobody();
            if unknown.is_empty() && found.iter().all(|(_, there, wanted)| there == wanted) {
                Ok(())
            } else {
                Err(format!("{found:?}; snapshots of nobody: {unknown:?}"))
            }
        });
    }

    /// Mounted roots of containers that the engine does not know.
    fn snapshots_of_nobody(&self) -> Vec<String> {
        let snapshots = self.machine.data_dir.join("images/snapshots");
        let sandboxes = self.machine.data_dir.join("engine/sandboxes");
        let known = |id: &str| {
            let sandboxes = fs::read_dir(&sandboxes).into_iter().flatten().flatten();
            let mut containers =
                sandboxes.map(|sandbox| sandbox.path().join("containers").join(id));
            containers.any(|container| container.exists())
        };
        let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        let ids = points.filter_map(|point| Path::new(point).strip_prefix(&snapshots).ok());
        ids.filter_map(|path| path.iter().next()?.to_str())
            .filter(|id| !known(id))
            .map(str::to_owned)
            .collect()
    }

    fn daemon(&self) -> Option<i32> {
        let status = self.machine.plimsoll("status -o json").out;
        let status: Value = serde_json::from_str(&status).ok()?;
        status["pid"].as_i64()?.try_into().ok()
    }

    fn supervisors(&self) -> Vec<i32> {
        let directory = self.machine.data_dir.display().to_string();
        processes(|command, _| command.contains(" supervise ") && command.contains(&directory))
    }

    /// First processes of containers, and what they started.
    fn contained(&self) -> Vec<i32> {
        let name = self.machine.name();
        processes(|command, cgroup| cgroup.contains(&name) && !command.contains(" supervise "))
    }
}

/// After an acknowledged write nothing earlier counts; one that was not acknowledged may have arrived.
fn note(values: &mut Vec<u32>, value: u32, ran: &Ran) {
    if ran.code == 0 {
        values.clear();
    }
    values.push(value);
}

fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // it may have ended by itself
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn kill_one(pids: &[i32], choice: u32) {
    if let Some(pid) = pids.get(choice as usize % pids.len().max(1)) {
        kill(*pid);
    }
}

/// In order of their numbers; by command line and cgroups.
fn processes(is_wanted: impl Fn(&str, &str) -> bool) -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut found: Vec<i32> = pids
        .filter(|pid| {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            // who has no command line is dead
            !command.is_empty() && is_wanted(&command, &String::from_utf8_lossy(&read("cgroup")))
        })
        .collect();
    found.sort_unstable();
    found
}

fn answers(address: &SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /text HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().is_ok_and(|text| text.ends_with("hello"))
}

/// One client that asks again and again.
struct Load {
    thread: std::thread::JoinHandle<()>,
    stop: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; 2]>,
}

impl Load {
    fn on(address: &SocketAddr) -> Self {
        let (stop, counts) = (
            Arc::<AtomicBool>::default(),
            Arc::new([AtomicU64::new(0), AtomicU64::new(0)]),
        );
        let (address, stopped, counted) = (*address, stop.clone(), counts.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                counted[usize::from(!answers(&address))].fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self {
            thread,
            stop,
            counts,
        }
    }

    /// How many were answered, and how many not.
    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it ends");
        (
            self.counts[0].load(Ordering::Relaxed),
            self.counts[1].load(Ordering::Relaxed),
        )
    }
}
