//! kill -9 at any moment: what was acknowledged is there afterwards, whole, and what was not leaves nothing.
//!
//! The test starts its own program again as the victim, which imports, builds, tags and removes in a loop and says on its
//! standard output what it has been told is done.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::server::{Content, Server};
use common::{Home, archive, file, import, is_root};
use image::{BuildRequest, Images, Options};

const VICTIM: &str = "PLIMSOLL_TEST_VICTIM";
const REGISTRY: &str = "PLIMSOLL_TEST_REGISTRY";
const ROUNDS: u64 = 20;

/// Kills on drop: the victim never ends by itself.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test of its own: the victim's life, when the test below starts it.
#[test]
fn victim() {
    let (Some(directory), Some(registry)) = (std::env::var_os(VICTIM), std::env::var_os(REGISTRY))
    else {
        return;
    };
    let registry = registry.to_string_lossy().into_owned();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let directory = Path::new(&directory);
        let images = Images::open(directory.join("images"), Options::default()).unwrap();
        let round = directory.file_name().unwrap().to_string_lossy().into_owned();
        // The test harness may have begun a line.
        println!("\nopen {round}");
        let seed = std::process::id();
        for number in 0.. {
            let name = format!("plim-{seed}-{number}");
            let content = format!("{seed} {number}\n");
            match number % 4 {
                0 => drop(import(&images, &name, archive(&[file("etc/a", &content)])).await.unwrap()),
                1 => {
                    let request = BuildRequest {
                        dockerfile_text: Some(format!(
                            "FROM plim-base\nWORKDIR /w\nCOPY <<EOF /etc/a\n{content}EOF\nRUN echo {content}"
                        )),
                        context: directory.join("context"),
                        tags: vec![name.clone()],
                        ..BuildRequest::default()
                    };
                    let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
                    let drain = async { while receiver.recv().await.is_some() {} };
                    let (built, ()) = futures::join!(images.build(request, &common::Chroot, sender), drain);
                    built.unwrap();
                }
                2 => {
                    let pulled = format!("{registry}/app:latest");
                    images.pull(&pulled, None, None, image::silent()).await.unwrap();
                    images.tag(&pulled, &name).unwrap();
                    println!("have {name} pulled");
                    images.remove(&pulled, true).unwrap();
                    continue;
                }
                _ => {
                    let gone = format!("plim-{seed}-{}", number - 3);
                    println!("may lose {gone}");
                    images.remove(&gone, true).unwrap();
                    println!("gone {gone}");
                    continue;
                }
            }
            println!("have {name} {}", content.trim());
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_half_done_is_kept() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    std::fs::create_dir(home.path("context")).unwrap();
    let content = Content::new(&archive(&[file("etc/a", "pulled\n")]), "gzip");
    let server = Server::start(move |request| content.reply(request)).await;
    let registry = format!("127.0.0.1:{}", server.port);
    let directory = home.dir.path().to_path_buf();
    // The lock goes with the handle; `Home` keeps one on another directory to unmount at its end.
    let mut home = home;
    home.images = Images::open(directory.join("elsewhere"), Options::default()).unwrap();

    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut removed: BTreeSet<String> = BTreeSet::new();
    let (mut checked, mut whole) = (BTreeSet::new(), BTreeSet::new());
    let mut acknowledged = 0;
    let mut state = 20_u64;
    for round in 0..ROUNDS {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let pause = Duration::from_micros((state >> 33) % 60_000);
        let steps = (state >> 20) % 6;
        let mut uncertain = BTreeSet::new();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim", "--nocapture"])
            .env(VICTIM, &directory)
            .env(REGISTRY, &registry)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut victim = Victim(child);
        let mut lines = BufReader::new(victim.0.stdout.take().unwrap());
        let mut opened = String::new();
        while !opened.starts_with("open ") {
            opened.clear();
            assert_ne!(
                lines.read_line(&mut opened).unwrap(),
                0,
                "the victim ended in round {round}"
            );
        }
        let mut told = String::new();
        for _ in 0..steps {
            assert_ne!(lines.read_line(&mut told).unwrap(), 0, "round {round}");
        }
        std::thread::sleep(pause);
        drop(victim);
        lines.read_to_string(&mut told).unwrap();
        // The last line may be cut: then it was not told.
        for line in told
            .split_inclusive('\n')
            .filter_map(|l| l.strip_suffix('\n'))
        {
            if let Some(rest) = line.strip_prefix("have ") {
                let (name, content) = rest.split_once(' ').unwrap();
                known.insert(format!("{name}:latest"), format!("{content}\n"));
                acknowledged += 1;
            } else if let Some(name) = line.strip_prefix("may lose ") {
                uncertain.insert(format!("{name}:latest"));
            } else if let Some(name) = line.strip_prefix("gone ") {
                known.remove(&format!("{name}:latest"));
                removed.insert(format!("{name}:latest"));
            }
        }

        home.images = Images::open(directory.join("images"), Options::default()).unwrap();
        assert_eq!(home.leftovers(), Vec::<String>::new(), "round {round}");
        let listed: BTreeSet<String> = home
            .images
            .list()
            .into_iter()
            .flat_map(|i| i.tags)
            .collect();
        known.retain(|name, _| !uncertain.contains(name) || listed.contains(name));
        let last = round + 1 == ROUNDS;
        for (name, content) in &known {
            let image = home
                .images
                .resolve(name)
                .unwrap_or_else(|| panic!("round {round}: {name} is lost"));
            if checked.insert(name.clone()) || last {
                assert_eq!(
                    home.read(&image, "etc/a").as_deref(),
                    Some(content.as_str()),
                    "round {round}"
                );
            }
        }
        for image in home.images.list() {
            assert!(
                image.tags.iter().all(|t| !removed.contains(t)),
                "round {round}: {:?}",
                image.tags
            );
            if whole.insert(image.id.clone()) || last {
                home.images.prepare(&image, "plim-whole").unwrap();
                home.images.remove_snapshot("plim-whole").unwrap();
            }
        }
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(home.path("images/index.json")).unwrap())
                .unwrap();
        let layers = std::fs::read_dir(home.path("images/layers"))
            .unwrap()
            .count();
        assert_eq!(
            layers - 1,
            index["layers"].as_object().unwrap().len(),
            "round {round}: one is `empty`"
        );
        home.images = Images::open(directory.join("elsewhere"), Options::default()).unwrap();
    }
    assert!(acknowledged > ROUNDS, "the victim did too little");
    home.images = Images::open(directory.join("images"), Options::default()).unwrap();
}
