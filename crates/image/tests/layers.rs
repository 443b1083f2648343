//! Archives, hostile ones too, to layers and snapshots.

mod common;

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use common::{Entry, Home, archive, dir, exists, file, hard, import, is_root, link};
use image::{Error, Images, Limits, Options, Removed};
use tar::EntryType;

/// Loads an image of layers, the lowest first.
async fn load(home: &Home, layers: &[Vec<u8>]) -> image::Image {
    let digests: Vec<String> = layers.iter().map(|l| common::server::digest(l)).collect();
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}.tar")).collect();
    let manifest =
        format!(r#"[{{"Config":"c.json","RepoTags":["plim-made:1"],"Layers":{names:?}}}]"#);
    let host = image::Platform::host().architecture;
    let config = format!(
        r#"{{"architecture":"{host}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":{digests:?}}}}}"#
    );
    let mut entries = vec![file("manifest.json", &manifest), file("c.json", &config)];
    for (name, layer) in names.iter().zip(layers) {
        entries.push(Entry {
            content: layer,
            ..file(name, "")
        });
    }
    let loaded = home.images.load(std::io::Cursor::new(archive(&entries)));
    loaded.await.unwrap().remove(0)
}

#[tokio::test]
async fn directories_that_a_layer_does_not_name_are_as_those_below() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let owned = |path, mode, owner| Entry {
        mode,
        owner,
        ..dir(path)
    };
    let lower = archive(&[
        owned("tmp", 0o1777, (0, 0)),
        owned("home", 0o711, (0, 0)),
        owned("home/app", 0o700, (12, 34)),
        owned("gone", 0o700, (12, 34)),
        owned("opaque", 0o700, (12, 34)),
        owned("named", 0o700, (12, 34)),
        owned("late", 0o700, (12, 34)),
        owned("plain", 0o755, (0, 0)),
    ]);
    let upper = archive(&[
        file("tmp/x", "x"),
        file("home/app/.wh.old", ""),
        file("opaque/x", "x"),
        file("opaque/.wh..wh..opq", ""),
        file("late/x", "x"),
        owned("late", 0o750, (5, 5)),
        owned("named", 0o750, (5, 5)),
        file("plain/x", "x"),
        file(".wh.gone", ""),
        file("new/x", "x"),
    ]);
    let top = archive(&[
        file("tmp/y", "y"),
        file("gone/x", "x"),
        file("named/y", "y"),
    ]);
    let image = load(&home, &[lower, upper, top]).await;
    let look = |root: std::path::PathBuf| {
        for (path, mode, owner) in [
            ("tmp", 0o1777, (0, 0)),
            ("home", 0o711, (0, 0)),
            ("home/app", 0o700, (12, 34)),
            ("gone", 0o755, (0, 0)),
            ("opaque", 0o755, (0, 0)),
            ("named", 0o750, (5, 5)),
            ("late", 0o750, (5, 5)),
            ("plain", 0o755, (0, 0)),
            ("new", 0o755, (0, 0)),
        ] {
            let meta = std::fs::metadata(root.join(path)).unwrap();
            let found = (meta.mode() & 0o7777, (meta.uid(), meta.gid()));
            assert_eq!(found, (mode, owner), "{path}");
        }
        for path in ["tmp/x", "tmp/y", "gone/x", "named/y", "opaque/x"] {
            assert!(exists(&root.join(path)), "{path}");
        }
    };
    look(home.images.prepare(&image, "plim-look").unwrap());
    let upper = home.images.snapshot_directory("plim-look").join("upper");
    assert!(!exists(&upper.join("plain")) && !exists(&upper.join("new")));
    home.images.remove_snapshot("plim-look").unwrap();

    let mut home = home;
    home.reopen();
    let image = home.images.resolve("plim-made:1").unwrap();
    look(home.images.prepare(&image, "plim-look").unwrap());
    home.images.remove_snapshot("plim-look").unwrap();
    let again = home.path("saved.tar");
    let out = tokio::fs::File::create(&again).await.unwrap();
    home.images
        .save(&["plim-made:1".into()], out)
        .await
        .unwrap();
    let other = Home::new();
    let saved = tokio::fs::File::open(&again).await.unwrap();
    let loaded = other.images.load(saved).await.unwrap().remove(0);
    assert_eq!(loaded.layers(), image.layers());
    look(other.images.prepare(&loaded, "plim-look").unwrap());
    other.images.remove_snapshot("plim-look").unwrap();
}

