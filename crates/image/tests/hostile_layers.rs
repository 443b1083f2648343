//! Layers that are made to do harm: written through links, too large, too many, too deep, with attributes that are not theirs.

mod common;

use std::os::unix::fs::MetadataExt;

use common::{Entry, Home, archive, dir, exists, file, import, is_root, link};
use image::{Images, Limits, Options};
use tar::EntryType;

#[tokio::test]
async fn nothing_is_written_through_what_a_layer_put_there_itself() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let outside = home.path("outside");
    std::fs::write(&outside, "untouched").unwrap();
    let out = outside.display().to_string();
    let fifo = |path| Entry {
        kind: EntryType::Fifo,
        mode: 0o777,
        ..file(path, "")
    };
    let entries = [
        // A file becomes a link, and the link a file again: the link is replaced, not followed.
        file("a", "first"),
        link("a", &out),
        file("a", "evil"),
        // The same for what is not opened.
        link("b", &out),
        fifo("b"),
        link("c", &out),
        dir("c"),
        // A whole directory gives way to a link, and the link to a directory.
        dir("d"),
        file("d/x", "inner"),
        link("d", "/etc"),
        dir("d"),
        file("d/y", "inner"),
        // Modes and owners of a link are its own.
        Entry {
            owner: (4242, 4242),
            mode: 0o777,
            ..link("e", &out)
        },
    ];
    let image = import(&home.images, "plim-x", archive(&entries))
        .await
        .unwrap();
    let root = home.images.prepare(&image, "plim-c").unwrap();
    assert_eq!(std::fs::read_to_string(root.join("a")).unwrap(), "evil");
    assert!(root.join("c").is_dir() && !exists(&root.join("d/x")) && exists(&root.join("d/y")));
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "untouched");
    let meta = std::fs::metadata(&outside).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o777), (0, 0o644));
    home.images.remove_snapshot("plim-c").unwrap();
}

