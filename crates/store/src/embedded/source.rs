//! Where the database comes from, so that it can be opened again after a failed write.

use std::io;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, StorageBackend, StorageError};

use super::create;
use super::guard::{Facts, Guarded};
use crate::Error;

type OpenDatabase = dyn FnMut(usize) -> Result<(Database, Facts), Error> + Send;

/// Opens the same storage as often as it is asked to, each time after the last one was dropped.
pub(super) struct Source {
    /// How errors call the storage.
    pub name: String,
    open: Box<OpenDatabase>,
}

impl Source {
    /// The file at `path`, made (with its directory, and readable by its owner only) when it is not
    /// there.
    pub fn file(path: &Path) -> Self {
        let name = path.display().to_string();
        let path = path.to_path_buf();
        Self::backends(name.clone(), move || {
            let file = create::open(&path, &name)?;
            FileBackend::new(file).map_err(|why| from_database(&name, why))
        })
    }

    /// What `make` makes.
    pub fn backends<B: StorageBackend>(
        name: String,
        mut make: impl FnMut() -> Result<B, Error> + Send + 'static,
    ) -> Self {
        let file = name.clone();
        let open = move |cache_bytes: usize| {
            let facts = Facts::default();
            let backend = Guarded::new(make()?, facts.clone());
            let mut builder = Database::builder();
            // Everything is read into memory now anyway, so checking it is cheap; and a damaged
            // file is found here instead of by a panic later.
            builder
                .set_cache_size(cache_bytes)
                .set_check_integrity_on_open(true);
            let database = builder
                .create_with_backend(backend)
                .map_err(|why| from_database(&file, why))?;
            Ok((database, facts))
        };
        Self {
            name,
            open: Box::new(open),
        }
    }

    pub fn open(&mut self, cache_bytes: usize) -> Result<(Database, Facts), Error> {
        (self.open)(cache_bytes)
    }
}

/// What an error of the file system means to the user.
pub(super) fn from_io(file: &str, why: &io::Error) -> Error {
    let remedy = match why.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space",
        io::ErrorKind::PermissionDenied => "; check who owns it and its mode",
        _ => "",
    };
    Error::Io {
        attempted: format!("open {file}"),
        reason: format!("{why}{remedy}"),
    }
}

/// What an error of opening the database means to the user.
pub(super) fn from_database(file: &str, why: DatabaseError) -> Error {
    match why {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Error::InUse {
            file: file.to_string(),
        },
        DatabaseError::Storage(StorageError::Io(why)) => match why.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Error::Corrupt {
                file: file.to_string(),
                reason: why.to_string(),
            },
            _ => from_io(file, &why),
        },
        why => Error::Corrupt {
            file: file.to_string(),
            reason: why.to_string(),
        },
    }
}