#[tokio::test]
async fn changes_are_told_without_a_look_at_the_machine() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let outside = home.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "").unwrap();
    let target = outside.display().to_string();
    let image = import(&home.images, "plim-links", archive(&[link("d", &target)]));
    let root = home
        .images
        .prepare(&image.await.unwrap(), "plim-look")
        .unwrap();
    std::fs::remove_file(root.join("d")).unwrap();
    std::fs::create_dir(root.join("d")).unwrap();
    std::fs::write(root.join("d/file"), "").unwrap();
    assert_eq!(
        home.images.changes("plim-look").unwrap(),
        [('C', "/d".to_owned()), ('A', "/d/file".to_owned())]
    );
    home.images.remove_snapshot("plim-look").unwrap();
}

#[tokio::test]
async fn entries_that_climb_out_are_refused() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let outside = home.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "untouched").unwrap();
    let out = outside.display().to_string();
    let out_file = format!("{out}/file");
    let up = "../".repeat(20);
    let (up_etc, up_x) = (format!("{up}etc"), format!("{up}x"));
    for (what, entries, reason) in [
        ("dots", vec![file("a/../../x", "")], "climbs with '..'"),
        ("absolute", vec![file("/etc/x", "")], "absolute path"),
        ("many dots", vec![file(&up_x, "")], "climbs with '..'"),
        (
            "absolute link",
            vec![link("d", &out), file("d/file", "evil")],
            "through a symbolic link",
        ),
        (
            "relative link",
            vec![link("d", &up_etc), file("d/passwd", "evil")],
            "through a symbolic link",
        ),
        (
            "link to link",
            vec![link("a", "/"), link("b", "a"), file("b/x", "evil")],
            "through a symbolic link",
        ),
        (
            "directory through link",
            vec![link("d", &out), dir("d/new")],
            "through a symbolic link",
        ),
        ("hard link out", vec![hard("x", &out_file)], "absolute path"),
        (
            "hard link up",
            vec![hard("x", "../../../../etc/passwd")],
            "climbs with '..'",
        ),
        (
            "hard link through link",
            vec![link("d", &out), hard("x", "d/file")],
            "through a symbolic link",
        ),
        (
            "whiteout out",
            vec![link("d", &out), file("d/.wh.file", "")],
            "through a symbolic link",
        ),
        (
            "opaque out",
            vec![link("d", &out), file("d/.wh..wh..opq", "")],
            "through a symbolic link",
        ),
        (
            "whiteout of dots",
            vec![file("a/.wh...", "")],
            "a whiteout without a valid name",
        ),
        (
            "loop",
            vec![link("a", "b"), link("b", "a"), file("a/x", "")],
            "too many symbolic links",
        ),
        (
            "file as directory",
            vec![file("a", ""), file("a/b", "")],
            "not a directory",
        ),
        (
            "disk",
            vec![Entry {
                kind: EntryType::Block,
                device: (8, 0),
                ..file("sda", "")
            }],
            "not allowed in an image",
        ),
        (
            "forged whiteout",
            vec![Entry {
                kind: EntryType::Char,
                ..file("etc", "")
            }],
            "not allowed in an image",
        ),
        (
            "kernel memory",
            vec![Entry {
                kind: EntryType::Char,
                device: (1, 1),
                ..file("mem", "")
            }],
            "not allowed in an image",
        ),
        (
            "odd type",
            vec![Entry {
                kind: EntryType::new(b'Q'),
                ..file("q", "")
            }],
            "unknown type",
        ),
        (
            "root replaced",
            vec![link("./", "/etc")],
            "replace the root",
        ),
    ] {
        match import(&home.images, "plim-x", archive(&entries)).await {
            Err(error @ Error::Entry { .. }) => {
                assert!(error.to_string().contains(reason), "{what}: {error}")
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    assert_eq!(
        std::fs::read_to_string(outside.join("file")).unwrap(),
        "untouched"
    );
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert!(home.images.list().is_empty());
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn bounds_hold() {
    if !is_root() {
        return;
    }
    let limits = Limits {
        entries: 3,
        bytes: 64 << 10,
    };
    let home = Home::with(Options {
        limits,
        ..Options::default()
    });
    let four = archive(&[file("a", ""), file("b", ""), file("c", ""), file("d", "")]);
    let error = import(&home.images, "plim-x", four)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("more than 3 entries"), "{error}");
    let zeros = vec![0; 1 << 20];
    let big = Entry {
        content: &zeros,
        ..file("big", "")
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, &archive(&[big])).unwrap();
    let error = import(&home.images, "plim-x", gzip.finish().unwrap())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("larger than the limit"), "{error}");
    // A name of 8 MiB would be read into memory.
    let home = Home::new();
    let name = vec![b'n'; 8 << 20];
    let long = Entry {
        kind: EntryType::GNULongName,
        content: &name,
        ..file("././@LongLink", "")
    };
    let error = import(&home.images, "plim-x", archive(&[long, file("x", "")]))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("exceed 4 MiB"), "{error}");
}