/// A GNU sparse file: almost nothing in the archive, as much as it says on the disk.
fn sparse(size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(size);
    gnu.sparse[0].set_offset(size);
    gnu.sparse[0].set_length(0);
    header.set_path("bomb").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &b""[..]).unwrap();
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn holes_are_bounded_like_content() {
    if !is_root() {
        return;
    }
    let limits = Limits {
        entries: 100,
        bytes: 1 << 20,
    };
    let home = Home::with(Options {
        limits,
        ..Options::default()
    });
    for size in [(1 << 20) + 1, 1 << 40, 1 << 62] {
        let error = import(&home.images, "plim-x", sparse(size))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("larger than the limit of 1048576 bytes"),
            "{size}: {error}"
        );
    }
    let image = import(&home.images, "plim-x", sparse(1 << 19))
        .await
        .unwrap();
    assert_eq!(image.size_bytes, 1 << 19);
    // Several that are small are large together.
    let zeros = "0".repeat(400 << 10);
    let three = archive(&[file("a", &zeros), file("b", &zeros), file("c", &zeros)]);
    let error = import(&home.images, "plim-y", three)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("larger than the limit"), "{error}");
    // A header that promises more than there is.
    let mut cut = archive(&[file("a", &zeros)]);
    cut.truncate(1024);
    assert!(import(&home.images, "plim-z", cut).await.is_err());
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn deep_paths_come_and_go() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let deep = "d/".repeat(2000);
    let long = format!("{deep}file");
    let pax = |path: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        builder
            .append_pax_extensions([("path", path.as_bytes())])
            .unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(1);
        header.set_cksum();
        builder.append(&header, &b"x"[..]).unwrap();
        builder.into_inner().unwrap()
    };
    let image = import(&home.images, "plim-deep", pax(&long)).await.unwrap();
    home.images.prepare(&image, "plim-c").unwrap();
    home.images.remove_snapshot("plim-c").unwrap();
    home.images.remove("plim-deep", true).unwrap();
    let layers = std::fs::read_dir(home.path("images/layers"))
        .unwrap()
        .count();
    assert_eq!(layers, 1, "only the empty one");
    let error = import(&home.images, "plim-x", pax(&"d/".repeat(3000)))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("longer than 4096 bytes"),
        "{error}"
    );
    let error = import(&home.images, "plim-x", pax(&"n".repeat(256)))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("longer than 255 bytes"),
        "{error}"
    );
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn attributes_are_the_files_own_or_not_at_all() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    // cap_net_raw+ep, as setcap(8) writes it.
    let capability: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut ping = file("ping", "x");
    ping.mode = 0o4755;
    ping.owner = (0, 50);
    ping.xattrs.insert("security.capability", capability);
    ping.xattrs.insert("security.selinux", b"forged");
    ping.xattrs.insert("trusted.overlay.redirect", b"/etc");
    ping.xattrs.insert("trusted.overlay.metacopy", b"");
    let mut opaque = dir("d");
    opaque.xattrs.insert("trusted.overlay.opaque", b"y");
    opaque.xattrs.insert("user.overlay.opaque", b"y");
    let image = import(&home.images, "plim-x", archive(&[ping, opaque]))
        .await
        .unwrap();
    let root = home.images.prepare(&image, "plim-c").unwrap();
    let layer = std::fs::read_dir(home.path("images/layers"))
        .unwrap()
        .flatten();
    let mut layers = layer
        .map(|entry| entry.path())
        .filter(|path| walk(path).iter().any(|name| name.ends_with("ping")));
    let on_disk = walk(&layers.next().unwrap());
    let get = |path: &std::path::Path, name: &str| {
        let mut value = [0; 64];
        rustix::fs::lgetxattr(path, name, &mut value[..]).map(|length| value[..length].to_vec())
    };
    assert_eq!(
        get(&root.join("ping"), "security.capability").as_deref(),
        Ok(capability)
    );
    let meta = std::fs::metadata(root.join("ping")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o4755, 50));
    for path in on_disk
        .iter()
        .filter(|path| path.ends_with("ping") || path.ends_with("d"))
    {
        for name in [
            "trusted.overlay.redirect",
            "trusted.overlay.metacopy",
            "trusted.overlay.opaque",
            "user.overlay.opaque",
        ] {
            assert!(get(path, name).is_err(), "{} {name}", path.display());
        }
        assert_ne!(get(path, "security.selinux").as_deref(), Ok(&b"forged"[..]));
    }
    home.images.remove_snapshot("plim-c").unwrap();
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            found.push(entry.path());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(entry.path());
            }
        }
    }
    found
}

#[tokio::test]
async fn odd_numbers_are_refused_or_brought_into_range() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let with = |path: &str, owner: u64, mtime: Option<&str>| {
        let mut builder = tar::Builder::new(Vec::new());
        if let Some(mtime) = mtime {
            builder
                .append_pax_extensions([("mtime", mtime.as_bytes())])
                .unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_path(path).unwrap();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o7_777_777);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(u64::MAX);
        header.set_size(0);
        header.set_cksum();
        builder.append(&header, &b""[..]).unwrap();
        builder.into_inner().unwrap()
    };
    for owner in [u64::from(u32::MAX), 1 << 32, u64::MAX] {
        let error = import(&home.images, "plim-x", with("f", owner, None))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("is no valid id"), "{error}");
    }
    for (mtime, expected) in [
        (Some("-99999999999999"), -(1 << 31)),
        (Some("-1.5"), -1),
        // As far as ext4 goes, where the store is on one.
        (Some("99999999999999999"), 0x3_7fff_ffff),
        (Some("1.999999999999999"), 1),
    ] {
        let image = import(&home.images, "plim-t", with("f", 4_294_967_294, mtime))
            .await
            .unwrap();
        let root = home.images.prepare(&image, "plim-c").unwrap();
        let meta = std::fs::metadata(root.join("f")).unwrap();
        assert_eq!(
            (meta.mtime().min(0x3_7fff_ffff), meta.uid()),
            (expected, 4_294_967_294),
            "{mtime:?}"
        );
        assert_eq!(meta.mode() & 0o7777, 0o7777);
        home.images.remove_snapshot("plim-c").unwrap();
    }
    for mtime in [Some("soon"), Some("nan"), Some(""), None] {
        import(&home.images, "plim-t", with("f", 0, mtime))
            .await
            .unwrap();
    }
}

