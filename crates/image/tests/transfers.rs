//! Registries that lie, break off, hang, or offer other platforms; and what a pull tells meanwhile.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::server::{Content, Reply, Server, digest};
use common::{Home, archive, file};
use image::{Error, Options, Platform, PullEvent, silent};
use tokio::sync::mpsc;

/// Something that does not compress away.
fn noise(bytes: usize) -> String {
    let mut state = 1u64;
    let next = |_| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        char::from(b'0' + (state >> 59) as u8)
    };
    (0..bytes).map(next).collect()
}

fn content() -> Content {
    let text = noise(400 << 10);
    Content::new(&archive(&[file("noise", &text)]), "gzip")
}

fn blobs(home: &Home) -> usize {
    std::fs::read_dir(home.path("images/blobs/sha256"))
        .unwrap()
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_is_taken_up_where_it_broke_off() {
    for ranges in [true, false] {
        let content = content();
        let (served, path, half) = (
            content.clone(),
            content.layer_path(),
            content.layer.len() / 2,
        );
        let attempts = AtomicUsize::new(0);
        let server = Server::start(move |request| {
            if !request.path.ends_with(&path) {
                return served.reply(request);
            }
            match attempts.fetch_add(1, Ordering::SeqCst) {
                0 => Reply::ok(served.layer.clone()).cut(half),
                1 => Reply::status(503, "try later"),
                _ if ranges => served.reply(request),
                _ => Reply::ok(served.layer.clone()),
            }
        })
        .await;
        let home = Home::new();
        home.images
            .pull(&server.name("app"), None, None, silent())
            .await
            .unwrap();
        let asked = server.requests(&content.layer_path());
        let ranges: Vec<Option<usize>> = asked.iter().map(|r| r.range()).collect();
        assert_eq!(ranges, [None, Some(half), Some(half)]);
        assert_eq!(home.leftovers(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_never_ends_fails_and_leaves_nothing() {
    let content = content();
    let (served, path) = (content.clone(), content.layer_path());
    let server = Server::start(move |request| match request.path.ends_with(&path) {
        true => Reply::ok(served.layer.clone()).cut(100),
        false => served.reply(request),
    })
    .await;
    let home = Home::new();
    let error = home
        .images
        .pull(&server.name("app"), None, None, silent())
        .await;
    match error {
        Err(Error::Registry { action, .. }) => assert!(action.starts_with("layer "), "{action}"),
        Err(Error::Malformed { .. } | Error::DigestMismatch { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(server.requests(&content.layer_path()).len() <= 5);
    assert!(home.images.list().is_empty());
    assert_eq!(blobs(&home), 1, "the configuration only");
    assert_eq!(home.leftovers(), Vec::<String>::new());
    home.images.collect_garbage().unwrap();
    assert_eq!(blobs(&home), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_byte_by_byte_is_given_up() {
    for part in ["/manifests/", "/token", "/blobs/"] {
        let content = content();
        let server = Server::start(move |request| {
            let asks_token = part == "/token" && request.header("authorization").is_none();
            let reply = if request.path.starts_with("/token") {
                Reply::ok("{\"token\":\"t\"}")
            } else if asks_token {
                let host = request.header("host").unwrap();
                let value = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
                Reply::status(401, "{}").with("WWW-Authenticate", value)
            } else {
                content.reply(request)
            };
            match request.path.contains(part) {
                true => reply.drip(Duration::from_millis(100)),
                false => reply,
            }
        })
        .await;
        let home = Home::with(Options {
            timeout: Duration::from_millis(500),
            ..Options::default()
        });
        let name = server.name("app");
        let pull = home.images.pull(&name, None, None, silent());
        let pulled = tokio::time::timeout(Duration::from_secs(20), pull).await;
        let error = pulled.unwrap_or_else(|_| panic!("{part} is waited for"));
        assert!(
            matches!(error, Err(Error::Unreachable { .. })),
            "{part}: {error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_answers_that_are_large_are_not_taken_in() {
    for part in ["/manifests/", "/token", "error"] {
        let content = content();
        let server = Server::start(move |request| {
            let host = request.header("host").unwrap();
            let large = |status| {
                let mut body = b"{\"token\":\"t\",\"schemaVersion\":2}".to_vec();
                body.resize(64 << 20, b' ');
                Reply {
                    status,
                    ..Reply::ok(body)
                }
            };
            match request.path.as_str() {
                path if path.contains(part) => large(200),
                path if part == "error" && path.contains("/manifests/") => large(500),
                "/v2/" if part == "/token" => {
                    let value = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
                    Reply::status(401, "").with("WWW-Authenticate", value)
                }
                _ if part == "/token" => Reply::status(401, ""),
                _ => content.reply(request),
            }
        })
        .await;
        let home = Home::new();
        let error = home
            .images
            .pull(&server.name("app"), None, None, silent())
            .await;
        match (part, error) {
            ("error", Err(Error::Registry { reason, .. })) => assert!(reason.len() < 1000),
            ("error", other) => panic!("{other:?}"),
            (_, Err(error @ Error::Malformed { .. })) => {
                let text = error.to_string();
                assert!(text.contains("larger than"), "{part}: {text}");
            }
            (_, other) => panic!("{part}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_collected_while_a_registry_does_not_answer() {
    let server = Server::start(|_| Reply::ok("").hang(0)).await;
    let home = Home::new();
    let image = common::import(&home.images, "plim-old", archive(&[file("a", "1")]));
    let image = image.await.unwrap();
    let name = server.name("app");
    let pull = home.images.pull(&name, None, None, silent());
    let collect = async {
        while server.requests("").is_empty() {
            tokio::task::yield_now().await;
        }
        let removed = home.images.remove("plim-old", true).unwrap();
        assert!(removed.contains(&image::Removed::Deleted(image.id.clone())));
        assert_eq!(blobs(&home), 0, "nothing is collected");
    };
    tokio::select! {
        _ = pull => panic!("the pull ended"),
        () = collect => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_from_its_description_is_refused() {
    let good = content();
    let (config, layer) = (good.config.len(), good.layer.len());
    let mut cases: Vec<(&str, Content)> = Vec::new();
    for (what, config, layer) in [
        ("bytes", config + 1, layer),
        ("bytes", config - 1, layer),
        ("bytes", config, layer + 1),
        ("bytes", config, layer - 1),
    ] {
        let mut content = good.clone();
        content.describe("gzip", config, layer);
        cases.push((what, content));
    }
    for (what, content) in cases {
        let served = content.clone();
        let server = Server::start(move |request| served.reply(request)).await;
        let home = Home::new();
        let error = home
            .images
            .pull(&server.name("app"), None, None, silent())
            .await;
        match error {
            Err(Error::Malformed { reason, .. }) => assert!(reason.contains(what), "{reason}"),
            other => panic!("{other:?}"),
        }
        assert!(home.images.list().is_empty());
        assert_eq!(home.leftovers(), Vec::<String>::new());
    }
    // Bytes altered on the way, of the same length.
    for part in ["config", "layer", "manifest"] {
        let (served, config, layer) = (good.clone(), digest(&good.config), digest(&good.layer));
        let server = Server::start(move |request| {
            let path = &request.path;
            let mut reply = served.reply(request);
            let alter = match part {
                "config" => path.ends_with(&config),
                "layer" => path.ends_with(&layer),
                _ => path.contains("/manifests/"),
            };
            if alter {
                let last = reply.body.len() - 1;
                reply.body[last] ^= 1;
            }
            reply
        })
        .await;
        let home = Home::new();
        let name = format!(
            "{}@{}",
            server.name("app"),
            digest(good.manifest.as_bytes())
        );
        let error = home.images.pull(&name, None, None, silent()).await;
        assert!(
            matches!(error, Err(Error::DigestMismatch { .. })),
            "{part}: {error:?}"
        );
        assert!(home.images.list().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_says_nothing_is_given_up() {
    let content = content();
    for part in ["/manifests/", "/blobs/"] {
        let served = content.clone();
        let server = Server::start(move |request| match request.path.contains(part) {
            true => served
                .reply(request)
                .hang(if part == "/blobs/" { 10 } else { 0 }),
            false => served.reply(request),
        })
        .await;
        let home = Home::with(Options {
            timeout: Duration::from_millis(200),
            ..Options::default()
        });
        let error = home
            .images
            .pull(&server.name("app"), None, None, silent())
            .await;
        match error {
            Err(Error::Unreachable { reason, .. } | Error::Registry { reason, .. }) => {
                assert!(reason.contains("timed out"), "{part}: {reason}");
            }
            other => panic!("{part}: {other:?}"),
        }
        assert_eq!(home.leftovers(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_true() {
    let content = content();
    let total = content.layer.len() as u64;
    let served = content.clone();
    let server = Server::start(move |request| served.reply(request)).await;
    let home = Home::new();
    let (sender, mut receiver) = mpsc::channel(1 << 16);
    home.images
        .pull(&server.name("app"), None, None, sender)
        .await
        .unwrap();
    let (mut downloading, mut extracting, mut words) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(event) = receiver.recv().await {
        match event {
            PullEvent::Downloading {
                current, total: t, ..
            } => {
                assert_eq!(t, total);
                downloading.push(current);
            }
            PullEvent::Extracting {
                current, total: t, ..
            } => {
                assert_eq!(t, total);
                extracting.push(current);
            }
            PullEvent::Waiting { .. } => words.push("waiting"),
            PullEvent::Downloaded { .. } => words.push("downloaded"),
            PullEvent::Complete { .. } => words.push("complete"),
            _ => {}
        }
    }
    assert_eq!(words, ["waiting", "downloaded", "complete"]);
    for counts in [downloading, extracting] {
        assert!(counts.len() > 2, "{counts:?}");
        assert!(counts.is_sorted());
        assert_eq!(counts.last(), Some(&total));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zstd_layers_are_unpacked() {
    let content = Content::new(&archive(&[file("a", "zstandard")]), "zstd");
    let server = Server::start(move |request| content.reply(request)).await;
    let home = Home::new();
    let image = home
        .images
        .pull(&server.name("app"), None, None, silent())
        .await
        .unwrap();
    if common::is_root() {
        assert_eq!(home.read(&image, "a").as_deref(), Some("zstandard"));
    }
}

/// An index of (platform, manifest digest, size).
fn index(entries: &[(&str, String, usize)]) -> String {
    let entries: Vec<String> = entries
        .iter()
        .map(|(platform, digest, size)| {
            let mut parts = platform.split('/');
            let (os, architecture) = (parts.next().unwrap(), parts.next().unwrap());
            let variant = parts.next().map(|v| format!(",\"variant\":\"{v}\"")).unwrap_or_default();
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{size},"platform":{{"os":"{os}","architecture":"{architecture}"{variant}}}}}"#
            )
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
        entries.join(",")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_gives_the_platform_that_was_asked_for() {
    let host = Platform::host().to_string();
    let host = host.as_str();
    let content = Arc::new(content());
    let (good, size) = (digest(content.manifest.as_bytes()), content.manifest.len());
    let none = digest(b"no such manifest");
    let entry = |platform: &'static str| (platform, none.clone(), size);
    for (index, platform, expected) in [
        (
            index(&[entry("unknown/unknown"), (host, good.clone(), size)]),
            None,
            "ok",
        ),
        (
            index(&[entry("linux/s390x"), entry("windows/amd64")]),
            None,
            "NoPlatform",
        ),
        (
            index(&[(host, good.clone(), size)]),
            Some("linux/s390x"),
            "NoPlatform",
        ),
        (
            index(&[entry("linux/arm/v7")]),
            Some("linux/arm/v6"),
            "NoPlatform",
        ),
        (index(&[(host, good.clone(), size + 1)]), None, "Malformed"),
        (index(&[(host, none.clone(), size)]), None, "DigestMismatch"),
        (index(&[]), None, "NoPlatform"),
        (content.manifest.clone(), Some("linux/s390x"), "NoPlatform"),
    ] {
        let served = content.clone();
        let top = index.clone();
        let server =
            Server::start(
                move |request| match request.path.ends_with("/manifests/multi") {
                    true => Reply::ok(top.clone()),
                    false => served.reply(request),
                },
            )
            .await;
        let home = Home::new();
        let platform = platform.map(|p| Platform::parse(p).unwrap());
        let result = home
            .images
            .pull(&server.name("app:multi"), None, platform, silent())
            .await;
        let told = match &result {
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("{error:?}")
                .split([' ', '('])
                .next()
                .unwrap()
                .to_owned(),
        };
        assert_eq!(told, expected, "{result:?} of {index}");
    }
}
