//! `plimsoll exec`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::json;

use super::client::{Client, encode};
use super::signals;
use super::streams::{RawMode, copy};

/// As docker's.
#[derive(clap::Args)]
pub struct Options {
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    #[arg(short, long)]
    env: Vec<String>,
    #[arg(short, long)]
    workdir: Option<String>,
    #[arg(short, long)]
    user: Option<String>,
    container: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Exits with the command's own code.
pub async fn exec(client: &Client, options: &Options) -> Result<ExitCode> {
    let body = json!({
        "AttachStdin": options.interactive, "AttachStdout": true, "AttachStderr": true, "Tty": options.tty,
        "Cmd": options.command, "Env": options.env,
        "WorkingDir": options.workdir.clone().unwrap_or_default(), "User": options.user.clone().unwrap_or_default(),
    });
    let created = client
        .post_json(
            &format!("/containers/{}/exec", encode(&options.container)),
            &body,
        )
        .await?;
    let id = created["Id"]
        .as_str()
        .context("the server gave no exec ID")?;
    let stream = client
        .hijack(
            &format!("/exec/{id}/start"),
            &json!({ "Detach": false, "Tty": options.tty }),
        )
        .await?;
    {
        let _raw = (options.tty && options.interactive).then(RawMode::enter);
        let terminal = format!("/exec/{id}");
        tokio::select! {
            done = copy(stream, options.tty, options.interactive) => done?,
            failed = signals::follow_size(client, &terminal), if options.tty => failed?,
        }
    }
    let code = client.get_json(&format!("/exec/{id}/json")).await?["ExitCode"]
        .as_i64()
        .unwrap_or(0);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
