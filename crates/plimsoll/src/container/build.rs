//! `plimsoll build`: the context goes to the server as a tar, its progress comes back.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::{Map, Value};

use super::client::{Client, encode, full, messages};

/// As docker's.
#[derive(clap::Args)]
pub struct Options {
    /// Directory of the build context
    context: PathBuf,
    /// Name and optionally a tag: NAME:TAG
    #[arg(short, long = "tag")]
    tags: Vec<String>,
    /// Dockerfile (default: CONTEXT/Dockerfile)
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Set a variable of an ARG: NAME=VALUE
    #[arg(long = "build-arg")]
    build_args: Vec<String>,
    /// Stage to build
    #[arg(long)]
    target: Option<String>,
    /// Do every step again
    #[arg(long)]
    no_cache: bool,
    /// Print only the image's ID
    #[arg(short, long)]
    quiet: bool,
}

impl Options {
    /// A build of `context` under one name.
    pub fn simple(context: PathBuf, tag: &str) -> Self {
        Self {
            context,
            tags: vec![tag.into()],
            file: None,
            build_args: Vec::new(),
            target: None,
            no_cache: false,
            quiet: false,
        }
    }
}

/// Prints progress as it comes; a failed build is an error with the server's message.
pub async fn build(client: &Client, options: &Options) -> Result<ExitCode> {
    let image = build_with(client, options, |text| {
        if !options.quiet {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes());
            let _ = out.flush();
        }
    })
    .await?;
    if options.quiet {
        println!("{image}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds; `progress` gets the text as it comes. Returns the image's ID.
pub async fn build_with(
    client: &Client,
    options: &Options,
    mut progress: impl FnMut(&str),
) -> Result<String> {
    if !options.context.is_dir() {
        bail!(
            "the build context {} is no directory",
            options.context.display()
        );
    }
    let (dockerfile, extra) = dockerfile(options)?;
    let (context, name) = (options.context.clone(), dockerfile.clone());
    let tar =
        tokio::task::spawn_blocking(move || pack(&context, &name, extra.as_deref())).await??;
    let arguments: Map<String, Value> = options
        .build_args
        .iter()
        .map(|argument| match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.into()),
            None => (
                argument.clone(),
                std::env::var(argument).map_or(Value::Null, Value::from),
            ),
        })
        .collect();
    let mut query = format!(
        "/build?dockerfile={}&rm=1&buildargs={}",
        encode(&dockerfile),
        encode(&Value::Object(arguments).to_string())
    );
    for tag in &options.tags {
        query += &format!("&t={}", encode(tag));
    }
    if let Some(target) = &options.target {
        query += &format!("&target={}", encode(target));
    }
    if options.no_cache {
        query += "&nocache=1";
    }
    let response = client
        .request(
            Method::POST,
            &query,
            full(tar),
            &[("content-type", "application/x-tar")],
        )
        .await?;
    let mut id = String::new();
    messages(response, |message| {
        if let Some(text) = message["stream"].as_str() {
            progress(text);
        }
        if let Some(status) = message["status"].as_str() {
            progress(&format!("{status}\n"));
        }
        if let Some(image) = message["aux"]["ID"].as_str() {
            id = image.to_owned();
        }
    })
    .await?;
    Ok(id)
}

/// Where the Dockerfile lies in the tar, and its text if it lies outside of the context.
fn dockerfile(options: &Options) -> Result<(String, Option<Vec<u8>>)> {
    let Some(file) = &options.file else {
        return Ok(("Dockerfile".into(), None));
    };
    let context = options.context.canonicalize()?;
    let path = file
        .canonicalize()
        .with_context(|| format!("cannot find the Dockerfile {}", file.display()))?;
    match path.strip_prefix(&context) {
        Ok(inside) => Ok((inside.to_string_lossy().into_owned(), None)),
        Err(_) => Ok((".plimsoll-dockerfile".into(), Some(std::fs::read(&path)?))),
    }
}

/// The context without what .dockerignore names; the Dockerfile is always there.
fn pack(context: &Path, dockerfile: &str, extra: Option<&[u8]>) -> Result<Vec<u8>> {
    // one that cannot be read would let everything into the image
    let ignore = match std::fs::read(context.join(".dockerignore")) {
        Ok(text) => Some(
            image::IgnorePatterns::parse(&String::from_utf8_lossy(&text))
                .map_err(|error| anyhow::anyhow!(".dockerignore: {error}"))?,
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context("cannot read .dockerignore"),
    };
    let mut tar = tar::Builder::new(Vec::new());
    tar.follow_symlinks(false);
    let mut stack = vec![PathBuf::new()];
    while let Some(directory) = stack.pop() {
        let full = context.join(&directory);
        let mut entries: Vec<_> = std::fs::read_dir(&full)
            .with_context(|| format!("cannot read {}", full.display()))?
            .collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = directory.join(entry.file_name());
            let kind = entry.file_type()?;
            let name = path.to_string_lossy();
            let ignored = ignore.as_ref().is_some_and(|ignore| ignore.excludes(&name))
                && name != dockerfile
                && name != ".dockerignore";
            if kind.is_dir() {
                // something inside may be excepted from the rule that ignores the directory
                stack.push(path.clone());
            }
            if ignored {
                continue;
            }
            let full = entry.path();
            if kind.is_dir() {
                tar.append_dir(&path, &full)
                    .with_context(|| format!("cannot read {}", full.display()))?;
            } else if kind.is_file() || kind.is_symlink() {
                tar.append_path_with_name(&full, &path)
                    .with_context(|| format!("cannot read {}", full.display()))?;
            }
        }
    }
    if let Some(text) = extra {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, dockerfile, text)?;
    }
    Ok(tar.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_without_what_is_ignored() {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-context-")
            .tempdir()
            .expect("directory");
        for (name, text) in [
            ("Dockerfile", "FROM scratch"),
            (".dockerignore", "*.md\n!keep.md\nDockerfile"),
            ("a.md", ""),
            ("keep.md", ""),
            ("sub/x", ""),
        ] {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        // a comment of another encoding hides nothing
        let ignore = b"# \xe4\n*.md\n!keep.md\nDockerfile";
        std::fs::write(directory.path().join(".dockerignore"), ignore).expect("written");
        let packed = pack(directory.path(), "Dockerfile", None).expect("packed");
        let mut archive = tar::Archive::new(packed.as_slice());
        let mut names: Vec<String> = archive
            .entries()
            .expect("entries")
            .map(|e| {
                e.expect("entry")
                    .path()
                    .expect("path")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        assert_eq!(
            names,
            [".dockerignore", "Dockerfile", "keep.md", "sub", "sub/x"]
        );
    }
}
