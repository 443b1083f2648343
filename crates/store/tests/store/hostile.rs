//! Files that are damaged, foreign or from the future: an error that says so, never a panic.

use std::fs;
use std::path::{Path, PathBuf};

use redb::{Database, TableDefinition};
use store::embedded::{EmbeddedStore, Options};
use store::{Error, Store};
use tempfile::TempDir;

use super::faults::Random;
use super::suite::put;

const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("plimsoll-store");

struct Fixture {
    _directory: TempDir,
    path: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("plimsoll-store-")
            .tempdir()
            .unwrap();
        let path = directory.path().join("state.redb");
        Self {
            _directory: directory,
            path,
        }
    }

    async fn with_store() -> Self {
        let fixture = Self::new();
        let store = fixture.open().unwrap();
        for n in 0..50 {
            put(&store, &format!("/hostile/{n}"), &"v".repeat(n * 40)).await;
        }
        fixture
    }

    fn open(&self) -> Result<EmbeddedStore, Error> {
        EmbeddedStore::open(&self.path, Options::default())
    }

    /// Changes the file as another program could.
    fn edit(&self, edit: impl FnOnce(&redb::WriteTransaction)) {
        let database = Database::create(&self.path).unwrap();
        let transaction = database.begin_write().unwrap();
        edit(&transaction);
        transaction.commit().unwrap();
    }
}

