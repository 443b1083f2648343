//! `plimsoll pull`, `tag`, `rmi`, `import` and `load`.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use http::Method;

use super::client::{Client, encode, full, messages};

/// Name and tag; the tag is `latest` when there is none.
fn split(reference: &str) -> (&str, &str) {
    if let Some((name, digest)) = reference.split_once('@') {
        return (name, digest);
    }
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

pub async fn pull(client: &Client, reference: &str) -> Result<ExitCode> {
    let (name, tag) = split(reference);
    let path = format!(
        "/images/create?fromImage={}&tag={}",
        encode(name),
        encode(tag)
    );
    let response = client.request(Method::POST, &path, full(""), &[]).await?;
    let terminal = std::io::stderr().is_terminal();
    messages(response, |message| {
        let status = message["status"].as_str().unwrap_or_default();
        let id = message["id"]
            .as_str()
            .map(|id| format!("{id}: "))
            .unwrap_or_default();
        let progress = message["progress"].as_str().unwrap_or_default();
        // counts are for a person who looks on; a log gets the milestones
        if terminal && !progress.is_empty() {
            eprint!("\r\x1b[K{id}{status} {progress}");
        } else if progress.is_empty() {
            eprintln!("{}{id}{status}", if terminal { "\r\x1b[K" } else { "" });
        }
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

pub async fn tag(client: &Client, source: &str, target: &str) -> Result<ExitCode> {
    let (name, tag) = split(target);
    client
        .post(&format!(
            "/images/{}/tag?repo={}&tag={}",
            encode(source),
            encode(name),
            encode(tag)
        ))
        .await?;
    Ok(ExitCode::SUCCESS)
}

pub async fn remove(client: &Client, images: &[String], force: bool) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for image in images {
        let path = format!("/images/{}?force={force}", encode(image));
        let removed = async {
            let response = client.request(Method::DELETE, &path, full(""), &[]).await?;
            let bytes = http_body_util::BodyExt::collect(response.into_body())
                .await?
                .to_bytes();
            anyhow::Ok(serde_json::from_slice::<serde_json::Value>(&bytes)?)
        };
        match removed.await {
            Ok(list) => {
                for entry in list.as_array().into_iter().flatten() {
                    for (word, id) in entry.as_object().into_iter().flatten() {
                        println!("{word}: {}", id.as_str().unwrap_or_default());
                    }
                }
            }
            Err(error) => {
                eprintln!("{error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

pub async fn import(
    client: &Client,
    file: &Path,
    reference: &str,
    busybox: bool,
) -> Result<ExitCode> {
    let tar = if busybox {
        busybox_root(file)?
    } else if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes)?;
        bytes
    } else {
        std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
    };
    import_tar(client, tar, reference).await?;
    Ok(ExitCode::SUCCESS)
}

/// Makes an image of one layer from a tar.
pub async fn import_tar(client: &Client, tar: Vec<u8>, reference: &str) -> Result<()> {
    let (name, tag) = split(reference);
    let path = format!(
        "/images/create?fromSrc=-&repo={}&tag={}",
        encode(name),
        encode(tag)
    );
    let response = client
        .request(
            Method::POST,
            &path,
            full(tar),
            &[("content-type", "application/x-tar")],
        )
        .await?;
    messages(response, |message| {
        println!("{}", message["status"].as_str().unwrap_or_default())
    })
    .await
}

/// A root file system around one static program: the directories that programs expect, and a link per applet.
pub fn busybox_root(program: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(program).with_context(|| {
        format!("cannot read {}; a static busybox comes with Debian's and Ubuntu's package busybox-static", program.display())
    })?;
    let listed = std::process::Command::new(program)
        .arg("--list")
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind: tar::EntryType, mode: u32, size: usize| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    for (directory, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("proc", 0o755),
        ("root", 0o700),
        ("sys", 0o755),
        ("tmp", 0o1777),
        ("usr/bin", 0o755),
        ("usr/sbin", 0o755),
        ("var/tmp", 0o1777),
    ] {
        tar.append_data(
            &mut header(tar::EntryType::Directory, mode, 0),
            format!("{directory}/"),
            std::io::empty(),
        )?;
    }
    tar.append_data(
        &mut header(tar::EntryType::Regular, 0o755, bytes.len()),
        "bin/busybox",
        bytes.as_slice(),
    )?;
    for applet in String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter(|name| !name.is_empty() && *name != "busybox")
    {
        tar.append_link(
            &mut header(tar::EntryType::Symlink, 0o777, 0),
            format!("bin/{applet}"),
            "busybox",
        )?;
    }
    for (name, text) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        ),
        ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ] {
        tar.append_data(
            &mut header(tar::EntryType::Regular, 0o644, text.len()),
            name,
            text.as_bytes(),
        )?;
    }
    Ok(tar.into_inner()?)
}

pub async fn load(client: &Client, file: &Path) -> Result<ExitCode> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let response = client
        .request(
            Method::POST,
            "/images/load?quiet=1",
            full(bytes),
            &[("content-type", "application/x-tar")],
        )
        .await?;
    messages(response, |message| {
        let _ = write!(
            std::io::stdout(),
            "{}",
            message["stream"].as_str().unwrap_or_default()
        );
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_apart() {
        for (reference, want) in [
            ("node:14", ("node", "14")),
            ("node", ("node", "latest")),
            ("localhost:5000/a", ("localhost:5000/a", "latest")),
            ("localhost:5000/a:1", ("localhost:5000/a", "1")),
            ("a@sha256:00", ("a", "sha256:00")),
        ] {
            assert_eq!(split(reference), want, "{reference}");
        }
    }
}