#[tokio::test]
async fn garbage_is_an_error_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let good = archive(&[file("a", "content")]);
    for bytes in [
        b"not a tar at all, but long enough to be looked at as one".repeat(20),
        good[..700].to_vec(),
        vec![0x1f, 0x8b, 8, 0, 1],
    ] {
        assert!(import(&home.images, "plim-x", bytes).await.is_err());
    }
    assert!(home.images.list().is_empty());
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn everything_of_a_file_is_kept() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let mut attributes = file("caps", "x");
    attributes.xattrs.insert("user.note", b"hello");
    attributes.xattrs.insert("trusted.overlay.opaque", b"y");
    let entries = [
        dir("d"),
        Entry {
            owner: (1000, 2_000_000),
            mode: 0o4750,
            ..file("d/set-uid", "s")
        },
        hard("d/same", "d/set-uid"),
        link("d/link", "/absolute/target"),
        Entry {
            kind: EntryType::Fifo,
            ..file("pipe", "")
        },
        Entry {
            kind: EntryType::Char,
            device: (1, 3),
            mode: 0o666,
            ..file("null", "")
        },
        attributes,
        file("twice", "old"),
        file("twice", "new"),
    ];
    let image = import(&home.images, "plim-x", archive(&entries))
        .await
        .unwrap();
    let root = home.images.prepare(&image, "plim-c").unwrap();
    let meta = |path: &str| std::fs::symlink_metadata(root.join(path)).unwrap();
    let set_uid = meta("d/set-uid");
    assert_eq!(
        (
            set_uid.uid(),
            set_uid.gid(),
            set_uid.mode() & 0o7777,
            set_uid.mtime()
        ),
        (1000, 2_000_000, 0o4750, 1_600_000_000)
    );
    assert_eq!(meta("d/same").ino(), set_uid.ino());
    assert_eq!(meta("d").mtime(), 1_600_000_000);
    assert_eq!(
        std::fs::read_link(root.join("d/link")).unwrap().to_str(),
        Some("/absolute/target")
    );
    assert!(meta("pipe").file_type().is_fifo());
    assert_eq!(
        (
            meta("null").file_type().is_char_device(),
            meta("null").mode() & 0o777
        ),
        (true, 0o666)
    );
    assert_eq!(std::fs::read_to_string(root.join("twice")).unwrap(), "new");
    let mut value = [0; 8];
    assert_eq!(
        rustix::fs::lgetxattr(root.join("caps"), "user.note", &mut value[..]),
        Ok(5)
    );
    home.images.remove_snapshot("plim-c").unwrap();
}

