//! `plimsoll ps`, `images`, `logs` and `inspect`.

use std::process::ExitCode;

use anyhow::Result;
use futures::TryStreamExt;
use http::Method;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio_util::io::StreamReader;

use super::client::{Client, encode, full};
use super::streams::demultiplex;
use crate::cli::Output;
use crate::cluster::aligned;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}

fn print_as(value: &Value, output: Output) -> Result<()> {
    match output {
        Output::Yaml => print!("{}", serde_saphyr::to_string(value)?),
        _ => println!("{}", serde_json::to_string_pretty(value)?),
    }
    Ok(())
}

pub async fn ps(client: &Client, all: bool, quiet: bool, output: Output) -> Result<ExitCode> {
    let found = client
        .get_json(&format!("/containers/json?all={}", u8::from(all)))
        .await?;
    if output != Output::Text {
        print_as(&found, output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = found.as_array().cloned().unwrap_or_default();
    if quiet {
        rows.iter()
            .for_each(|row| println!("{}", short(text(row, "Id"))));
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = vec![
        [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "STATUS",
            "PORTS",
            "NAMES",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for row in &rows {
        let names: Vec<&str> = row["Names"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|n| n.as_str())
            .map(|n| n.trim_start_matches('/'))
            .collect();
        let command: String = text(row, "Command").chars().take(20).collect();
        lines.push(vec![
            short(text(row, "Id")),
            text(row, "Image").to_owned(),
            format!("{command:?}"),
            text(row, "Status").to_owned(),
            ports(&row["Ports"]),
            names.join(","),
        ]);
    }
    print!("{}", aligned(&lines));
    Ok(ExitCode::SUCCESS)
}

fn ports(list: &Value) -> String {
    let port = |entry: &Value| {
        let inner = format!("{}/{}", entry["PrivatePort"], text(entry, "Type"));
        match entry["PublicPort"].as_u64() {
            Some(public) => format!("{}:{public}->{inner}", text(entry, "IP")),
            None => inner,
        }
    };
    list.as_array()
        .into_iter()
        .flatten()
        .map(port)
        .collect::<Vec<_>>()
        .join(", ")
}

pub async fn images(client: &Client, quiet: bool, output: Output) -> Result<ExitCode> {
    let found = client.get_json("/images/json").await?;
    if output != Output::Text {
        print_as(&found, output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = vec![
        ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for row in found.as_array().into_iter().flatten() {
        let id = short(text(row, "Id"));
        if quiet {
            println!("{id}");
            continue;
        }
        let tags: Vec<&str> = row["RepoTags"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let tags = if tags.is_empty() {
            vec!["<none>:<none>"]
        } else {
            tags
        };
        for tag in tags {
            let (name, tag) = tag.rsplit_once(':').unwrap_or((tag, "<none>"));
            let created = jiff::Timestamp::from_second(row["Created"].as_i64().unwrap_or(0))
                .unwrap_or_default();
            let size = row["Size"].as_u64().unwrap_or(0) as f64 / 1e6;
            lines.push(vec![
                name.to_owned(),
                tag.to_owned(),
                id.clone(),
                format!("{created:.0}"),
                format!("{size:.1}MB"),
            ]);
        }
    }
    if !quiet {
        print!("{}", aligned(&lines));
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn logs(
    client: &Client,
    container: &str,
    follow: bool,
    tail: &str,
    timestamps: bool,
) -> Result<ExitCode> {
    let name = encode(container);
    let tty = client.get_json(&format!("/containers/{name}/json")).await?["Config"]["Tty"]
        .as_bool()
        .unwrap_or(false);
    let path = format!(
        "/containers/{name}/logs?stdout=1&stderr=1&follow={follow}&timestamps={timestamps}&tail={}",
        encode(tail)
    );
    let response = client.request(Method::GET, &path, full(""), &[]).await?;
    let mut reader = StreamReader::new(
        response
            .into_body()
            .into_data_stream()
            .map_err(std::io::Error::other),
    );
    if tty {
        tokio::io::copy(&mut reader, &mut tokio::io::stdout()).await?;
    } else {
        demultiplex(&mut reader).await?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn inspect(client: &Client, name: &str) -> Result<ExitCode> {
    let encoded = encode(name);
    let found = match client
        .get_json(&format!("/containers/{encoded}/json"))
        .await
    {
        Ok(found) => found,
        Err(_) => client.get_json(&format!("/images/{encoded}/json")).await?,
    };
    print_as(&Value::Array(vec![found]), Output::Json)?;
    Ok(ExitCode::SUCCESS)
}
