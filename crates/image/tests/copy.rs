//! COPY and ADD of a context, built as root with a runner that is chroot.

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use common::{Home, archive, file, is_root};
use image::BuildRequest;

#[tokio::test(flavor = "multi_thread")]
async fn copy_follows_dockers_directory_rules() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile = "FROM plim-base\nCOPY a.txt /file\nCOPY a.txt /dir/\nCOPY a.txt b.txt /two/\nCOPY d /contents\n\
        COPY *.txt /wild/\nCOPY --chown=12:34 --chmod=0751 d/inner /owned/inner\nCOPY --chown=nobody a.txt /named\n\
        COPY a.txt /etc\nRUN ln -s /real /link && mkdir /real\nCOPY a.txt /link/\nCOPY <<EOF /inline\nx=$HOME \"q\"\nEOF\n\
        COPY l /followed\nWORKDIR /w\nCOPY a.txt rel/\nCOPY --exclude=skip e /e\nCOPY --parents d/inner /p/\n\
        COPY --chmod=u=rwX,go=rX d /symbolic\nADD --unpack=false archive.tar /packed\n";
    let files = [
        ("Dockerfile", dockerfile),
        ("a.txt", "A"),
        ("b.txt", "B"),
        ("d/inner", "I"),
        ("d/deep/x", "X"),
        ("e/keep", "1"),
        ("e/skip", "2"),
    ];
    let context = home.context(&files);
    std::os::unix::fs::symlink("a.txt", context.join("l")).unwrap();
    std::fs::write(context.join("archive.tar"), archive(&[file("bin/x", "x")])).unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(context.join("d/inner"), private).unwrap();
    std::fs::set_permissions(context.join("d/deep"), PermissionsExt::from_mode(0o700)).unwrap();
    let built = home
        .request(BuildRequest {
            context,
            ..BuildRequest::default()
        })
        .await;
    let root = home.images.prepare(built.image(), "plim-look").unwrap();
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    };
    for (path, content) in [
        ("file", "A"),
        ("dir/a.txt", "A"),
        ("two/b.txt", "B"),
        ("contents/inner", "I"),
        ("contents/deep/x", "X"),
        ("wild/b.txt", "B"),
        ("owned/inner", "I"),
        ("etc/a.txt", "A"),
        ("real/a.txt", "A"),
        ("inline", "x= \"q\"\n"),
        ("followed", "A"),
        ("w/rel/a.txt", "A"),
        ("e/keep", "1"),
        ("p/d/inner", "I"),
        ("symbolic/deep/x", "X"),
    ] {
        assert_eq!(read(path), content, "{path}");
    }
    assert!(!common::exists(&root.join("e/skip")));
    let owned = std::fs::metadata(root.join("owned/inner")).unwrap();
    assert_eq!(
        (
            owned.uid(),
            owned.gid(),
            owned.permissions().mode() & 0o7777
        ),
        (12, 34, 0o751)
    );
    let mode = |path: &str| {
        std::fs::metadata(root.join(path))
            .unwrap()
            .permissions()
            .mode()
    };
    assert_eq!(mode("symbolic/inner") & 0o7777, 0o644);
    assert_eq!(mode("symbolic/deep") & 0o7777, 0o755);
    assert!(root.join("packed").is_file());
    assert_eq!(std::fs::metadata(root.join("owned")).unwrap().uid(), 12);
    assert_eq!(std::fs::metadata(root.join("named")).unwrap().uid(), 65534);
    home.images.remove_snapshot("plim-look").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn exclusions_are_relative_to_what_is_copied() {
    let keeps = |flags: &'static str, expected: &'static [&'static str]| (flags, expected);
    copies(
        &[
            "guide.md",
            "keep.txt",
            "drop.txt",
            "docs/guide.md",
            "config",
            "src/config/a",
            "src/lib/config/b",
            "src/lib/c.md",
            "ignored/x",
        ],
        &[
            keeps(
                "--exclude=*.md --exclude=src . /",
                &["config", "docs/guide.md", "drop.txt", "keep.txt"],
            ),
            keeps("--exclude=config src /", &["lib/c.md", "lib/config/b"]),
            keeps("--exclude=**/config --exclude=*/*.md src /", &[]),
            keeps(
                "--exclude=*/*.md --exclude=config . /",
                &[
                    "drop.txt",
                    "guide.md",
                    "keep.txt",
                    "src/config/a",
                    "src/lib/c.md",
                    "src/lib/config/b",
                ],
            ),
            keeps("--exclude=* --exclude=!keep.txt . /", &["keep.txt"]),
            keeps(
                "--exclude=lib --exclude=!lib/c.md src /",
                &["config/a", "lib/c.md"],
            ),
            keeps("--exclude=drop.* *.txt /", &["keep.txt"]),
            keeps("--exclude=drop.txt drop.txt keep.txt /", &["keep.txt"]),
            keeps("--exclude=*.md d* /", &["drop.txt"]),
            keeps("--exclude=guide.md docs guide.md /", &[]),
            keeps(
                "--parents --exclude=src/lib/c.md src/lib /",
                &["src/lib/config/b"],
            ),
            keeps(
                "--parents --exclude=lib/c.md src/./lib /",
                &["lib/config/b"],
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_are_kept_from_the_pivot_on() {
    let keeps = |flags: &'static str, expected: &'static [&'static str]| (flags, expected);
    copies(
        &[
            "a/b/c/d/foo",
            "a/b/c/d/e/bay",
            "a/b2/c/d/e/bar",
            "a/b/c2/d/e/baz",
            "a/b/c2/d/e2/baz",
            "top.txt",
            "ignored/x.txt",
        ],
        &[
            keeps("--parents a/b/./c/d /", &["c/d/e/bay", "c/d/foo"]),
            keeps(
                "--parents /a/b/c/d/. /out",
                &["out/a/b/c/d/e/bay", "out/a/b/c/d/foo"],
            ),
            keeps("--parents ./a/b2 top.txt /", &["a/b2/c/d/e/bar", "top.txt"]),
            keeps("--parents a/./b/./c /", &["b/c/d/e/bay", "b/c/d/foo"]),
            keeps(
                "--parents a/./*/c /",
                &["b/c/d/e/bay", "b/c/d/foo", "b2/c/d/e/bar"],
            ),
            keeps("--parents a/b*/./c/**/e /", &["c/d/e/bar", "c/d/e/bay"]),
            keeps(
                "--parents a/b/c*/./d/**/baz a/b*/./c/**/bar /",
                &["c/d/e/bar", "d/e/baz", "d/e2/baz"],
            ),
            keeps("--parents **/foo /", &["a/b/c/d/foo"]),
            keeps("--parents a/b2/** /", &["a/b2/c/d/e/bar"]),
            keeps("--parents **/*.txt /", &["top.txt"]),
            keeps("--parents a/b/./none* nothing/**/x /", &[]),
        ],
    )
    .await;
    let home = Home::new();
    let dockerfile = "FROM scratch\nCOPY --parents a/./b /\n";
    let refused = home
        .build(&[("Dockerfile", dockerfile), ("a/c", "")])
        .await
        .error();
    assert!(
        refused.contains("file not found in build context"),
        "{refused}"
    );
}

/// Copies of a context with those files, `ignored` left out: the paths of the files that are in the image.
async fn copies(files: &[&str], cases: &[(&str, &[&str])]) {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let mut files: Vec<(&str, &str)> = files.iter().map(|path| (*path, *path)).collect();
    files.push((".dockerignore", "ignored\n.dockerignore\nDockerfile\n"));
    let context = home.context(&files);
    for (flags, expected) in cases {
        let request = BuildRequest {
            context: context.clone(),
            dockerfile_text: Some(format!("FROM scratch\nCOPY {flags}\n")),
            ..BuildRequest::default()
        };
        let built = home.request(request).await;
        let root = home.images.prepare(built.image(), "plim-look").unwrap();
        let (mut found, mut ahead) = (Vec::new(), vec![root.clone()]);
        while let Some(directory) = ahead.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    ahead.push(path);
                } else {
                    found.push(path.strip_prefix(&root).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        assert_eq!(found, *expected, "COPY {flags}");
        home.images.remove_snapshot("plim-look").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_refuses_what_docker_refuses() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    for (instruction, expected) in [
        ("COPY missing /x", "file not found in build context"),
        ("COPY a *.none /x", "must be a directory and end with a /"),
        (
            "COPY ../outside /x",
            "forbidden path outside the build context",
        ),
        ("COPY a b /x", "must be a directory and end with a /"),
        ("COPY secret /x", "excluded by .dockerignore"),
        ("COPY --chmod=abc a /x", "invalid chmod parameter"),
        ("COPY --chown=ghost a /x", "unable to find user ghost"),
        ("COPY --what=1 a /x", "unknown flag: --what"),
        (
            "ADD https://example.com/x /x",
            "ADD of a remote source is not supported",
        ),
        ("EXPOSE http", "invalid containerPort"),
        ("ENV A=${B?}", "not allowed to be unset"),
    ] {
        let dockerfile = format!("FROM scratch\n{instruction}\n");
        let files = [
            ("Dockerfile", dockerfile.as_str()),
            (".dockerignore", "secret\n"),
            ("a", "1"),
            ("b", "2"),
            ("secret", "s"),
        ];
        let built = home.build(&files).await;
        assert!(
            built.error().contains(expected),
            "{instruction}: {}",
            built.error()
        );
        assert!(
            built.error().contains("line 2"),
            "{instruction}: {}",
            built.error()
        );
    }
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_matches_nothing_copies_nothing() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile =
        "FROM plim-base\nCOPY package.json yarn.lock* ./.npmrc* /app/\nCOPY *.none /none/\n";
    let files = [("Dockerfile", dockerfile), ("package.json", "{}")];
    let built = home.build(&files).await;
    let root = home.images.prepare(built.image(), "plim-look").unwrap();
    let names = std::fs::read_dir(root.join("app")).unwrap();
    let names: Vec<_> = names.map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["package.json"]);
    assert!(!common::exists(&root.join("none")));
    home.images.remove_snapshot("plim-look").unwrap();
    let mount = "FROM plim-base\nRUN --mount=target=/m,source=*.none true\n";
    let refused = home.build(&[("Dockerfile", mount)]).await.error();
    assert!(
        refused.contains("\"*.none\" matches nothing in the build context"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_are_not_waited_for() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile = "FROM plim-base\nADD pipe /pipe\nRUN rm -f /etc/passwd && mkfifo /etc/passwd\n\
        COPY --chown=12 Dockerfile /owned\n";
    let context = home.context(&[("Dockerfile", dockerfile)]);
    let pipe = |path: std::path::PathBuf| {
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    pipe(context.join("pipe"));
    pipe(context.join(".dockerignore"));
    let request = BuildRequest {
        context,
        ..BuildRequest::default()
    };
    let build = home.request(request.clone());
    let built = tokio::time::timeout(std::time::Duration::from_secs(60), build).await;
    let built = built.expect("the build waits for a pipe");
    let root = home.images.prepare(built.image(), "plim-look").unwrap();
    let kind = std::fs::symlink_metadata(root.join("pipe"))
        .unwrap()
        .file_type();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&kind));
    home.images.remove_snapshot("plim-look").unwrap();
    let named = BuildRequest {
        dockerfile_text: Some("FROM plim-base\nRUN rm -f /etc/passwd && mkfifo /etc/passwd\nCOPY --chown=who pipe /\n".into()),
        ..request
    };
    let named = tokio::time::timeout(std::time::Duration::from_secs(60), home.request(named)).await;
    let refused = named.expect("the build waits for /etc/passwd").error();
    assert!(refused.contains("unable to find user who"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dockerignore_with_exceptions() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let files = [
        ("Dockerfile", "FROM scratch\nCOPY . /\n"),
        (
            ".dockerignore",
            "Dockerfile\n.dockerignore\nnode_modules\n!node_modules/keep\n**/*.log\n",
        ),
        ("a", "1"),
        ("x.log", "1"),
        ("d/y.log", "1"),
        ("node_modules/drop", "1"),
        ("node_modules/keep", "1"),
    ];
    let built = home.build(&files).await;
    let root = home.images.prepare(built.image(), "plim-look").unwrap();
    let there = |path: &str| common::exists(&root.join(path));
    assert!(there("a") && there("node_modules/keep"));
    for path in [
        "Dockerfile",
        ".dockerignore",
        "x.log",
        "d/y.log",
        "node_modules/drop",
    ] {
        assert!(!there(path), "{path}");
    }
    home.images.remove_snapshot("plim-look").unwrap();
}
