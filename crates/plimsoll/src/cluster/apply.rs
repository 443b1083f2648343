//! `plimsoll apply`: objects become what the files say, and what an earlier apply said and this one does not is taken away.
//!
//! The server does the work (server-side apply). What kubectl, or an earlier version of this program, applied from the client's
//! side is taken over first ([`ownership`]), and kubectl's `last-applied-configuration` annotation is kept, so that both can be used
//! on the same objects.

mod outcome;
mod ownership;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Map, Value, json};

use super::kinds::Kinds;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Applies every document; goes on after a failure and tells at the end by the exit code.
pub async fn apply(
    client: &Client,
    kinds: &Kinds,
    files: &[PathBuf],
    namespace: &str,
) -> Result<ExitCode> {
    let mut failed = false;
    for document in documents(files)? {
        match apply_one(client, kinds, &document.value, namespace).await {
            Ok(line) => println!("{line}"),
            Err(error) => {
                failed = true;
                eprintln!("{}: {error:#}", document.place);
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Deletes what the documents name, the last one first.
pub async fn delete(
    client: &Client,
    kinds: &Kinds,
    files: &[PathBuf],
    namespace: &str,
) -> Result<ExitCode> {
    let mut failed = false;
    for document in documents(files)?.into_iter().rev() {
        let outcome = async {
            let (kind, name) = (
                kinds.of(
                    text(&document.value, "/apiVersion")?,
                    text(&document.value, "/kind")?,
                )?,
                text(&document.value, "/metadata/name")?,
            );
            let namespace = document
                .value
                .pointer("/metadata/namespace")
                .and_then(Value::as_str)
                .unwrap_or(namespace);
            kind.api(client, Some(namespace))
                .delete(name, &DeleteParams::background())
                .await?;
            anyhow::Ok(format!("{} \"{name}\" deleted", kind.title()))
        };
        match outcome.await {
            Ok(line) => println!("{line}"),
            Err(error) => {
                failed = true;
                eprintln!("{}: {error:#}", document.place);
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

struct Document {
    value: Value,
    /// `FILE` or `FILE, document 2`: for error messages.
    place: String,
}

fn documents(files: &[PathBuf]) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for file in &manifests(files)? {
        let text = read(file)?;
        // `defaultMode: 0755` is octal, as the API server reads it.
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let parsed: Vec<Value> = serde_saphyr::from_multiple_with_options(&text, options)
            .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
        let parsed: Vec<Value> = parsed
            .into_iter()
            .filter(|value| !value.is_null())
            .collect();
        let several = parsed.len() > 1;
        for (index, value) in parsed.into_iter().enumerate() {
            let place = if several {
                format!("{}, document {}", file.display(), index + 1)
            } else {
                file.display().to_string()
            };
            match value
                .get("items")
                .filter(|_| value.get("kind").and_then(Value::as_str) == Some("List"))
            {
                Some(Value::Array(items)) => {
                    documents.extend(items.iter().map(|item| Document {
                        value: item.clone(),
                        place: place.clone(),
                    }));
                }
                _ => documents.push(Document { value, place }),
            }
        }
    }
    if documents.is_empty() {
        bail!(
            "no objects in {}",
            files
                .iter()
                .map(|file| file.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    Ok(documents)
}

/// The files, and in place of a directory those in it that manifests are called like, by name, as kubectl takes them.
fn manifests(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in given {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let cannot = || format!("cannot read {}", path.display());
        let mut within = Vec::new();
        for entry in std::fs::read_dir(path).with_context(cannot)? {
            let entry = entry.with_context(cannot)?.path();
            let ending = entry.extension().and_then(|ending| ending.to_str());
            if matches!(ending, Some("yaml" | "yml" | "json")) && entry.is_file() {
                within.push(entry);
            }
        }
        within.sort();
        files.append(&mut within);
    }
    Ok(files)
}

fn read(file: &Path) -> Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin()
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
    } else {
        let opened =
            std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        opened
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .with_context(|| format!("cannot read {}", file.display()))?;
    }
    if text.len() as u64 > FILE_BYTES_MAX {
        bail!(
            "{} has more than {} MiB: give it in parts",
            file.display(),
            FILE_BYTES_MAX >> 20
        );
    }
    Ok(text)
}

fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("{} is missing", pointer[1..].replace('/', ".")))
}

async fn apply_one(
    client: &Client,
    kinds: &Kinds,
    manifest: &Value,
    namespace: &str,
) -> Result<String> {
    let kind = kinds.of(text(manifest, "/apiVersion")?, text(manifest, "/kind")?)?;
    let name = text(manifest, "/metadata/name")?;
    let namespace = manifest
        .pointer("/metadata/namespace")
        .and_then(Value::as_str)
        .unwrap_or(namespace);
    let api = kind.api(client, Some(namespace));
    let wanted = annotated(manifest)?;
    let before = api.get_opt(name).await?;
    if let Some(live) = &before
        && let Some(entries) = ownership::adopted(live, text(manifest, "/apiVersion")?)
    {
        let version = &live.metadata.resource_version;
        let patch = json!({"metadata": {"managedFields": entries, "resourceVersion": version}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .context("cannot take over the fields that were applied before")?;
    }
    let params = PatchParams {
        field_manager: Some(ownership::MANAGER.into()),
        force: true,
        field_validation: Some(kube::api::ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let after = api.patch(name, &params, &Patch::Apply(&wanted)).await?;
    let word = match before {
        None => "created",
        Some(before) if outcome::is_unchanged(&wanted, &before, &after) => "unchanged",
        Some(_) => "configured",
    };
    Ok(format!("{}/{name} {word}", kind.title()))
}

/// The manifest with the annotation that remembers it, for kubectl.
fn annotated(manifest: &Value) -> Result<Value> {
    let mut applied = manifest.clone();
    if let Some(annotations) = applied
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.remove(LAST_APPLIED);
    }
    // who owns what is the server's to say, also of an object that was read there
    if let Some(metadata) = applied
        .pointer_mut("/metadata")
        .and_then(Value::as_object_mut)
    {
        metadata.remove("managedFields");
    }
    let mut wanted = applied.clone();
    let metadata = wanted
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .context("metadata is missing")?;
    let annotations = metadata
        .entry("annotations")
        .or_insert_with(|| Value::Object(Map::new()));
    if annotations.is_null() {
        *annotations = json!({});
    }
    let remembered: BTreeMap<&str, String> = [(LAST_APPLIED, applied.to_string() + "\n")].into();
    for (key, value) in remembered {
        annotations
            .as_object_mut()
            .context("metadata.annotations is not a map")?
            .insert(key.to_owned(), value.into());
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_several_documents_lists_and_rubbish() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-apply-")
            .tempdir()
            .expect("directory");
        let file = directory.path().join("a.yaml");
        std::fs::write(
            &file,
            "---\nkind: A\n---\n---\nkind: List\nitems: [{kind: B}, {kind: C}]\n",
        )
        .expect("written");
        let found = documents(std::slice::from_ref(&file)).expect("parsed");
        assert_eq!(
            found
                .iter()
                .map(|d| d.value["kind"].as_str().unwrap_or(""))
                .collect::<Vec<_>>(),
            ["A", "B", "C"]
        );
        assert!(found[2].place.ends_with("document 2"), "{}", found[2].place);
        std::fs::write(&file, "mode: 0755\nother: 755\n").expect("written");
        let found = documents(std::slice::from_ref(&file)).expect("parsed");
        assert_eq!(found[0].value, json!({"mode": 0o755, "other": 755}));
        std::fs::write(&file, "a: [").expect("written");
        assert!(
            documents(std::slice::from_ref(&file))
                .err()
                .expect("malformed")
                .to_string()
                .contains("a.yaml")
        );
        std::fs::write(&file, "# nothing\n").expect("written");
        assert!(documents(std::slice::from_ref(&file)).is_err());
        // a directory: what manifests are called like, by name
        for (name, text) in [
            ("b.yml", "kind: B"),
            ("a.yaml", "kind: A"),
            ("c.txt", "x: ["),
        ] {
            std::fs::write(directory.path().join(name), text).expect("written");
        }
        let found = documents(&[directory.path().to_owned()]).expect("parsed");
        let kinds: Vec<_> = found
            .iter()
            .map(|found| found.value["kind"].as_str())
            .collect();
        assert_eq!(kinds, [Some("A"), Some("B")]);
    }
}
