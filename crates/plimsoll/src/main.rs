//! The `plimsoll` program: reads the command line and calls the room that does the work.
#![forbid(unsafe_code)]

mod backup;
mod cli;
mod cluster;
mod container;
mod daemon;
mod demo;
mod doctor;
mod instance;
mod load;
mod log;
mod manual;
mod ports;
mod replay;
mod service;
mod settings;
mod status;
mod up;
mod why;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, RoleOptions, Verb};
use instance::Instance;
use settings::{Role, Settings};

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
    match cli.verb {
        Verb::Completions { shell } => return manual::completions(shell),
        Verb::Man { dir } => return manual::pages(dir.as_deref()),
        Verb::Autoscale(verb) => return replay::run(verb),
        _ => {}
    }
    let file = Settings::read(cli.config.as_deref())?;
    let data_dir = instance::data_dir(cli.data_dir, &file);
    match cli.verb {
        Verb::Up {
            foreground,
            log_file,
            settings,
        } => {
            need_root("up")?;
            let settings = settings.over(file);
            if foreground {
                log::start(settings.log.as_deref(), log_file.as_deref());
                daemon::run(&Instance::find_or_make(&data_dir, &settings)?, &settings)?;
            } else {
                up::up(&data_dir, &settings, cli.config.as_deref())?;
            }
        }
        Verb::Controllers(options) => {
            let signing = options
                .cluster_signing_cert_file
                .as_deref()
                .zip(options.cluster_signing_key_file.as_deref());
            run_role(Role::Controllers, options.role, signing, &data_dir, file)?;
        }
        Verb::Scheduler(options) => {
            run_role(Role::Scheduler, options, None, &data_dir, file)?;
        }
        Verb::Node {
            kubeconfig,
            settings,
        } => {
            need_root("node")?;
            let settings = settings.over(file);
            log::start(settings.log.as_deref(), None);
            daemon::run_apart(Role::Node, &kubeconfig, None, &data_dir, &settings)?;
        }
        Verb::Doctor { output } => return doctor::run(&data_dir, &file, output),
        Verb::Install(options) => return service::install(&options),
        Verb::Uninstall(options) => return service::uninstall(&options),
        Verb::Completions { .. } | Verb::Man { .. } | Verb::Autoscale(_) => {}
        Verb::Down { purge, time } => {
            need_root("down")?;
            up::down(&data_dir, purge, time)?;
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
        Verb::Why(options) => return why::run(&Instance::existing(&data_dir)?, &options),
        Verb::LoadTest(options) => return load::run(&options),
        Verb::Cluster(verb) => return cluster::run(&Instance::existing(&data_dir)?, verb),
        Verb::Container(verb) => return container::run(&Instance::existing(&data_dir)?, verb),
    }
    Ok(ExitCode::SUCCESS)
}

fn run_role(
    role: Role,
    options: RoleOptions,
    signing: Option<(&Path, &Path)>,
    data_dir: &Path,
    file: Settings,
) -> anyhow::Result<()> {
    log::start(options.log.as_deref().or(file.log.as_deref()), None);
    daemon::run_apart(role, &options.kubeconfig, signing, data_dir, &file)
}

fn need_root(verb: &str) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        anyhow::bail!(
            "`plimsoll {verb}` needs root: it makes namespaces, mounts, cgroups, network interfaces and files of other owners. Run it with sudo"
        );
    }
    Ok(())
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
