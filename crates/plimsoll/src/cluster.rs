//! The cluster verbs: apply, get, delete and scale, over the Kubernetes API like any other client.

mod apply;
mod kinds;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::json;

use crate::cli::Output;
use crate::instance::Instance;
use kinds::Kinds;
pub use table::aligned;

/// What kubectl users know; kubectl itself works just as well.
#[derive(Subcommand)]
pub enum Verb {
    /// Create or change objects so that they are as the files say
    Apply {
        /// Files with YAML or JSON; - reads standard input
        #[arg(short, long = "filename", value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
    /// List objects, or show one
    Get {
        /// pods, deploy, svc, hpa, ...; several separated by commas; KIND/NAME works too
        kind: String,
        name: Option<String>,
        #[arg(short, long, default_value = "default")]
        namespace: String,
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Delete an object, or what files name
    Delete {
        kind: Option<String>,
        name: Option<String>,
        #[arg(short, long = "filename", value_name = "FILE")]
        files: Vec<PathBuf>,
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
    /// Set the number of replicas: plimsoll scale deployment/web --replicas 5
    Scale {
        /// KIND/NAME
        target: String,
        #[arg(long)]
        replicas: u32,
        #[arg(short, long, default_value = "default")]
        namespace: String,
    },
}

/// Does what the verb says and prints what kubectl would.
pub fn run(instance: &Instance, verb: Verb) -> Result<ExitCode> {
    block_on(async {
        let client = client(instance).await?;
        let kinds = Kinds::discover(&client)
            .await
            .with_context(|| unreachable(instance))?;
        match verb {
            Verb::Apply { files, namespace } => {
                apply::apply(&client, &kinds, &files, &namespace).await
            }
            Verb::Get {
                kind,
                name,
                namespace,
                all_namespaces,
                output,
            } => {
                let namespace = (!all_namespaces).then_some(namespace.as_str());
                table::get(&client, &kinds, &kind, name.as_deref(), namespace, output).await
            }
            Verb::Delete {
                kind,
                name,
                files,
                namespace,
            } => {
                if !files.is_empty() {
                    return apply::delete(&client, &kinds, &files, &namespace).await;
                }
                let (kind, name) = target(kind.as_deref().unwrap_or(""), name.as_deref())?;
                delete(&client, &kinds, &kind, &name, &namespace).await
            }
            Verb::Scale {
                target: text,
                replicas,
                namespace,
            } => {
                let (kind, name) = target(&text, None)?;
                let resource = kinds.find(&kind)?;
                let api: Api<DynamicObject> = resource.api(&client, Some(&namespace));
                let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
                api.patch_scale(&name, &PatchParams::default(), &patch)
                    .await?;
                println!("{}/{name} scaled", resource.title());
                Ok(ExitCode::SUCCESS)
            }
        }
    })?
}

async fn delete(
    client: &Client,
    kinds: &Kinds,
    kind: &str,
    name: &str,
    namespace: &str,
) -> Result<ExitCode> {
    let resource = kinds.find(kind)?;
    let api: Api<DynamicObject> = resource.api(client, Some(namespace));
    api.delete(name, &DeleteParams::background()).await?;
    println!("{} \"{name}\" deleted", resource.title());
    Ok(ExitCode::SUCCESS)
}

/// `KIND/NAME`, or the two apart.
fn target(kind: &str, name: Option<&str>) -> Result<(String, String)> {
    match (kind.split_once('/'), name) {
        (Some((kind, name)), None) => Ok((kind.to_owned(), name.to_owned())),
        (None, Some(name)) if !kind.is_empty() => Ok((kind.to_owned(), name.to_owned())),
        _ => bail!("name one object as KIND/NAME or KIND NAME"),
    }
}

/// Runs a future to its end on a small runtime of its own.
pub fn block_on<F: Future>(future: F) -> Result<F::Output> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let output = runtime.block_on(future);
    // a read of standard input that is still waiting must not keep the program
    runtime.shutdown_background();
    Ok(output)
}

/// A client with the instance's own kubeconfig, whatever KUBECONFIG says.
pub async fn client(instance: &Instance) -> Result<Client> {
    let path = instance.kubeconfig();
    let file = Kubeconfig::read_from(&path).with_context(|| unreachable(instance))?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn unreachable(instance: &Instance) -> String {
    format!(
        "the Kubernetes API at {} does not answer; is the daemon up? `plimsoll status` tells",
        instance.api_url()
    )
}
