//! `plimsoll demo`: the main job, live: an image is built, deployed, loaded, scaled up and down again, and removed.
//!
//! It uses only what every user has: this program's verbs, the Docker API and the Kubernetes API.

mod files;
mod screen;
mod watch;

use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::container::{self, build};
use crate::instance::Instance;
use crate::load::Second;
use crate::settings::Settings;
use crate::{cluster, up};
use screen::Screen;
use watch::Sample;

const READY: Duration = Duration::from_secs(60);
const LOAD_SECONDS: u64 = 25;
const LOAD_PER_SECOND: f64 = 24.0;
const FALL: Duration = Duration::from_secs(60);
const REPLICAS_MIN: i32 = 3;

/// How to show it.
#[derive(clap::Args)]
pub struct Options {
    /// Leave everything running at the end, and say how to use it
    #[arg(long)]
    keep: bool,
    /// A statically linked busybox, from which the base image is made
    #[arg(long, default_value = "/bin/busybox", value_name = "FILE")]
    busybox: PathBuf,
    /// Directory of the demo's instance, which must not exist yet (default: a temporary one)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Exit code 0 only if every stage happened.
pub fn run(options: Options) -> Result<ExitCode> {
    let temporary = tempfile::Builder::new()
        .prefix("plimsoll-demo-")
        .tempdir()?;
    let data_dir = options
        .dir
        .clone()
        .unwrap_or_else(|| temporary.path().join("data"));
    if data_dir.exists() {
        bail!(
            "{} is there already; the demo makes and removes its own directory, so name a new one",
            data_dir.display()
        );
    }
    let files = temporary.path().join("web-app");
    files::write(&files)?;
    let outcome = stages(&options, &data_dir, &files);
    if let Err(error) = &outcome {
        eprintln!("\nThe demo failed: {error:#}");
    }
    if options.keep && outcome.is_ok() {
        let kept = temporary.keep();
        println!(
            "\nEverything still runs. Use it:\n  eval \"$(plimsoll env --data-dir {dir})\"\n  kubectl get pods -w; docker images; plimsoll status\nThe manifests are in {files}.\nEnd it with: plimsoll down --purge --data-dir {dir}",
            dir = data_dir.display(),
            files = kept.join("web-app").display()
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!();
    let began = Instant::now();
    up::down(&data_dir, true, Some(5)).context("the demo could not clean up")?;
    println!("(removed in {} ms)", began.elapsed().as_millis());
    Ok(if outcome.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn stages(options: &Options, data_dir: &Path, files: &Path) -> Result<()> {
    heading(1, "Start the daemon");
    up::up(data_dir, &Settings::default(), None)?;
    let instance = Instance::existing(data_dir)?;

    heading(2, "Build my-web-app:latest from its Dockerfile");
    cluster::block_on(build_image(&instance, &options.busybox, files))??;

    heading(
        3,
        "Deploy it: 3 replicas, a Service, a HorizontalPodAutoscaler",
    );
    for file in [
        "deployment.yaml",
        "service.yaml",
        "hpa.yaml",
        "hpa-quick.yaml",
    ] {
        apply(&instance, &files.join(file))?;
    }
    let latest = watch::start(&instance)?;
    let began = Instant::now();
    wait_for(&latest, READY, "three replicas are not ready", |sample| {
        sample.ready >= REPLICAS_MIN
    })?;
    println!(
        "three replicas ready after {} ms",
        began.elapsed().as_millis()
    );
    wait_for(
        &latest,
        READY,
        "the autoscaler has no CPU figures",
        |sample| sample.cpu_percent.is_some(),
    )?;

    heading(4, "Load it, and see it scale");
    let address = cluster::block_on(service_address(&instance))??;
    let mut screen = Screen::new(std::io::stdout().is_terminal());
    let mut peak = loaded(&address, &latest, &mut screen)?;
    if peak <= REPLICAS_MIN {
        bail!("the load did not raise the number of ready replicas above {REPLICAS_MIN}");
    }
    let deadline = Instant::now() + FALL;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let sample = latest.lock().clone();
        peak = peak.max(sample.ready);
        screen.show(&sample, None);
        if sample.wanted == REPLICAS_MIN && sample.ready == REPLICAS_MIN {
            break;
        }
        if Instant::now() > deadline {
            bail!(
                "the replicas did not fall back to {REPLICAS_MIN} within {} s after the load",
                FALL.as_secs()
            );
        }
    }
    screen.end();
    println!("\nWhat each decision was based on:");
    for line in latest.lock().decisions.iter() {
        println!("  {line}");
    }
    println!("\nFrom {REPLICAS_MIN} replicas to {peak} and back.");
    Ok(())
}

fn heading(number: u32, text: &str) {
    println!("\n{number}. {text}\n");
}

async fn build_image(instance: &Instance, busybox: &Path, files: &Path) -> Result<()> {
    let client = container::Client::new(instance);
    let base = container::busybox_root(busybox)?;
    container::import_tar(&client, base, "busybox:static").await?;
    let began = Instant::now();
    let id = build::build_with(
        &client,
        &build::Options::simple(files.to_owned(), "my-web-app:latest"),
        |text| print!("{text}"),
    )
    .await?;
    println!("{id} in {} ms", began.elapsed().as_millis());
    Ok(())
}

fn apply(instance: &Instance, file: &Path) -> Result<()> {
    let verb = cluster::Verb::Apply {
        files: vec![file.to_owned()],
        namespace: "default".into(),
    };
    if cluster::run(instance, verb)? != ExitCode::SUCCESS {
        bail!("{} could not be applied", file.display());
    }
    Ok(())
}

fn wait_for(
    latest: &Mutex<Sample>,
    limit: Duration,
    otherwise: &str,
    holds: impl Fn(&Sample) -> bool,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !holds(&latest.lock()) {
        if Instant::now() > deadline {
            let troubles = latest.lock().troubles.join("; ");
            bail!("{otherwise} after {} s; {troubles}", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

async fn service_address(instance: &Instance) -> Result<String> {
    let client: Client = cluster::client(instance).await?;
    let service = Api::<Service>::default_namespaced(client)
        .get("web-app")
        .await?;
    service
        .spec
        .and_then(|spec| spec.cluster_ip)
        .filter(|ip| !ip.is_empty())
        .context("the service has no address")
}

/// Runs the load from a process of its own; returns the highest number of ready replicas.
fn loaded(address: &str, latest: &Mutex<Sample>, screen: &mut Screen) -> Result<i32> {
    let child = Command::new(std::env::current_exe()?)
        .arg("load-test")
        .arg(format!("http://{address}/cgi-bin/work"))
        .args([
            "--rate",
            &LOAD_PER_SECOND.to_string(),
            "--seconds",
            &LOAD_SECONDS.to_string(),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the load generator")?;
    let mut generator = Generator(child);
    let output = generator
        .0
        .stdout
        .take()
        .context("the load generator has an output")?;
    let (mut peak, mut answered) = (0, 0);
    for line in BufReader::new(output).lines() {
        let second: Second =
            serde_json::from_str(&line?).context("the load generator reports in JSON")?;
        let sample = latest.lock().clone();
        peak = peak.max(sample.ready);
        answered += second.answered;
        screen.show(&sample, Some(&second));
    }
    let status = generator.0.wait()?;
    if !status.success() || answered == 0 {
        bail!("the service at {address} answered nothing");
    }
    Ok(peak)
}

/// Ends the load generator with the demo, whatever happens.
struct Generator(Child);

impl Drop for Generator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
