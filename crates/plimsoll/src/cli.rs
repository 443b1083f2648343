//! The command line: one definition, from which parser and help come.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::settings::Settings;
use crate::{cluster, container, demo, load, replay, service, why};

/// From a Dockerfile to a service that scales: builds images, runs containers, deploys, scales and routes, in one program.
#[derive(Parser)]
#[command(
    name = "plimsoll",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Directory of the instance (default /var/lib/plimsoll)
    #[arg(long, global = true, env = crate::instance::DATA_DIR_VARIABLE, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// File with settings (default /etc/plimsoll/config.yaml, if it is there)
    #[arg(long, global = true, env = crate::settings::FILE_VARIABLE, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: Verb,
}

// one of these is made in a run; boxing its fields would buy nothing
#[allow(clippy::large_enum_variant)]
#[derive(Subcommand)]
pub enum Verb {
    /// Start the daemon and return when it is ready
    Up {
        /// Stay in the foreground, for service managers
        #[arg(long)]
        foreground: bool,
        /// The daemon's own log, put aside when it has grown (for the process that `up` starts)
        #[arg(long, hide = true, value_name = "FILE")]
        log_file: Option<PathBuf>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Stop the daemon and everything that it runs
    Down {
        /// Also remove every file, link, rule and mount of the instance
        #[arg(long)]
        purge: bool,
        /// Seconds that containers get to end at most (default: as long as each was made with)
        #[arg(short, long, value_name = "SECONDS")]
        time: Option<u64>,
    },
    /// Run the controllers alone, against any API server; of several one works (Lease kube-system/kube-controller-manager)
    Controllers(ControllersOptions),
    /// Run the scheduler alone, against any API server; of several one works (Lease kube-system/kube-scheduler)
    Scheduler(RoleOptions),
    /// Run a node alone, against any API server; its instance is the data directory's
    Node {
        /// The API server, and as whom to ask it
        #[arg(long, env = "PLIMSOLL_KUBECONFIG", value_name = "FILE")]
        kubeconfig: PathBuf,
        #[command(flatten)]
        settings: Settings,
    },
    /// Write everything that the instance keeps into one file, while it runs or not
    Backup {
        /// The file to write; `-` is standard output
        file: PathBuf,
    },
    /// Make an instance from a backup, in a data directory that is empty
    Restore {
        /// The file to read; `-` is standard input
        file: PathBuf,
    },
    /// Print the shell lines that point kubectl, helm and docker here: eval "$(plimsoll env)"
    Env,
    /// Tell what runs, and why something does not
    Status {
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Check everything that this machine must offer, and say how to mend what it does not
    Doctor {
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Install this program as a service of systemd, with completions and man pages
    Install(service::InstallOptions),
    /// Remove what `install` has put on this machine; the data directory stays
    Uninstall(service::UninstallOptions),
    /// Print the completions of a shell
    Completions { shell: clap_complete::Shell },
    /// Print the man page, or write all of them into a directory
    Man {
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Show the main job live: build, deploy, load, scale up and down
    Demo(demo::Options),
    /// Drive HTTP load at an address and report rates and latencies
    #[command(name = "load-test")]
    LoadTest(load::Options),
    /// Tell why an autoscaler decided as it did, with the numbers
    Why(why::Options),
    /// Put the autoscaler's decisions to the test
    #[command(subcommand)]
    Autoscale(replay::Verb),
    #[command(flatten)]
    Cluster(cluster::Verb),
    #[command(flatten)]
    Container(container::Verb),
}

#[derive(clap::Args)]
pub struct RoleOptions {
    /// The API server, and as whom to ask it; `plimsoll up --without ROLE` writes one into its data directory
    #[arg(long, env = "PLIMSOLL_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// What is logged, for example `info` or `debug,hyper=warn` (default: info, less from libraries)
    #[arg(long, env = "PLIMSOLL_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// What the controllers need that run alone.
#[derive(clap::Args)]
pub struct ControllersOptions {
    #[command(flatten)]
    pub role: RoleOptions,
    /// Certificate of the authority that signs approved CertificateSigningRequests, PEM; without it they are left to others
    #[arg(long, value_name = "FILE", requires = "cluster_signing_key_file")]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// Its private key, PEM (PKCS#8)
    #[arg(long, value_name = "FILE", requires = "cluster_signing_cert_file")]
    pub cluster_signing_key_file: Option<PathBuf>,
}

/// For people, or for programs.
#[derive(Clone, Copy, Default, PartialEq, ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
    Yaml,
}