#[tokio::test]
async fn snapshots_come_back_and_never_leak() {
    if !is_root() {
        return;
    }
    let mut home = Home::new();
    let image = import(&home.images, "plim-x", archive(&[file("a", "1")]))
        .await
        .unwrap();
    let root = home.images.prepare(&image, "plim-c").unwrap();
    std::fs::write(root.join("b"), "2").unwrap();
    assert_eq!(
        home.images.prepare(&image, "plim-c").unwrap(),
        root,
        "preparing again changes nothing"
    );
    let mounts = || {
        std::fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .matches(root.to_str().unwrap())
            .count()
    };
    assert_eq!(mounts(), 1);
    // A reboot: the mount is gone, the directory is not.
    home.images.unmount("plim-c").unwrap();
    assert!(!exists(&root.join("a")));
    let path = home.path("images");
    home.images = Images::open(home.path("other"), Options::default()).unwrap();
    home.images = Images::open(path.clone(), Options::default()).unwrap();
    assert!(matches!(
        Images::open(path, Options::default()),
        Err(Error::Locked(_))
    ));
    let image = home.images.resolve("plim-x").unwrap();
    assert_eq!(home.images.prepare(&image, "plim-c").unwrap(), root);
    assert_eq!(std::fs::read_to_string(root.join("b")).unwrap(), "2");
    assert_eq!(home.images.snapshot_size("plim-c").unwrap(), 1);

    let other = import(&home.images, "plim-y", archive(&[file("z", "1")]))
        .await
        .unwrap();
    assert!(matches!(
        home.images.prepare(&other, "plim-c"),
        Err(Error::SnapshotExists { .. })
    ));
    for name in ["", "../x", "a/b", ".hidden", "a b"] {
        assert!(
            matches!(
                home.images.prepare(&other, name),
                Err(Error::InvalidSnapshot(_))
            ),
            "{name:?}"
        );
    }
    assert!(matches!(
        home.images.unmount("plim-none"),
        Err(Error::NoSnapshot(_))
    ));
    home.images.prepare(&other, "plim-d").unwrap();
    home.images.purge().unwrap();
    assert_eq!(
        home.images
            .snapshots()
            .iter()
            .filter(|s| s.mounted.is_some())
            .count(),
        0
    );
    home.images.remove_snapshot("plim-c").unwrap();
    home.images.remove_snapshot("plim-d").unwrap();
    home.images.remove_snapshot("plim-d").unwrap();
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_and_twenty_seven_layers_mount() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let mut image = import(&home.images, "plim-x", archive(&[file("n", "0")]))
        .await
        .unwrap();
    for n in 1..127 {
        let id = format!("plim-{n}");
        let root = home.images.prepare(&image, &id).unwrap();
        std::fs::write(root.join(format!("f{n}")), n.to_string()).unwrap();
        image = home
            .images
            .commit(&id, &image, Some("plim-x"), |_| {})
            .await
            .unwrap();
        home.images.remove_snapshot(&id).unwrap();
    }
    assert_eq!(image.layers().len(), 127);
    let root = home.images.prepare(&image, "plim-all").unwrap();
    assert!(exists(&root.join("f1")) && exists(&root.join("f126")) && exists(&root.join("n")));
    let error = home
        .images
        .commit("plim-all", &image, None, |_| {})
        .await
        .map(|i| home.images.prepare(&i, "plim-more"));
    assert!(
        matches!(error, Ok(Err(Error::TooManyLayers(128)))),
        "{error:?}"
    );
    home.images.remove_snapshot("plim-all").unwrap();
}

