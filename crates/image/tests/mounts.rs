//! `RUN --mount`: what steps see, and what images do not.

mod common;

use common::{Home, is_root};
use image::BuildRequest;

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_outlives_builds_and_stays_out_of_the_image() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile = |last: &str| {
        format!(
            "FROM plim-base\nWORKDIR /w\nRUN --mount=type=cache,target=kept/deep,id=plim,mode=0700 \\\n\
             echo {last} >> kept/deep/log && cat kept/deep/log > /seen && stat -c %a kept/deep >> /seen\n"
        )
    };
    let first = home.build(&[("Dockerfile", &dockerfile("one"))]).await;
    assert_eq!(
        home.read(first.image(), "seen").as_deref(),
        Some("one\n700\n")
    );
    assert_eq!(home.read(first.image(), "w/kept/deep/log"), None);
    let root = home.images.prepare(first.image(), "plim-look").unwrap();
    assert!(
        !root.join("w/kept").exists(),
        "the mount point is not the command's work"
    );
    home.images.remove_snapshot("plim-look").unwrap();

    let again = home.build(&[("Dockerfile", &dockerfile("one"))]).await;
    assert_eq!(again.cached(), 2, "the step is cached with its mounts");
    let second = home.build(&[("Dockerfile", &dockerfile("two"))]).await;
    assert_eq!(
        home.read(second.image(), "seen").as_deref(),
        Some("one\ntwo\n700\n")
    );
    let moved = home
        .build(&[(
            "Dockerfile",
            &dockerfile("two").replace("id=plim", "id=other"),
        )])
        .await;
    assert_eq!(
        home.read(moved.image(), "seen").as_deref(),
        Some("two\n700\n")
    );

    assert!(home.images.usage().build_cache_bytes >= 12);
    assert!(home.images.prune_build_cache().unwrap() >= 12);
    let pruned = home.build(&[("Dockerfile", &dockerfile("three"))]).await;
    assert_eq!(
        home.read(pruned.image(), "seen").as_deref(),
        Some("three\n700\n")
    );
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_caches_are_used_in_turn() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile = |name: &str| {
        format!(
            "FROM plim-base\nRUN --mount=type=cache,target=/a,sharing=locked --mount=type=cache,target=/b,sharing=private \\\n\
             mkdir /a/busy && echo {name} >> /a/log && sleep 0.2 && rmdir /a/busy\n"
        )
    };
    let files = ["1", "2", "3"].map(|name| [("Dockerfile", dockerfile(name))]);
    let files = files
        .each_ref()
        .map(|[(name, text)]| [(*name, text.as_str())]);
    let builds = files.iter().map(|files| home.build(files));
    for built in futures::future::join_all(builds).await {
        built.image();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn binds_and_tmpfs_leave_nothing() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile = "FROM plim-base AS made\nRUN mkdir /out && echo made > /out/file\nFROM plim-base\n\
        RUN --mount=from=made,source=/out,target=/in cat /in/file > /one\n\
        RUN --mount=type=bind,source=src/a,target=/in/a --mount=type=tmpfs,target=/tmp/x cat /in/a > /two && echo y > /tmp/x/y\n\
        RUN --mount=target=/context,rw ls /context > /three && echo changed > /context/src/a\n\
        RUN --mount=target=/context touch /context/new || echo refused > /four\n";
    let context = home.context(&[
        ("Dockerfile", dockerfile),
        (".dockerignore", "secret\n"),
        ("src/a", "from the context\n"),
        ("secret", "x"),
    ]);
    let request = || BuildRequest {
        context: context.clone(),
        ..BuildRequest::default()
    };
    let built = home.request(request()).await;
    let image = built.image();
    for (path, content) in [
        ("one", Some("made\n")),
        ("two", Some("from the context\n")),
        ("four", Some("refused\n")),
        ("in/file", None),
        ("in/a", None),
        ("context/new", None),
    ] {
        assert_eq!(home.read(image, path).as_deref(), content, "{path}");
    }
    let listed = home.read(image, "three").unwrap();
    assert!(
        listed.contains("src") && !listed.contains("secret"),
        "{listed}"
    );
    assert_eq!(
        std::fs::read_to_string(context.join("src/a")).unwrap(),
        "from the context\n"
    );
    assert_eq!(home.request(request()).await.cached(), 5);
    std::fs::write(context.join("src/a"), "changed\n").unwrap();
    let changed = home.request(request()).await;
    assert_eq!(
        home.read(changed.image(), "two").as_deref(),
        Some("changed\n")
    );
    assert_eq!(home.leftovers(), Vec::<String>::new());

    for (flag, reason) in [
        ("type=bind,source=/none,target=/x", "file not found"),
        ("type=bind,source=../..,target=/x", "forbidden path"),
        ("type=secret,id=s,required=true", "secret s: not found"),
        ("type=cache,target=/", "cannot cover the root"),
    ] {
        let built = home
            .build(&[(
                "Dockerfile",
                &format!("FROM plim-base\nRUN --mount={flag} true\n"),
            )])
            .await;
        let error = built.error();
        assert!(
            error.contains(reason) && error.contains("line 2"),
            "{flag}: {error}"
        );
    }
    assert_eq!(home.leftovers(), Vec::<String>::new());
}