/// A file system of its own with few inodes, unmounted on drop.
struct Small(tempfile::TempDir);

impl Small {
    fn new(options: &std::ffi::CStr) -> Small {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-small-")
            .tempdir()
            .unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("plimsoll", dir.path(), "tmpfs", flags, options).unwrap();
        Small(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_is_told_by_what_it_is_full_of() {
    if !is_root() {
        return;
    }
    for (options, reason) in [
        (c"nr_inodes=200,size=64m", "no inodes left"),
        (c"size=2m", "No space left on device"),
    ] {
        let small = Small::new(options);
        let images = Images::open(small.0.path().join("images"), Options::default()).unwrap();
        let content = "x".repeat(10 << 10);
        let names: Vec<String> = (0..500).map(|n| format!("f{n}")).collect();
        let entries: Vec<Entry<'_>> = names.iter().map(|name| file(name, &content)).collect();
        // Streamed, as from a registry: the archive itself needs no room here.
        let error = import(&images, "plim-x", archive(&entries))
            .await
            .unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        // What was unpacked until then is gone again, and there is room for what fits.
        import(&images, "plim-y", archive(&[file("a", "1")]))
            .await
            .unwrap();
        assert!(images.resolve("plim-x").is_none(), "nothing half");
    }
}

/// A layer of very many files, made as it is read: the memory that it takes does not grow with them.
#[tokio::test]
async fn very_many_files_do_not_take_very_much_memory() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    // The most since it was last asked, in KiB: what is freed at the end counts.
    let peak = || {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let number = line.split_whitespace().next().unwrap();
        number.parse::<u64>().unwrap()
    };
    let import_many = async |name: &str, paths: Box<dyn Iterator<Item = String> + Send>| {
        let (mut writing, reading) = std::os::unix::net::UnixStream::pair().unwrap();
        let writer = std::thread::spawn(move || {
            let mut builder = tar::Builder::new(&mut writing);
            for path in paths {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(if path.ends_with('/') {
                    EntryType::Directory
                } else {
                    EntryType::Regular
                });
                header.set_mode(0o755);
                header.set_uid(0);
                header.set_gid(0);
                header.set_mtime(0);
                header.set_size(0);
                builder.append_data(&mut header, path, &b""[..]).unwrap();
            }
            builder.finish().unwrap();
        });
        reading.set_nonblocking(true).unwrap();
        let reading = tokio::net::UnixStream::from_std(reading).unwrap();
        let image = home
            .images
            .import(reading, Some(name), image::ImageConfig::default())
            .await
            .unwrap();
        writer.join().unwrap();
        image
    };
    let files = |count: usize| (0..count).map(|number| format!("d{:03}/f{number}", number / 500));
    import_many("plim-few", Box::new(files(1000))).await;
    peak();
    let before = peak();
    let image = import_many("plim-many", Box::new(files(10_000))).await;
    let grown = peak().saturating_sub(before);
    println!("{grown} KiB more after 10 000 files");
    assert!(grown < 32 << 10, "{grown} KiB");
    assert_eq!(image.layers().len(), 1);
    home.images.remove("plim-many", true).unwrap();
    // One directory with a long path, again and again: 144 MB of names.
    let long = format!("{}/", "n".repeat(200)).repeat(18);
    peak();
    let before = peak();
    import_many("plim-long", Box::new(std::iter::repeat_n(long, 40_000))).await;
    let grown = peak().saturating_sub(before);
    println!("{grown} KiB more after 40 000 directories");
    assert!(grown < 96 << 10, "{grown} KiB");
}
