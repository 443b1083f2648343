use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tar::{Builder, EntryType, Header};

use super::*;

/// A place with a secret outside of the tree.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-tree-")
            .tempdir()
            .expect("a directory");
        fs::create_dir(directory.path().join("root")).expect("root");
        fs::create_dir(directory.path().join("outside")).expect("outside");
        fs::write(directory.path().join("outside/secret"), "secret").expect("secret");
        Self { directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn tree(&self) -> Tree {
        Tree::open(&self.root()).expect("opens")
    }

    fn unpack(&self, entries: &[(&str, EntryType, &str)]) -> io::Result<()> {
        self.tree()
            .unpack("/", archive(entries).as_slice(), Existing::Replace)
    }

    /// Everything outside of the root is as it was.
    fn untouched(&self) {
        let outside: Vec<_> = fs::read_dir(self.directory.path().join("outside"))
            .expect("outside")
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(outside, ["secret"]);
        assert_eq!(
            fs::read_to_string(self.directory.path().join("outside/secret")).expect("secret"),
            "secret"
        );
        let above: Vec<_> = fs::read_dir(self.directory.path())
            .expect("above")
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(above.len(), 2, "{above:?}");
    }
}

/// Name, type, and content or target; names are written as they are, valid or not.
fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        let regular = *kind == EntryType::Regular;
        header.set_size(if regular { text.len() as u64 } else { 0 });
        if !regular {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_cksum();
        builder
            .append(&header, if regular { text.as_bytes() } else { b"" })
            .expect("written");
    }
    builder.into_inner().expect("an archive")
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

#[test]
fn an_honest_archive() {
    let place = Place::new();
    place
        .unpack(&[
            ("./", DIR, ""),
            ("a/", DIR, ""),
            ("a/file", FILE, "text"),
            ("deep/er/file", FILE, "x"),
            ("link", LINK, "a/file"),
            ("hard", HARD, "a/file"),
        ])
        .expect("unpacked");
    assert_eq!(
        fs::read_to_string(place.root().join("a/file")).expect("file"),
        "text"
    );
    assert_eq!(
        fs::read_to_string(place.root().join("hard")).expect("hard"),
        "text"
    );
    assert_eq!(
        fs::read_link(place.root().join("link")).expect("link"),
        Path::new("a/file")
    );
    let file = fs::metadata(place.root().join("a/file")).expect("metadata");
    assert_eq!(
        (
            file.permissions().mode() & 0o7777,
            file.mtime(),
            file.nlink()
        ),
        (0o755, 1_700_000_000, 2)
    );
    assert_eq!(
        fs::metadata(place.root().join("a"))
            .expect("metadata")
            .mtime(),
        1_700_000_000
    );
    // again: everything is replaced, nothing is in the way
    place
        .unpack(&[
            ("a/", DIR, ""),
            ("a/file", FILE, "new"),
            ("link", LINK, "elsewhere"),
        ])
        .expect("unpacked");
    assert_eq!(
        fs::read_to_string(place.root().join("a/file")).expect("file"),
        "new"
    );
    assert_eq!(
        fs::read_to_string(place.root().join("hard")).expect("hard"),
        "text",
        "the old file was replaced, not written into"
    );
}

#[test]
fn nothing_leaves_the_tree() {
    for (what, entries) in [
        ("climbing", vec![("../outside/new", FILE, "x")]),
        (
            "climbing in the middle",
            vec![("a/../../outside/secret", FILE, "x")],
        ),
        (
            "a hard link that climbs",
            vec![("mine", HARD, "../outside/secret")],
        ),
        ("a device", vec![("null", EntryType::Char, "")]),
        ("a disk", vec![("disk", EntryType::Block, "")]),
        (
            "a hard link to what is outside",
            vec![("mine", HARD, "outside/secret"), ("mine", FILE, "x")],
        ),
    ] {
        let place = Place::new();
        place.unpack(&entries).expect_err(what);
        place.untouched();
    }
    // these are bent into the tree, as a change of root would
    for entries in [
        vec![("/outside/new", FILE, "x")],
        vec![
            ("up", LINK, "../outside"),
            ("up/", DIR, ""),
            ("up/secret", FILE, "x"),
        ],
        vec![("up", LINK, ".."), ("up/outside/secret", FILE, "x")],
        vec![("file", LINK, "../outside/secret"), ("file", FILE, "x")],
        vec![
            ("a", LINK, "b"),
            ("b", LINK, "../../.."),
            ("a/x", FILE, "x"),
        ],
    ] {
        let place = Place::new();
        let absolute = place
            .directory
            .path()
            .join("outside")
            .to_string_lossy()
            .into_owned();
        let _ = place.unpack(&entries);
        let _ = place.unpack(&[("abs", LINK, absolute.as_str()), ("abs/secret", FILE, "x")]);
        place.untouched();
    }
}

