//! `plimsoll get`: the server's own tables, or objects as JSON or YAML.

use std::process::ExitCode;

use anyhow::{Context, Result};
use kube::Client;
use serde_json::{Value, json};

use super::kinds::Kinds;
use crate::cli::Output;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Prints what the server has; exit code 1 when there is nothing.
pub async fn get(
    client: &Client,
    kinds: &Kinds,
    kind: &str,
    name: Option<&str>,
    namespace: Option<&str>,
    output: Output,
) -> Result<ExitCode> {
    let mut found = Vec::new();
    for part in kind.split(',') {
        let (part, name) = match part.split_once('/') {
            Some((part, name)) => (part, Some(name)),
            None => (part, name),
        };
        let resource = kinds.find(part)?;
        let mut path = resource.path(namespace);
        if let Some(name) = name {
            path = format!("{path}/{name}");
        }
        let accept = if output == Output::Text {
            TABLE
        } else {
            "application/json"
        };
        let request = http::Request::get(path)
            .header("accept", accept)
            .body(Vec::new())?;
        found.push(client.request::<Value>(request).await?);
    }
    match output {
        Output::Text => {
            let mut rows = 0;
            for (index, table) in found.iter().enumerate() {
                if index > 0 {
                    println!();
                }
                rows += print_table(table, namespace.is_none())?;
            }
            if rows == 0 {
                eprintln!("No resources found");
            }
        }
        Output::Json => println!("{}", serde_json::to_string_pretty(&merged(found))?),
        Output::Yaml => print!("{}", serde_saphyr::to_string(&merged(found))?),
    }
    Ok(ExitCode::SUCCESS)
}

fn merged(mut found: Vec<Value>) -> Value {
    if found.len() == 1 {
        return found.remove(0);
    }
    let items: Vec<Value> = found
        .into_iter()
        .flat_map(|list| {
            list.get("items")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_else(|| vec![list.clone()])
        })
        .collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

fn print_table(table: &Value, with_namespace: bool) -> Result<usize> {
    let columns = table["columnDefinitions"]
        .as_array()
        .context("the server sent no table")?;
    let shown: Vec<usize> = (0..columns.len())
        .filter(|i| columns[*i]["priority"].as_i64().unwrap_or(0) == 0)
        .collect();
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut header: Vec<String> = shown
        .iter()
        .map(|i| columns[*i]["name"].as_str().unwrap_or("").to_uppercase())
        .collect();
    if with_namespace {
        header.insert(0, "NAMESPACE".into());
    }
    lines.push(header);
    let rows = table["rows"].as_array().cloned().unwrap_or_default();
    for row in &rows {
        let cell = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => "<none>".into(),
            other => other.to_string(),
        };
        let mut line: Vec<String> = shown.iter().map(|i| cell(&row["cells"][*i])).collect();
        if with_namespace {
            line.insert(0, cell(&row["object"]["metadata"]["namespace"]));
        }
        lines.push(line);
    }
    if !rows.is_empty() {
        print!("{}", aligned(&lines));
    }
    Ok(rows.len())
}

/// Columns padded to their widest cell, three spaces apart.
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let line = |cells: &[&str]| {
            cells
                .iter()
                .map(|cell| (*cell).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            aligned(&[line(&["NAME", "AGE"]), line(&["web-app", "3s"])]),
            "NAME      AGE\nweb-app   3s\n"
        );
    }
}
