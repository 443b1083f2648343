//! Dockerfiles, built as root with a runner that is chroot.

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use common::{Home, archive, file, is_root};
use image::{BuildError, BuildEvent, BuildRequest, Platform};

#[tokio::test(flavor = "multi_thread")]
async fn scratch_and_add_to_a_mounted_snapshot() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let context = home.context(&[(
        "Dockerfile",
        "FROM scratch\nADD rootfs.tar /\nCMD [\"/bin/x\"]\n",
    )]);
    std::fs::write(
        context.join("rootfs.tar"),
        archive(&[file("bin/x", "program"), file("etc/y", "z")]),
    )
    .unwrap();
    let tags = vec!["plim/app:1".to_owned(), "plim/app".to_owned()];
    let built = home
        .request(BuildRequest {
            context,
            tags,
            ..BuildRequest::default()
        })
        .await;
    let image = built.image();
    assert_eq!(image.tags, ["plim/app:1", "plim/app:latest"]);
    assert_eq!(
        image.config.cmd.as_deref(),
        Some(&["/bin/x".to_owned()][..])
    );
    assert!(image.local);
    let root = home
        .images
        .prepare(&home.images.resolve("plim/app").unwrap(), "plim-c1")
        .unwrap();
    assert_eq!(
        std::fs::read_to_string(root.join("bin/x")).unwrap(),
        "program"
    );
    std::fs::write(root.join("new"), "1").unwrap();
    assert_eq!(
        home.images.changes("plim-c1").unwrap(),
        [('A', "/new".to_owned())]
    );
    home.images.remove_snapshot("plim-c1").unwrap();
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

const DOCKERFILE: &str = "FROM plim-base\nENV GREETING=hello\nRUN echo $GREETING > /greeting && echo visible\n\
    WORKDIR /app\nCOPY src/ .\nRUN cat main >> /greeting\nCMD cat /greeting\n";

