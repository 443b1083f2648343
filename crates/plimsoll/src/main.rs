//! The `plimsoll` program: reads the command line and calls the room that does the work.
#![forbid(unsafe_code)]

mod backup;
mod cli;
mod cluster;
mod container;
mod daemon;
mod demo;
mod instance;
mod load;
mod status;
mod up;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Verb};
use instance::Instance;

fn main() -> ExitCode {
    // The supervising process of a sandbox and its short-lived children are this same program. They are told apart before
    // anything else happens: they must stay single-threaded and small.
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().and_then(|word| word.to_str()) {
        Some("supervise") => engine::supervise_main(arguments),
        Some("runtime") => engine::runtime_main(arguments),
        _ => {}
    }
    // writing into a closed pipe (`plimsoll ps | head`) ends the program quietly instead of with a panic
    quiet_on_closed_pipe();
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("plimsoll: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let data_dir = instance::data_dir(cli.data_dir.as_deref());
    match cli.verb {
        Verb::Up { foreground } => {
            need_root("up")?;
            if foreground {
                start_logging();
                daemon::run(&Instance::find_or_make(&data_dir)?)?;
            } else {
                up::up(&data_dir)?;
            }
        }
        Verb::Down { purge } => {
            need_root("down")?;
            up::down(&data_dir, purge)?;
        }
        Verb::Backup { file } => {
            need_root("backup")?;
            backup::backup(&data_dir, &file)?;
        }
        Verb::Restore { file } => {
            need_root("restore")?;
            backup::restore(&data_dir, &file)?;
        }
        Verb::Env => print!("{}", status::environment(&Instance::existing(&data_dir)?)),
        Verb::Status { output } => return status::show(&data_dir, output),
        Verb::Demo(options) => {
            need_root("demo")?;
            return demo::run(options);
        }
        Verb::LoadTest(options) => return load::run(&options),
        Verb::Cluster(verb) => return cluster::run(&Instance::existing(&data_dir)?, verb),
        Verb::Container(verb) => return container::run(&Instance::existing(&data_dir)?, verb),
    }
    Ok(ExitCode::SUCCESS)
}

fn need_root(verb: &str) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        anyhow::bail!(
            "`plimsoll {verb}` needs root: it makes namespaces, mounts, cgroups, network interfaces and files of other owners. Run it with sudo"
        );
    }
    Ok(())
}

fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PLIMSOLL_LOG").unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new("info,kube=warn,hyper=warn,tower=warn")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(|| Lossy(std::io::stderr()))
        .init();
}

/// What cannot be written is lost: a log on a full disk must not end what speaks to it.
struct Lossy(std::io::Stderr);

impl Write for Lossy {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

fn quiet_on_closed_pipe() {
    // Rust ignores SIGPIPE at start; `println!` then panics on a closed pipe. The hook turns that into a quiet exit.
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or_default();
        if text.contains("failed printing to stdout") {
            std::process::exit(141);
        }
        default(info);
    }));
}
