//! A container that changes its files while `docker cp` is under way (CVE-2018-15664): nothing of the host is read or written.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};
use tar::{Builder, EntryType, Header};

use super::*;

/// Exchanges two names as fast as it goes for as long as `what` runs.
fn while_exchanged(one: &Path, other: &Path, what: impl FnOnce()) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE);
            }
        });
        // Also when it panics.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn file(name: &str, content: &str) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_path(name).expect("a path");
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o4755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut builder = Builder::new(Vec::new());
    builder
        .append(&header, content.as_bytes())
        .expect("written");
    builder.into_inner().expect("an archive")
}

#[test]
fn a_name_that_is_exchanged_meanwhile_leads_nowhere() {
    let directory = tempfile::Builder::new()
        .prefix("plimsoll-race-")
        .tempdir()
        .expect("a directory");
    let (root, outside) = (
        directory.path().join("root"),
        directory.path().join("outside"),
    );
    for made in [root.join("d"), root.join("e"), outside.clone()] {
        fs::create_dir_all(made).expect("a directory");
    }
    fs::write(outside.join("file"), "secret of the host").expect("secret");
    fs::write(root.join("d/file"), "own").expect("file");
    // The same path beneath the root, so that a link followed as a process inside would finds something.
    let beneath = root.join(outside.strip_prefix("/").expect("absolute"));
    fs::create_dir_all(&beneath).expect("a directory");
    fs::write(beneath.join("file"), "own").expect("file");
    symlink(&outside, root.join("link")).expect("link");
    symlink(outside.join("file"), root.join("e/link")).expect("link");
    fs::write(root.join("e/file"), "own").expect("file");
    let tree = Tree::open(&root).expect("opens");
    let mut read = 0;
    let mut copy = |path: &str| {
        let mut bytes = Vec::new();
        if tree
            .find(path)
            .is_ok_and(|found| found.pack("x", &mut bytes).is_ok())
        {
            read += 1;
        }
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("secret of the host"), "{path} was read");
    };
    while_exchanged(&root.join("d"), &root.join("link"), || {
        for _ in 0..500 {
            copy("/d");
            copy("/d/file");
            copy("/");
        }
    });
    while_exchanged(&root.join("e/file"), &root.join("e/link"), || {
        for _ in 0..500 {
            copy("/e");
            copy("/e/file");
        }
    });
    assert!(read > 100, "{read}");
    let mut written = 0;
    let mut write = |target: &str, name: &str| {
        let bytes = file(name, "evil");
        written += u32::from(
            tree.unpack(target, bytes.as_slice(), Existing::Replace)
                .is_ok(),
        );
        let now = fs::read_to_string(outside.join("file")).expect("there");
        assert_eq!(now, "secret of the host", "{target} {name}");
        assert_eq!(
            fs::read_dir(&outside).expect("outside").count(),
            1,
            "{target} {name}"
        );
    };
    while_exchanged(&root.join("d"), &root.join("link"), || {
        for _ in 0..500 {
            write("/d", "file");
            write("/", "d/new");
            write("/d", "new/deep");
        }
    });
    while_exchanged(&root.join("e/file"), &root.join("e/link"), || {
        for _ in 0..500 {
            write("/e", "file");
        }
    });
    assert!(written > 100, "{written}");
}