#[tokio::test(flavor = "multi_thread")]
async fn steps_run_and_are_cached_with_the_same_id() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let files = [
        ("Dockerfile", DOCKERFILE),
        ("src/main", "main 1\n"),
        ("ignored", "x"),
    ];
    let first = home.build(&files).await;
    assert_eq!(
        home.read(first.image(), "greeting").as_deref(),
        Some("hello\nmain 1\n")
    );
    assert_eq!(first.output(), "visible\n");
    assert_eq!(first.cached(), 0);
    assert_eq!(
        first.image().config.cmd.as_ref().unwrap(),
        &["/bin/sh", "-c", "cat /greeting"]
    );
    assert_eq!(first.image().config.working_dir, "/app");

    let second = home.build(&files).await;
    assert_eq!(second.cached(), 6, "every step but FROM");
    assert_eq!(second.image().id, first.image().id);

    let changed = home
        .build(&[("Dockerfile", DOCKERFILE), ("src/main", "main 2\n")])
        .await;
    assert_eq!(
        changed.cached(),
        3,
        "ENV, RUN and WORKDIR; not COPY and what follows"
    );
    assert_eq!(
        home.read(changed.image(), "greeting").as_deref(),
        Some("hello\nmain 2\n")
    );

    let fresh = home
        .request(BuildRequest {
            context: home.context(&files),
            no_cache: true,
            ..BuildRequest::default()
        })
        .await;
    assert_eq!(fresh.cached(), 0);
    assert_ne!(fresh.image().id, first.image().id, "times differ");
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_outlives_the_process_and_a_later_failure() {
    if !is_root() {
        return;
    }
    let mut home = Home::new();
    home.base().await;
    let files = |last: &str| format!("FROM plim-base\nRUN echo long > /work\nRUN {last}\n");
    let failed = home.build(&[("Dockerfile", &files("false"))]).await;
    assert_eq!(
        failed.error(),
        "The command '/bin/sh -c false' returned a non-zero code: 1"
    );
    let path = home.path("images");
    let elsewhere = home.path("elsewhere");
    home.images = image::Images::open(elsewhere, Default::default()).unwrap();
    home.images = image::Images::open(path, Default::default()).unwrap();
    let again = home.build(&[("Dockerfile", &files("true"))]).await;
    assert_eq!(again.cached(), 1);
    assert_eq!(home.read(again.image(), "work").as_deref(), Some("long\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_command_leaves_nothing_but_its_output() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let built = home
        .build(&[("Dockerfile", "FROM plim-base\nRUN echo reason; exit 7\n")])
        .await;
    let Err(BuildError::Command {
        code,
        output,
        command,
    }) = &built.result
    else {
        panic!("{:?}", built.result)
    };
    assert_eq!(
        (*code, &output[..], command.as_str()),
        (7, &b"reason\n"[..], "/bin/sh -c echo reason; exit 7")
    );
    assert_eq!(home.images.list().len(), 1, "only the base");
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_a_step_plants_lead_nowhere_when_its_mount_points_go() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let victim = home.path("victim");
    std::fs::create_dir_all(victim.join("directory")).unwrap();
    std::fs::write(victim.join("lock"), "").unwrap();
    let (outside, climbing) = (victim.display(), "../".repeat(12));
    let dockerfile = format!(
        "FROM plim-base\n\
         RUN --mount=type=tmpfs,target=/x/lock mv /x /y && ln -s {outside} /x\n\
         RUN --mount=type=tmpfs,target=/a/directory mv /a /b && ln -s {climbing}{outside} /a\n\
         RUN --mount=type=tmpfs,target=/c/victim/lock mv /c /d && ln -s {} /c\n",
        home.dir.path().display()
    );
    let built = home.build(&[("Dockerfile", &dockerfile)]).await;
    let root = home.images.prepare(built.image(), "plim-look").unwrap();
    for planted in ["x", "a", "c"] {
        assert!(root.join(planted).is_symlink(), "{planted}");
    }
    home.images.remove_snapshot("plim-look").unwrap();
    assert!(victim.join("lock").exists(), "a file outside is gone");
    assert!(
        victim.join("directory").exists(),
        "a directory outside is gone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_targets_and_arguments() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile = "ARG BASE=plim-base\nARG SHARED=global\nFROM ${BASE} AS builder\nARG SHARED\nARG OWN=default\n\
        RUN echo \"$SHARED $OWN\" > /out\nFROM nonexistent.invalid/never AS unneeded\nRUN false\n\
        FROM scratch AS result\nCOPY --from=builder /out /final\nCOPY --from=0 /out /numbered\n\
        FROM result AS derived\nLABEL a=b\n";
    let context = home.context(&[("Dockerfile", dockerfile)]);
    let args = BTreeMap::from([
        ("OWN".to_owned(), Some("given".to_owned())),
        ("LOOSE".to_owned(), Some("x".to_owned())),
    ]);
    let request = BuildRequest {
        context,
        build_args: args,
        target: Some("Result".into()),
        ..BuildRequest::default()
    };
    let built = home.request(request.clone()).await;
    assert_eq!(
        home.read(built.image(), "final").as_deref(),
        Some("global given\n")
    );
    assert_eq!(
        home.read(built.image(), "numbered").as_deref(),
        Some("global given\n")
    );
    assert!(
        built
            .events
            .iter()
            .any(|e| matches!(e, BuildEvent::Warning(w) if w.contains("LOOSE"))),
        "{:?}",
        built.events
    );
    let steps: Vec<(usize, usize)> = built
        .events
        .iter()
        .filter_map(|e| {
            if let BuildEvent::Step { number, total, .. } = e {
                Some((*number, *total))
            } else {
                None
            }
        })
        .collect();
    assert_eq!(steps, (1..=7).map(|n| (n, 7)).collect::<Vec<_>>());

    let other = home
        .request(BuildRequest {
            build_args: BTreeMap::new(),
            target: None,
            ..request.clone()
        })
        .await;
    assert_eq!(
        home.read(other.image(), "final").as_deref(),
        Some("global default\n")
    );
    assert_eq!(
        other.image().config.labels.get("a").map(String::as_str),
        Some("b")
    );
    let missing = home
        .request(BuildRequest {
            target: Some("nope".into()),
            ..request
        })
        .await;
    assert!(
        missing
            .error()
            .contains("target stage \"nope\" could not be found"),
        "{}",
        missing.error()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_does_without_the_secret_that_nobody_gave() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile = |flags: &str| {
        format!(
            "FROM plim-base\nRUN --mount=type=secret,id=token,{flags} test -e /root/.npmrc || echo without > /out\n"
        )
    };
    let optional = dockerfile("target=/root/.npmrc");
    let built = home.build(&[("Dockerfile", &optional)]).await;
    assert_eq!(
        home.read(built.image(), "out").as_deref(),
        Some("without\n")
    );
    let required = dockerfile("required=true");
    let refused = home.build(&[("Dockerfile", &required)]).await.error();
    assert!(refused.contains("secret token: not found"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_reach_the_stages_that_are_based_on_theirs() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile = "FROM plim-base AS base\nARG VERSION=1.2\nARG GIVEN=default\nFROM base AS middle\n\
        FROM middle\nRUN echo \"$VERSION $GIVEN\" > /run-sees\nCOPY dist-$VERSION /copied\nLABEL version=$VERSION\n\
        FROM plim-base AS other\nRUN echo \"[$VERSION]\" > /other\n";
    let request = BuildRequest {
        context: home.context(&[("Dockerfile", dockerfile), ("dist-1.2", "D")]),
        build_args: BTreeMap::from([("GIVEN".to_owned(), Some("given".to_owned()))]),
        target: Some("2".into()),
        ..BuildRequest::default()
    };
    let built = home.request(request.clone()).await;
    let image = built.image();
    assert_eq!(home.read(image, "run-sees").as_deref(), Some("1.2 given\n"));
    assert_eq!(home.read(image, "copied").as_deref(), Some("D"));
    assert_eq!(image.config.labels["version"], "1.2");
    let other = BuildRequest {
        target: None,
        ..request
    };
    let other = home.request(other).await;
    assert_eq!(home.read(other.image(), "other").as_deref(), Some("[]\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_working_directory_belongs_to_the_user_for_whom_it_is_made() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile = "FROM plim-base\nWORKDIR /before/a\nUSER nobody\nWORKDIR /before/a/b\nWORKDIR /before/a\n\
        WORKDIR /new/c\nUSER 12:34\nWORKDIR d\nUSER ghost\nWORKDIR /unknown\n";
    let built = home.build(&[("Dockerfile", dockerfile)]).await;
    let root = home.images.prepare(built.image(), "plim-look").unwrap();
    for (path, owner) in [
        ("before", (0, 0)),
        ("before/a", (0, 0)),
        ("before/a/b", (65534, 65534)),
        ("new", (65534, 65534)),
        ("new/c", (65534, 65534)),
        ("new/c/d", (12, 34)),
        ("unknown", (0, 0)),
    ] {
        let meta = std::fs::metadata(root.join(path)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), owner, "{path}");
    }
    home.images.remove_snapshot("plim-look").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_instructions() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile = "FROM plim-base AS parent\nCMD [\"inherited\"]\nONBUILD ENV TRIGGERED=yes\nONBUILD RUN echo $TRIGGERED > /triggered\n\
        MAINTAINER someone\n";
    let parent = BuildRequest {
        context: home.context(&[("Dockerfile", dockerfile)]),
        tags: vec!["plim-parent".into()],
        ..BuildRequest::default()
    };
    home.request(parent).await.image();
    let dockerfile = "FROM plim-parent\nENTRYPOINT [\"/e\", \"x\"]\nENV A=1 B=\"two words\"\nENV C=$A-$B\nEXPOSE 80 53/udp\n\
        USER nobody\nVOLUME /data /logs\nSTOPSIGNAL SIGINT\nHEALTHCHECK --interval=5s --retries=3 CMD test -f /x\n\
        SHELL [\"/bin/busybox\", \"sh\", \"-c\"]\nRUN echo $0 $C > /tmp/shell\nLABEL l.x=\"v 1\"\nWORKDIR sub\nWORKDIR dir\n";
    let request = BuildRequest {
        context: home.context(&[("Dockerfile", dockerfile)]),
        labels: BTreeMap::from([("cli".to_owned(), "yes".to_owned())]),
        ..BuildRequest::default()
    };
    let built = home.request(request).await;
    let config = &built.image().config;
    assert_eq!(config.cmd, None, "ENTRYPOINT drops an inherited CMD");
    assert!(
        config.on_build.is_empty(),
        "triggers are not inherited further"
    );
    assert!(
        config.env.contains(&"C=1-two words".to_owned())
            && config.env.contains(&"TRIGGERED=yes".to_owned()),
        "{:?}",
        config.env
    );
    assert_eq!(
        config.exposed_ports.iter().collect::<Vec<_>>(),
        ["53/udp", "80/tcp"]
    );
    assert_eq!(
        (config.user.as_str(), config.working_dir.as_str()),
        ("nobody", "/sub/dir")
    );
    assert_eq!(config.volumes.len(), 2);
    let check = config.healthcheck.as_ref().unwrap();
    assert_eq!(
        (check.test.join(" "), check.interval, check.retries),
        ("CMD-SHELL test -f /x".into(), 5_000_000_000, 3)
    );
    assert_eq!(config.labels["l.x"], "v 1");
    assert_eq!(config.labels["cli"], "yes");
    assert_eq!(
        home.read(built.image(), "triggered").as_deref(),
        Some("yes\n")
    );
    assert_eq!(
        home.read(built.image(), "tmp/shell").as_deref(),
        Some("sh 1-two words\n"),
        "SHELL's, not /bin/sh"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_only_triggers_name_are_built() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let parent = "FROM plim-base\nONBUILD COPY --from=assets /made /copied\n\
        ONBUILD RUN --mount=from=1,target=/m cat /m/made > /mounted\n";
    let parent = BuildRequest {
        context: home.context(&[("Dockerfile", parent)]),
        tags: vec!["plim-parent".into()],
        ..BuildRequest::default()
    };
    home.request(parent).await.image();
    let dockerfile = "FROM plim-base AS deep\nRUN echo deep > /deep\nFROM deep AS assets\nRUN cp /deep /made\n\
        FROM plim-base AS unneeded\nRUN false\nFROM plim-parent\nCMD x\n";
    let built = home.build(&[("Dockerfile", dockerfile)]).await;
    for path in ["copied", "mounted"] {
        assert_eq!(
            home.read(built.image(), path).as_deref(),
            Some("deep\n"),
            "{path}"
        );
    }
    let told = built.events.iter().filter_map(|e| match e {
        BuildEvent::Step { number, total, .. } => Some((*number, *total)),
        _ => None,
    });
    assert_eq!(told.last(), Some((6, 6)));
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn heredocs_run() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile = "FROM plim-base\nRUN <<EOF\necho one > /one\necho \"$PATH\" > /path\nEOF\nRUN <<END cat > /two\ntext\nEND\n";
    let built = home.build(&[("Dockerfile", dockerfile)]).await;
    assert_eq!(home.read(built.image(), "one").as_deref(), Some("one\n"));
    assert!(home.read(built.image(), "path").unwrap().contains("/bin"));
    assert_eq!(home.read(built.image(), "two").as_deref(), Some("text\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_reach_the_image() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile = "FROM plim-base\nRUN mkdir /d && echo 1 > /d/a && echo 2 > /d/b\nRUN rm /d/a\nRUN rm -r /d && mkdir /d && echo 3 > /d/c\n";
    let built = home.build(&[("Dockerfile", dockerfile)]).await;
    let root = home.images.prepare(built.image(), "plim-look").unwrap();
    let names: Vec<_> = std::fs::read_dir(root.join("d"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["c"]);
    home.images.remove_snapshot("plim-look").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_run_side_by_side() {
    if !is_root() {
        return;
    }
    let home = std::sync::Arc::new(Home::new());
    home.base().await;
    let tasks: Vec<_> = (0..6)
        .map(|n| {
            let home = home.clone();
            tokio::spawn(async move {
                let dockerfile = format!(
                    "FROM plim-base\nRUN echo same > /same\nRUN echo {} > /n\n",
                    n % 3
                );
                home.build(&[("Dockerfile", &dockerfile)])
                    .await
                    .image()
                    .clone()
            })
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        let image = task.await.unwrap();
        assert_eq!(home.read(&image, "n"), Some(format!("{}\n", n % 3)));
    }
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_build_removes_its_snapshot() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let build = home.build(&[("Dockerfile", "FROM plim-base\nRUN sleep 600\n")]);
    let mut build = Box::pin(build);
    let mounted = async {
        while home.images.snapshots().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut build => panic!("the build ended"),
        () = mounted => {}
    }
    drop(build);
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[test]
fn platforms() {
    assert_eq!(
        Platform::parse("linux/arm64/v8").unwrap().to_string(),
        "linux/arm64"
    );
    assert_eq!(
        Platform::parse("x86_64").unwrap().to_string(),
        "linux/amd64"
    );
    assert!(Platform::parse("a//b").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn entrypoint_of_a_later_stage_drops_the_earlier_command() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let dockerfile = "FROM scratch AS a\nCMD [\"c\"]\nFROM a AS b\nENTRYPOINT [\"e\"]\n";
    let built = home.build(&[("Dockerfile", dockerfile)]).await;
    assert_eq!(built.image().config.cmd, None);
    let dropped = "FROM scratch AS a\nENTRYPOINT [\"e\"]\nCMD [\"c\"]\nFROM a\nENTRYPOINT []\n";
    let dropped = home.build(&[("Dockerfile", dropped)]).await;
    let config = &dropped.image().config;
    assert_eq!((&config.entrypoint, &config.cmd), (&None, &None));
    let own = home
        .build(&[(
            "Dockerfile",
            "FROM scratch\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\n",
        )])
        .await;
    assert_eq!(
        own.image().config.cmd.as_deref(),
        Some(&["c".to_owned()][..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn heredocs_run_wherever_they_stand() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let dockerfile = "FROM plim-base\nENV a=value\nRUN cat <<EOF > /one && echo done\nx $a\nRUN false\nEOF\n\
        RUN cat <<'A' - 3<<-B > /two < /one\n$a\nA\n\tb\n\tB\n\
        RUN <<EOF | cat > /three\nnever seen\nEOF\nRUN \\\n  cat \\\n  <<EOF \\\n  # comment\n  > /four\nfour\nEOF\n\
        COPY <<F <<G /files/\nRUN <<H\nF\nG!\nG\nCMD x\n";
    let built = home.build(&[("Dockerfile", dockerfile)]).await;
    let image = built.image();
    assert_eq!(built.output(), "done\n");
    for (path, content) in [
        ("one", "x value\nRUN false\n"),
        ("two", "x value\nRUN false\n"),
        ("three", ""),
        ("four", "four\n"),
        ("files/F", "RUN <<H\n"),
        ("files/G", "G!\n"),
    ] {
        assert_eq!(home.read(image, path).as_deref(), Some(content), "{path}");
    }
    let backtick =
        "# escape=`\nFROM plim-base\nENV a=value\nCOPY <<EOF /quoted\n\"$a\" 'it' \\$a\nEOF\n";
    let built = home.build(&[("Dockerfile", backtick)]).await;
    assert_eq!(
        home.read(built.image(), "quoted").as_deref(),
        Some("\"value\" 'it' $a\n")
    );
    let broken = home
        .build(&[("Dockerfile", "FROM plim-base\nRUN cat <<EOF > /x\nx\n")])
        .await;
    assert_eq!(
        broken.error(),
        "dockerfile parse error on line 2, column 9: unterminated heredoc: no line \"EOF\" ends it"
    );
}