#[test]
fn what_is_no_archive_is_refused() {
    let place = Place::new();
    for bytes in [&b"no archive at all, but long enough to hold a header of five hundred and twelve bytes"[..].repeat(12), &vec![0xff; 2048], &archive(&[("a", FILE, "text")])[..520].to_vec()] {
        assert!(place.tree().unpack("/", bytes.as_slice(), Existing::Replace).is_err());
    }
    assert!(
        place
            .tree()
            .unpack("/missing", archive(&[]).as_slice(), Existing::Replace)
            .is_err()
    );
    assert!(
        place
            .tree()
            .unpack(
                "/../outside",
                archive(&[("x", FILE, "x")]).as_slice(),
                Existing::Replace
            )
            .is_err()
    );
    place.untouched();
}

#[test]
fn directories_and_files_do_not_replace_each_other_unasked() {
    let place = Place::new();
    place
        .unpack(&[("d/", DIR, ""), ("f", FILE, "x")])
        .expect("unpacked");
    for entry in [("d", FILE, "x"), ("f/", DIR, "")] {
        let error = place
            .tree()
            .unpack("/", archive(&[entry]).as_slice(), Existing::Refuse)
            .expect_err("refused");
        assert!(error.to_string().contains("cannot overwrite"), "{error}");
    }
    place
        .unpack(&[("d", FILE, "now a file"), ("f/", DIR, "")])
        .expect("replaced");
    assert!(place.root().join("d").is_file() && place.root().join("f").is_dir());
}

#[test]
fn lookups_stay_inside_and_do_not_follow_the_last_link() {
    let place = Place::new();
    fs::create_dir(place.root().join("d")).expect("d");
    fs::write(place.root().join("d/file"), "text").expect("file");
    symlink("../outside", place.root().join("up")).expect("link");
    symlink("/d", place.root().join("inner")).expect("link");
    let tree = place.tree();
    assert_eq!(
        tree.find("/up").expect("the link itself").link_target(),
        "../outside"
    );
    assert!(tree.find("/up/secret").is_err());
    assert!(tree.find("/../outside/secret").is_err());
    assert_eq!(
        tree.find("/inner/file")
            .expect("through the link, which starts at the root")
            .stat
            .st_size,
        4
    );
    assert!(tree.find("/missing").is_err());
    for path in ["/", "", ".", "/d/", "/d/.", "/inner/"] {
        assert_eq!(tree.find(path).expect(path).name, ".", "{path}");
    }
}

#[test]
fn what_goes_out_comes_in_again() {
    let place = Place::new();
    let long = "n".repeat(150);
    fs::create_dir_all(place.root().join("d/sub")).expect("d");
    fs::write(place.root().join("d/sub").join(&long), "long").expect("file");
    symlink(&long, place.root().join("d/link")).expect("link");
    symlink("../../outside", place.root().join("d/up")).expect("link");
    let mut bytes = Vec::new();
    place
        .tree()
        .find("/d")
        .expect("found")
        .pack("renamed", &mut bytes)
        .expect("packed");
    place
        .tree()
        .unpack("/", bytes.as_slice(), Existing::Replace)
        .expect("unpacked");
    assert_eq!(
        fs::read_to_string(place.root().join("renamed/sub").join(&long)).expect("file"),
        "long"
    );
    assert_eq!(
        fs::read_link(place.root().join("renamed/link")).expect("link"),
        Path::new(&long)
    );
    let mut inside = Vec::new();
    place
        .tree()
        .find("/d/.")
        .expect("found")
        .pack(".", &mut inside)
        .expect("packed");
    let mut archive = tar::Archive::new(inside.as_slice());
    let names: Vec<String> = archive
        .entries()
        .expect("entries")
        .map(|e| String::from_utf8_lossy(&e.expect("entry").path_bytes()).into_owned())
        .collect();
    assert_eq!(names[..2], ["./".to_owned(), "./link".to_owned()]);
    place.untouched();
}

proptest::proptest! {
    #[test]
    fn no_bytes_leave_the_tree(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..1500)) {
        let place = Place::new();
        let _ = place.unpack(&[]);
        let _ = place.tree().unpack("/", bytes.as_slice(), Existing::Replace);
        place.untouched();
    }

    #[test]
    fn a_clean_path_stays_inside(path in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
        if let Ok(cleaned) = clean(&path) {
            proptest::prop_assert!(cleaned.components().all(|part| matches!(part, std::path::Component::Normal(_))));
        }
    }
}