fn corrupt(path: &Path, result: Result<EmbeddedStore, Error>) -> String {
    match result {
        Err(Error::Corrupt { file, reason }) => {
            assert_eq!(file, path.display().to_string());
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let fixture = Fixture::with_store().await;
    fixture.edit(|transaction| {
        transaction
            .open_table(ABOUT)
            .unwrap()
            .insert("format", 7)
            .unwrap();
    });
    let error = fixture.open().unwrap_err();
    let file = fixture.path.display().to_string();
    assert_eq!(
        error,
        Error::NewerFormat {
            file: file.clone(),
            found: 7,
            supported: 1
        }
    );
    let text = error.to_string();
    for part in [
        &*file,
        "format 7",
        "up to 1",
        "run the version that wrote it",
    ] {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
    fixture.edit(|transaction| {
        transaction
            .open_table(ABOUT)
            .unwrap()
            .insert("format", 1)
            .unwrap();
    });
    assert_eq!(
        fixture
            .open()
            .unwrap()
            .range("", None, 0, None)
            .await
            .unwrap()
            .items
            .len(),
        50
    );
}

#[tokio::test]
async fn another_programs_database_is_refused_and_left_alone() {
    let fixture = Fixture::new();
    let theirs: TableDefinition<u64, u64> = TableDefinition::new("accounts");
    fixture.edit(|transaction| {
        transaction
            .open_table(theirs)
            .unwrap()
            .insert(1, 2)
            .unwrap();
    });
    let reason = corrupt(&fixture.path, fixture.open());
    assert!(reason.contains("another database, of accounts"), "{reason}");
    fixture.edit(|transaction| {
        assert_eq!(transaction.list_tables().unwrap().count(), 1);
    });
}

#[tokio::test]
async fn tables_that_do_not_fit_are_refused() {
    let current: TableDefinition<&[u8], &[u8]> = TableDefinition::new("current");
    let history: TableDefinition<u64, &[u8]> = TableDefinition::new("history");
    type Edit = Box<dyn Fn(&redb::WriteTransaction)>;
    let about = |name: &'static str, number: u64| -> Edit {
        Box::new(move |transaction| {
            transaction
                .open_table(ABOUT)
                .unwrap()
                .insert(name, number)
                .unwrap();
        })
    };
    let entry = |key: &'static [u8], entry: &'static [u8]| -> Edit {
        Box::new(move |transaction| {
            transaction
                .open_table(current)
                .unwrap()
                .insert(key, entry)
                .unwrap();
        })
    };
    let change = |revision: u64, record: &'static [u8]| -> Edit {
        Box::new(move |transaction| {
            transaction
                .open_table(history)
                .unwrap()
                .insert(revision, record)
                .unwrap();
        })
    };
    let gone: Edit = Box::new(move |transaction| {
        transaction.open_table(history).unwrap().remove(30).unwrap();
    });
    let no_revision: Edit = Box::new(move |transaction| {
        transaction
            .open_table(ABOUT)
            .unwrap()
            .remove("revision")
            .unwrap();
    });
    let no_table: Edit = Box::new(move |transaction| {
        transaction.delete_table(current).unwrap();
    });
    let cases: Vec<(Edit, &str)> = vec![
        (about("format", 0), "format stamp is Some(0)"),
        (
            about("revision", 99),
            "50 changes between revisions 1 and 99",
        ),
        (about("revision", 0), "last revision is 0"),
        (about("compacted", 1000), "its oldest 1000"),
        (no_revision, "no revision"),
        (no_table, "current"),
        (gone, "49 changes"),
        (entry(b"/a", b"short"), "an entry has 5 bytes"),
        (entry(b"\xff", &[0; 24]), "not UTF-8"),
        (entry(b"/a", &[255; 30]), "after the last one"),
        (change(30, b""), "only 0 bytes"),
        (change(30, b"\xff\xff\xff\xff/a"), "only 6 bytes"),
        (change(30, b"\x02\0\0\0/a"), "is void"),
        (change(30, b"\x02\0\0\0/a12345"), "an entry has 5 bytes"),
        (change(99, b"\x02\0\0\0/a"), "51 changes"),
    ];
    for (edit, expected) in cases {
        let fixture = Fixture::with_store().await;
        fixture.edit(edit);
        let reason = corrupt(&fixture.path, fixture.open());
        assert!(
            reason.contains(expected),
            "{reason:?} does not say {expected:?}"
        );
    }
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let mut random = Random(5);
    let noise: Vec<u8> = (0..100_000).map(|_| random.next() as u8).collect();
    let cases: [&[u8]; 5] = [
        b"x",
        b"{\"kind\": \"Pod\"}",
        &noise[..4096],
        &noise,
        &[0; 8192],
    ];
    for content in cases {
        let fixture = Fixture::new();
        fs::write(&fixture.path, content).unwrap();
        corrupt(&fixture.path, fixture.open());
        assert_eq!(fs::read(&fixture.path).unwrap(), content);
    }
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let fixture = Fixture::new();
    fs::write(&fixture.path, b"").unwrap();
    assert_eq!(fixture.open().unwrap().revision(), 1);
}

/// What a crash while the file is being made leaves behind.
#[tokio::test]
async fn an_unfinished_file_is_started_again() {
    let fixture = Fixture::new();
    let mut unfinished = fixture.path.clone().into_os_string();
    unfinished.push(".new");
    fs::write(&unfinished, [0; 10_000]).unwrap();
    put(&fixture.open().unwrap(), "/a", "1").await;
    assert!(!fs::exists(&unfinished).unwrap());
    assert_eq!(fixture.open().unwrap().revision(), 2);
}

#[tokio::test]
async fn a_file_being_made_by_another_process_is_left_alone() {
    let fixture = Fixture::new();
    let mut unfinished = fixture.path.clone().into_os_string();
    unfinished.push(".new");
    let theirs = fs::File::create(&unfinished).unwrap();
    theirs.lock().unwrap();
    let error = fixture.open().unwrap_err();
    assert_eq!(
        error,
        Error::InUse {
            file: fixture.path.display().to_string()
        }
    );
    drop(theirs);
    assert!(fixture.open().is_ok());
}

#[tokio::test]
async fn a_directory_is_no_store() {
    let fixture = Fixture::new();
    fs::create_dir(&fixture.path).unwrap();
    let error = fixture.open().unwrap_err();
    let Error::Io { attempted, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*attempted, format!("open {}", fixture.path.display()));
}

#[tokio::test]
async fn a_truncated_file_is_an_error() {
    let fixture = Fixture::with_store().await;
    let whole = fs::read(&fixture.path).unwrap();
    let mut random = Random(6);
    let mut lengths = vec![1, 63, 64, 320, 511, 512, 4095, 4096, 8192, whole.len() - 1];
    lengths.extend((0..20).map(|_| random.below(whole.len() as u64) as usize));
    for length in lengths {
        fs::write(&fixture.path, &whole[..length]).unwrap();
        match fixture.open() {
            Err(Error::Corrupt { .. }) => {}
            other => panic!("{length} of {} bytes: {other:?}", whole.len()),
        }
    }
}

/// A damaged byte is either found, or was in a part of the file that nothing uses.
#[tokio::test]
async fn damaged_bytes_are_found() {
    let fixture = Fixture::with_store().await;
    let expected = fixture
        .open()
        .unwrap()
        .range("", None, 0, None)
        .await
        .unwrap();
    let whole = fs::read(&fixture.path).unwrap();
    let mut random = Random(7);
    let mut found = 0;
    for n in 0..150 {
        let mut damaged = whole.clone();
        // The header, then anywhere.
        let reach = if n < 60 { 512 } else { whole.len() as u64 };
        let at = random.below(reach) as usize;
        damaged[at] ^= 1 << random.below(8);
        fs::write(&fixture.path, &damaged).unwrap();
        match fixture.open() {
            Ok(store) => {
                let page = store.range("", None, 0, None).await.unwrap();
                assert_eq!(page, expected, "byte {at} was damaged unnoticed");
            }
            Err(Error::Corrupt { .. }) => found += 1,
            Err(other) => panic!("byte {at}: {other:?}"),
        }
    }
    assert!(found > 0, "no damage was found at all");
}
