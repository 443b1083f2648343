//! The container verbs: build, run, ps and their kin, over the Docker Engine API like any other client.

pub mod build;
mod client;
mod exec;
mod images;
mod list;
mod run;
mod signals;
mod streams;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

pub use client::Client;
pub use images::{busybox_root, import_tar};
pub use streams::terminal_size;

use crate::cli::Output;
use crate::cluster::block_on;
use crate::instance::Instance;

/// What docker users know; the docker command itself works just as well.
// one of these is made in a run; boxing its fields would buy nothing
#[allow(clippy::large_enum_variant)]
#[derive(Subcommand)]
pub enum Verb {
    /// Build an image from a Dockerfile
    Build(build::Options),
    /// Run a command in a new container
    Run(run::Options),
    /// List containers
    Ps {
        /// Also those that have ended
        #[arg(short, long)]
        all: bool,
        /// Only the IDs
        #[arg(short, long)]
        quiet: bool,
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show what a container printed
    Logs {
        container: String,
        #[arg(short, long)]
        follow: bool,
        /// Only the last so many lines
        #[arg(long, default_value = "all")]
        tail: String,
        #[arg(short, long)]
        timestamps: bool,
    },
    /// Run a command in a running container
    Exec(exec::Options),
    /// Stop containers: the stop signal, then after the grace period the kill
    Stop {
        #[arg(required = true)]
        containers: Vec<String>,
        /// Seconds of grace (default: what the container was made with, else 10); -1 waits without end
        #[arg(short, long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1..))]
        time: Option<i32>,
    },
    /// Start containers that were stopped or only created
    Start {
        #[arg(required = true)]
        containers: Vec<String>,
    },
    /// Remove containers
    Rm {
        #[arg(required = true)]
        containers: Vec<String>,
        /// Also running ones
        #[arg(short, long)]
        force: bool,
    },
    /// List images
    Images {
        #[arg(short, long)]
        quiet: bool,
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Remove images
    Rmi {
        #[arg(required = true)]
        images: Vec<String>,
        #[arg(short, long)]
        force: bool,
    },
    /// Give an image another name
    Tag { source: String, target: String },
    /// Fetch an image from a registry
    Pull { image: String },
    /// Make an image of one layer from a tar file, or `busybox:static` from a static busybox
    Import {
        /// A tar file; - reads standard input
        file: PathBuf,
        /// Name of the image
        reference: String,
        /// The file is a statically linked busybox: lay it out as a root file system
        #[arg(long)]
        busybox: bool,
    },
    /// Load images from the tar that `save` or `docker save` wrote
    Load {
        #[arg(short, long, value_name = "FILE")]
        input: PathBuf,
    },
    /// Show everything about a container or an image as JSON
    Inspect { name: String },
}

/// Does what the verb says.
pub fn run(instance: &Instance, verb: Verb) -> Result<ExitCode> {
    let client = Client::new(instance);
    block_on(async {
        match verb {
            Verb::Build(options) => build::build(&client, &options).await,
            Verb::Run(options) => run::run(&client, &options).await,
            Verb::Exec(options) => exec::exec(&client, &options).await,
            Verb::Ps { all, quiet, output } => list::ps(&client, all, quiet, output).await,
            Verb::Images { quiet, output } => list::images(&client, quiet, output).await,
            Verb::Logs {
                container,
                follow,
                tail,
                timestamps,
            } => list::logs(&client, &container, follow, &tail, timestamps).await,
            Verb::Stop { containers, time } => {
                let time = time.map(|time| format!("?t={time}")).unwrap_or_default();
                each(&containers, async |name| {
                    client.post(&format!("/containers/{name}/stop{time}")).await
                })
                .await
            }
            Verb::Start { containers } => {
                each(&containers, async |name| {
                    client.post(&format!("/containers/{name}/start")).await
                })
                .await
            }
            Verb::Rm { containers, force } => {
                each(&containers, async |name| {
                    client
                        .delete(&format!("/containers/{name}?force={force}"))
                        .await
                })
                .await
            }
            Verb::Rmi { images, force } => images::remove(&client, &images, force).await,
            Verb::Tag { source, target } => images::tag(&client, &source, &target).await,
            Verb::Pull { image } => images::pull(&client, &image).await,
            Verb::Import {
                file,
                reference,
                busybox,
            } => images::import(&client, &file, &reference, busybox).await,
            Verb::Load { input } => images::load(&client, &input).await,
            Verb::Inspect { name } => list::inspect(&client, &name).await,
        }
    })?
}

/// Does one thing to each, prints the names that went well, goes on after a failure.
async fn each(
    names: &[String],
    mut act: impl AsyncFnMut(String) -> Result<()>,
) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match act(client::encode(name)).await {
            Ok(()) => println!("{name}"),
            Err(error) => {
                eprintln!("{error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
