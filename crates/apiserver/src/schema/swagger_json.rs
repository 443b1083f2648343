//! The JSON text of an OpenAPI v2 document, compressed and hashed as it is written.

use super::swagger::Sink;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use sha2::{Digest as _, Sha512};
use std::io::{self, Write};

/// What ends the paths.
const DEFINITIONS: &[u8] = br#"},"definitions":{"#;

/// Collects a document. All paths come before the first definition, each once.
pub(super) struct Parts {
    out: Hashed,
    paths: usize,
    definitions: usize,
    /// The first failure; nothing is written after it.
    failed: Option<io::Error>,
}

impl Parts {
    pub fn new() -> io::Result<Self> {
        let mut out = Hashed {
            hash: Sha512::new(),
            packed: GzEncoder::new(Vec::with_capacity(512 * 1024), Compression::default()),
        };
        let version = super::openapi::VERSION;
        let title = super::TITLE;
        write!(
            out,
            r#"{{"swagger":"2.0","info":{{"title":"{title}","version":"{version}"}},"paths":{{"#
        )?;
        Ok(Parts {
            out,
            paths: 0,
            definitions: 0,
            failed: None,
        })
    }

    /// The compressed text and its hash.
    pub fn finish(mut self) -> io::Result<(Bytes, String)> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.definitions == 0 {
            self.out.write_all(DEFINITIONS)?;
        }
        write!(
            self.out,
            r#"}},"securityDefinitions":{{"BearerToken":{{"description":"{}","type":"apiKey","name":"authorization","in":"header"}}}},"security":[{{"BearerToken":[]}}]}}"#,
            super::BEARER_TOKEN
        )?;
        let etag = self.out.hash.finalize();
        let etag = etag.iter().map(|byte| format!("{byte:02X}")).collect();
        Ok((self.out.packed.finish()?.into(), etag))
    }

    fn member(&mut self, before: &[u8], name: &str, value: &Value) {
        let mut write = || {
            self.out.write_all(before)?;
            write!(self.out, "{}:", Value::from(name))?;
            serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)
        };
        if self.failed.is_none() {
            self.failed = write().err();
        }
    }
}

impl Sink for Parts {
    fn path(&mut self, path: &str, item: &Value) {
        let before: &[u8] = if self.paths > 0 { b"," } else { b"" };
        self.paths += 1;
        self.member(before, path, item);
    }

    fn definition(&mut self, name: &str, schema: &Value) {
        let before: &[u8] = if self.definitions > 0 {
            b","
        } else {
            DEFINITIONS
        };
        self.definitions += 1;
        self.member(before, name, schema);
    }
}

/// Compresses bytes.
pub(super) fn gzip(bytes: &[u8]) -> io::Result<Bytes> {
    let mut packed = GzEncoder::new(Vec::with_capacity(bytes.len() / 6), Compression::default());
    packed.write_all(bytes)?;
    packed.finish().map(Bytes::from)
}

struct Hashed {
    hash: Sha512,
    packed: GzEncoder<Vec<u8>>,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.packed.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