#[tokio::test]
async fn names_images_and_disk_space_go_together() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let images = &home.images;
    let image = import(images, "plim-x:1", archive(&[file("a", "12345")]))
        .await
        .unwrap();
    assert_eq!(image.size_bytes, 5);
    images.tag("plim-x:1", "plim-y").unwrap();
    assert!(images.tag("plim-x:1", "Bad/NAME").is_err());
    assert!(images.tag("plim-none", "plim-z").is_err());
    let short = &image.id["sha256:".len()..][..12];
    assert_eq!(
        images.resolve(short).unwrap().tags,
        ["plim-x:1", "plim-y:latest"]
    );
    assert_eq!(
        images.resolve("docker.io/library/plim-y").unwrap().id,
        image.id
    );
    assert!(
        matches!(images.remove(short, false), Err(Error::InUse { .. })),
        "two names"
    );
    assert_eq!(
        images.remove("plim-y", false).unwrap(),
        [Removed::Untagged("plim-y:latest".into())]
    );
    images.prepare(&image, "plim-c").unwrap();
    assert!(
        matches!(images.remove("plim-x:1", false), Err(Error::InUse { .. })),
        "a snapshot uses it"
    );
    let removed = images.remove("plim-x:1", true).unwrap();
    assert_eq!(removed[0], Removed::Untagged("plim-x:1".into()));
    assert!(images.resolve("plim-x:1").is_none() && images.list().is_empty());
    assert_eq!(
        std::fs::read_to_string(home.path("images/snapshots/plim-c/merged/a")).unwrap(),
        "12345"
    );
    images.remove_snapshot("plim-c").unwrap();
    let layers = std::fs::read_dir(home.path("images/layers"))
        .unwrap()
        .count();
    assert_eq!(layers, 1, "only the empty one");
    assert_eq!(images.usage(), image::Usage::default());
    assert!(matches!(
        images.remove("plim-x:1", false),
        Err(Error::NotFound(_))
    ));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    /// Random links, files and directories with nasty names never touch anything outside.
    #[test]
    fn nothing_escapes(entries in proptest::collection::vec(
        (0u8..4, "(\\.\\./|/|a/|b/|\\./){0,3}(a|b|\\.\\.|\\.wh\\.a|\\.wh\\.\\.wh\\.\\.opq)", "(\\.\\./|/|a/|b/){0,4}(a|b|outside|\\.\\.)?"), 1..12)) {
        if is_root() {
            let home = Home::new();
            let outside = home.path("outside");
            std::fs::create_dir(&outside).unwrap();
            std::fs::write(outside.join("a"), "untouched").unwrap();
            let before = std::fs::read_dir(home.dir.path()).unwrap().count();
            let entries: Vec<Entry<'_>> = entries.iter().map(|(kind, path, target)| match kind {
                0 => file(path, "x"),
                1 => dir(path),
                2 => link(path, if target.is_empty() { "/" } else { target }),
                _ => hard(path, target),
            }).collect();
            let bytes = archive(&entries);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(import(&home.images, "plim-x", bytes));
            drop(runtime);
            proptest::prop_assert_eq!(std::fs::read_dir(home.dir.path()).unwrap().count(), before);
            proptest::prop_assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
            proptest::prop_assert_eq!(std::fs::read_to_string(outside.join("a")).unwrap(), "untouched");
            proptest::prop_assert!(rustix::fs::lgetxattr(&outside, "trusted.overlay.opaque", &mut [0u8; 8][..]).is_err());
        }
    }
}

/// A docker-archive with one layer and a configuration that promises `diff_id`.
fn saved(layer: &[u8], diff_id: &str) -> Vec<u8> {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let manifest =
        r#"[{"Config":"config.json","RepoTags":["plim-saved:1"],"Layers":["layer.tar"]}]"#;
    archive(&[
        Entry {
            content: layer,
            ..file("layer.tar", "")
        },
        file("config.json", &config),
        file("manifest.json", manifest),
    ])
}

#[tokio::test]
async fn a_layer_is_what_its_configuration_says_or_refused() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let layer = archive(&[file("a", "1")]);
    let load = |bytes| home.images.load(std::io::Cursor::new(bytes));
    let wrong = load(saved(&layer, &format!("sha256:{}", "0".repeat(64)))).await;
    let Err(Error::DigestMismatch { actual, .. }) = wrong else {
        panic!("{wrong:?}")
    };
    assert!(home.images.list().is_empty());
    let loaded = load(saved(&layer, &actual)).await.unwrap();
    assert_eq!(loaded[0].tags, ["plim-saved:1"]);
    assert_eq!(home.read(&loaded[0], "a").as_deref(), Some("1"));
    let climbing = load(saved(
        &archive(&[file("../x", "")]),
        &actual.replace('a', "b"),
    ))
    .await;
    assert!(matches!(climbing, Err(Error::Entry { .. })), "{climbing:?}");
    assert_eq!(home.leftovers(), Vec::<String>::new());
}
