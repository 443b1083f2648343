//! Pull and push against Debian's docker-registry, with images pushed by skopeo; save and load against skopeo.

mod common;

use std::path::Path;
use std::process::Command;

use common::debian::Registry;
use common::{Home, archive, file, import, is_root};
use image::{Auth, Error, Image, Platform, PullEvent, silent};
use tokio::sync::mpsc;

fn skopeo(args: &[&str]) {
    let output = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(args)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "skopeo {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

async fn save(home: &Home, reference: &str) -> std::path::PathBuf {
    let path = home.path("saved.tar");
    let out = tokio::fs::File::create(&path).await.unwrap();
    home.images
        .save(&[reference.to_owned()], out)
        .await
        .unwrap();
    path
}

async fn two_layers(home: &Home) -> Image {
    let base = import(
        &home.images,
        "plim-two",
        archive(&[file("etc/a", "lower"), file("gone", "x")]),
    )
    .await
    .unwrap();
    let root = home.images.prepare(&base, "plim-edit").unwrap();
    std::fs::write(root.join("etc/a"), "upper").unwrap();
    std::fs::remove_file(root.join("gone")).unwrap();
    let image = home
        .images
        .commit("plim-edit", &base, Some("plim-two"), |f| {
            f.config.cmd = Some(vec!["run".into()])
        })
        .await
        .unwrap();
    home.images.remove_snapshot("plim-edit").unwrap();
    image
}

fn look(home: &Home, image: &Image) {
    assert_eq!(home.read(image, "etc/a").as_deref(), Some("upper"));
    assert_eq!(home.read(image, "gone"), None);
    assert_eq!(image.config.cmd.as_deref(), Some(&["run".to_owned()][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_skopeo_pushed_is_pulled() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let Some(registry) = Registry::start(&home, false, None) else {
        return;
    };
    let original = two_layers(&home).await;
    let saved = save(&home, "plim-two").await;
    let name = registry.name("team/app:v1");
    skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        &format!("docker-archive:{}", saved.display()),
        &format!("docker://{name}"),
    ]);

    let fresh = Home::new();
    let (sender, mut receiver) = mpsc::channel(64);
    let collect = async {
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            events.push(event);
        }
        events
    };
    let (pulled, events) = futures::join!(fresh.images.pull(&name, None, None, sender), collect);
    let pulled = pulled.unwrap();
    look(&fresh, &pulled);
    assert_eq!(pulled.layers(), original.layers());
    assert_eq!(pulled.tags, std::slice::from_ref(&name));
    assert!(!pulled.local, "a pulled tag is resolved again");
    assert_eq!(
        events
            .iter()
            .filter(|e| matches!(e, PullEvent::Complete { .. }))
            .count(),
        2
    );
    assert!(matches!(&events[0], PullEvent::Pulling { tag, .. } if tag == "v1"));

    let again = fresh
        .images
        .pull(&name, None, None, silent())
        .await
        .unwrap();
    assert_eq!(again.id, pulled.id);
    let by_digest = fresh
        .images
        .pull(&pulled.digests[0], None, None, silent())
        .await
        .unwrap();
    assert_eq!(by_digest.id, pulled.id);
    assert_eq!(
        fresh.images.resolve(&pulled.digests[0]).unwrap().id,
        pulled.id
    );
    assert_eq!(fresh.leftovers(), Vec::<String>::new());

    let missing = registry.name("team/none:v1");
    assert!(matches!(
        fresh.images.pull(&missing, None, None, silent()).await,
        Err(Error::RemoteNotFound(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_push_skopeo_and_we_read() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let Some(registry) = Registry::start(&home, false, None) else {
        return;
    };
    two_layers(&home).await;
    let name = registry.name("pushed");
    home.images.tag("plim-two", &name).unwrap();
    let (sender, mut receiver) = mpsc::channel(64);
    let digest = home.images.push(&name, None, sender).await.unwrap();
    let mut last = None;
    while let Some(event) = receiver.recv().await {
        last = Some(event);
    }
    assert!(
        matches!(&last, Some(PullEvent::Pushed { tag, digest: d, size: 1.. }) if tag == "latest" && *d == digest),
        "{last:?}"
    );
    let repository = name.trim_end_matches(":latest");
    let named = format!("{repository}@{digest}");
    let pushed = home.images.resolve(&named).expect("known by its digest");
    assert_eq!(pushed.digests, [named]);
    assert!(
        home.images.resolve("plim-two").unwrap().local,
        "still made here"
    );
    assert_eq!(
        home.images.push(&name, None, silent()).await.unwrap(),
        digest,
        "pushing is repeatable"
    );
    let copied = home.path("layout");
    skopeo(&[
        "copy",
        "--src-tls-verify=false",
        &format!("docker://{name}"),
        &format!("oci:{}:x", copied.display()),
    ]);
    let fresh = std::sync::Arc::new(Home::new());
    let pulls = (0..4).map(|_| {
        let (fresh, name) = (fresh.clone(), name.clone());
        tokio::spawn(async move {
            fresh
                .images
                .pull(&name, None, None, silent())
                .await
                .unwrap()
        })
    });
    for pull in pulls.collect::<Vec<_>>() {
        look(&fresh, &pull.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_names() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let Some(registry) = Registry::start(&home, true, None) else {
        return;
    };
    let name = registry.name("private");
    let anonymous = home.images.pull(&name, None, None, silent()).await;
    assert!(
        matches!(anonymous, Err(Error::Unauthorized { .. })),
        "{anonymous:?}"
    );
    let wrong = Auth::Basic {
        username: "user".into(),
        password: "wrong".into(),
    };
    let refused = home.images.pull(&name, Some(wrong), None, silent()).await;
    assert!(
        matches!(refused, Err(Error::Unauthorized { .. })),
        "{refused:?}"
    );
    drop(registry);
    let gone = home.images.pull(&name, None, None, silent()).await;
    assert!(matches!(gone, Err(Error::Unreachable { .. })), "{gone:?}");
    assert!(home.images.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_layers_are_refused() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let Some(registry) = Registry::start(&home, false, None) else {
        return;
    };
    two_layers(&home).await;
    let name = registry.name("altered");
    home.images.tag("plim-two", &name).unwrap();
    home.images.push(&name, None, silent()).await.unwrap();
    let blobs = home.path("registry/docker/registry/v2/blobs/sha256");
    let mut altered = 0;
    for directory in std::fs::read_dir(blobs)
        .unwrap()
        .flat_map(|d| std::fs::read_dir(d.unwrap().path()).unwrap())
    {
        let data = directory.unwrap().path().join("data");
        let mut bytes = std::fs::read(&data).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(&data, bytes).unwrap();
            altered += 1;
        }
    }
    assert_eq!(altered, 2);
    let fresh = Home::new();
    let error = fresh.images.pull(&name, None, None, silent()).await;
    assert!(
        matches!(error, Err(Error::DigestMismatch { .. })),
        "{error:?}"
    );
    assert!(fresh.images.list().is_empty());
    assert_eq!(fresh.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn platforms_are_selected_from_an_index() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let Some(registry) = Registry::start(&home, false, None) else {
        return;
    };
    two_layers(&home).await;
    let name = registry.name("single");
    home.images.tag("plim-two", &name).unwrap();
    let digest = home.images.push(&name, None, silent()).await.unwrap();
    let manifest = |platform: &str| {
        format!(
            "{{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"{digest}\",\"size\":SIZE,\"platform\":{{\"os\":\"linux\",\"architecture\":\"{platform}\"}}}}"
        )
    };
    let url = format!("http://127.0.0.1:{}/v2/single/manifests", registry.port);
    let body = Command::new("curl")
        .args([
            "-sf",
            "-H",
            "Accept: application/vnd.oci.image.manifest.v1+json",
            &format!("{url}/latest"),
        ])
        .output()
        .unwrap()
        .stdout;
    let host = Platform::host().architecture;
    let index = format!("{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[{}]}}", manifest(&host))
        .replace("SIZE", &body.len().to_string());
    let status = Command::new("curl")
        .args([
            "-sf",
            "-X",
            "PUT",
            "-H",
            "Content-Type: application/vnd.oci.image.index.v1+json",
            "-d",
            &index,
            &format!("{url}/multi"),
        ])
        .status()
        .unwrap();
    assert!(status.success());
    let fresh = Home::new();
    let multi = registry.name("single:multi");
    look(
        &fresh,
        &fresh
            .images
            .pull(&multi, None, None, silent())
            .await
            .unwrap(),
    );
    let other = Platform::parse("linux/s390x");
    let none = fresh.images.pull(&multi, None, other, silent()).await;
    assert!(matches!(none, Err(Error::NoPlatform { .. })), "{none:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_archives_load_here_and_from_skopeo() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let original = two_layers(&home).await;
    let saved = save(&home, "plim-two").await;
    let fresh = Home::new();
    let loaded = fresh
        .images
        .load(tokio::fs::File::open(&saved).await.unwrap())
        .await
        .unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(
        (&loaded[0].id, &loaded[0].tags),
        (&original.id, &vec!["plim-two:latest".to_owned()])
    );
    look(&fresh, &loaded[0]);
    if !Path::new("/usr/bin/skopeo").exists() {
        eprintln!("SKIPPED: skopeo is not installed");
        return;
    }
    let archive = home.path("skopeo-oci.tar");
    skopeo(&[
        "copy",
        &format!("docker-archive:{}", saved.display()),
        &format!("oci-archive:{}:plim/other:2", archive.display()),
    ]);
    let other = Home::new();
    let loaded = other
        .images
        .load(tokio::fs::File::open(&archive).await.unwrap())
        .await
        .unwrap();
    assert_eq!(loaded[0].tags, ["plim/other:2"]);
    look(&other, &loaded[0]);
    // Saved once more: the layers came compressed, their content is the same.
    let again = save(&other, "plim/other:2").await;
    let third = Home::new();
    look(
        &third,
        &third
            .images
            .load(tokio::fs::File::open(&again).await.unwrap())
            .await
            .unwrap()[0],
    );
    assert!(
        third
            .images
            .load(std::io::Cursor::new(b"nothing".to_vec()))
            .await
            .is_err()
    );
}
