//! `plimsoll backup` and `plimsoll restore`: everything that an instance keeps, in one file.
//!
//! The file is one line of text (`plimsoll-backup FORMAT VERSION`), a zstd stream of a tar archive, and one line with the
//! SHA-256 of all before it. The archive holds `about.json`, `store.snapshot` (the store at one revision, see
//! `store::embedded::Snapshot`), the data directory beneath `data/`, and at its end `complete`.

mod archive;
mod files;
mod pack;
mod progress;
mod served;
mod unpack;

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use served::serve;

use crate::daemon;
use crate::instance::Instance;
use archive::{Checked, Digesting};
use progress::Progress;

/// The newest layout of the file that this version reads, and the one it writes.
const FORMAT: u32 = 1;
const TITLE: &str = "plimsoll-backup";
/// Names in the archive.
const ABOUT: &str = "about.json";
const STORE: &str = "store.snapshot";
const DATA: &str = "data";
const COMPLETE: &str = "complete";
/// Fast: a backup is mostly layers, and these mostly programs.
const COMPRESSION: i32 = 3;
/// Where a restore unpacks, in the data directory. While it is there, nothing starts from that directory.
pub const UNFINISHED: &str = ".restoring";

/// What a backup says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    /// The program's version that wrote it.
    version: String,
    instance: String,
    data_dir: PathBuf,
    created: Timestamp,
    /// The store's revision.
    revision: u64,
}

/// Writes everything into `file` (`-` = standard output) while the instance runs, or while it does not.
///
/// The store is one consistent snapshot; files that containers write meanwhile are taken as they are found, like after a
/// power cut. A file of that name is replaced when the new one is complete.
pub fn backup(data_dir: &Path, file: &Path) -> Result<()> {
    let instance = Instance::existing(data_dir)?;
    if file == Path::new("-") {
        let out = io::stdout().lock();
        write(&instance, out)?;
        return Ok(());
    }
    let directory = parent(file);
    let real =
        fs::canonicalize(directory).with_context(|| format!("cannot write {}", file.display()))?;
    if real.starts_with(&instance.data_dir) {
        bail!(
            "{} lies in the directory that is backed up, {}; write it elsewhere",
            file.display(),
            instance.data_dir.display()
        );
    }
    let cannot = || format!("cannot write the backup {}", file.display());
    let mut part = file.file_name().with_context(cannot)?.to_owned();
    part.push(".part-");
    // It holds keys and secrets: its owner's alone (0600), and of a name that nobody else has made.
    let out = tempfile::Builder::new()
        .prefix(&part)
        .tempfile_in(directory)
        .with_context(cannot)?;
    write(&instance, BufWriter::new(out.as_file()))?;
    out.as_file().sync_all().with_context(cannot)?;
    out.persist(file).with_context(cannot)?;
    File::open(directory)?.sync_all().with_context(cannot)
}

fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn write(instance: &Instance, out: impl Write) -> Result<()> {
    let source = Source::open(instance)?;
    let about = About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: instance.name.clone(),
        data_dir: instance.data_dir.clone(),
        created: Timestamp::now(),
        revision: source.revision(),
    };
    let mut progress = Progress::new("packed");
    let mut out = Digesting::new(out);
    writeln!(out, "{TITLE} {FORMAT} {}", about.version)?;
    let mut compressed = zstd::Encoder::new(out, COMPRESSION)?;
    compressed.include_checksum(true)?;
    let mut pack = pack::Pack::new(compressed, &mut progress);
    pack.bytes(ABOUT, &serde_json::to_vec_pretty(&about)?)?;
    pack.bytes(STORE, source.snapshot())?;
    pack.tree(&instance.data_dir, DATA)
        .with_context(|| format!("cannot read {}", instance.data_dir.display()))?;
    pack.bytes(COMPLETE, b"")?;
    let left_out = pack.left_out();
    let out = pack.finish()?.finish()?;
    out.finish()?.flush()?;
    drop(source);
    progress.end(&format!("at revision {}", about.revision));
    if left_out > 0 {
        eprintln!("{left_out} device files were left out: they are not restored");
    }
    Ok(())
}

/// Where the store's content comes from; while it lives, nothing that the image index names is deleted.
enum Source {
    /// The daemon's answer, and the connection that holds its images.
    Running(served::Answer),
    /// The daemon is not running, and cannot be started while this is held.
    Stopped {
        /// Of the daemon, and of a node of its own, which would remove images.
        _locks: [File; 2],
        snapshot: Vec<u8>,
        revision: u64,
    },
}

impl Source {
    fn open(instance: &Instance) -> Result<Self> {
        if let Some(url) = daemon::on_etcd(instance)? {
            bail!(
                "this instance keeps its objects on {url}: back that up with `etcdctl snapshot save FILE`; a backup of Plimsoll is of instances with a store of their own"
            );
        }
        if instance.daemon_pid().is_some() {
            if !instance.backup_socket().exists() {
                bail!(
                    "the daemon runs without its node, which keeps the images; end both with `plimsoll down`, then back up"
                );
            }
            return Ok(Self::Running(served::ask(instance)?));
        }
        let locks = [daemon::lock(instance)?, daemon::lock_node(instance)?];
        let path = instance.store_file();
        if !path.exists() {
            bail!(
                "{} is missing: there is nothing to back up; was this instance ever up?",
                path.display()
            );
        }
        let store =
            store::embedded::EmbeddedStore::open(&path, store::embedded::Options::default())
                .context("cannot open the store")?;
        let taken = store.snapshot();
        let mut snapshot = Vec::new();
        taken.write_to(&mut snapshot)?;
        Ok(Self::Stopped {
            _locks: locks,
            snapshot,
            revision: taken.revision(),
        })
    }

    fn snapshot(&self) -> &[u8] {
        match self {
            Self::Running(answer) => &answer.snapshot,
            Self::Stopped { snapshot, .. } => snapshot,
        }
    }

    fn revision(&self) -> u64 {
        match self {
            Self::Running(answer) => answer.revision,
            Self::Stopped { revision, .. } => *revision,
        }
    }
}

/// Makes the instance of `data_dir`, which must be empty or not there, from a backup (`-` = standard input).
///
/// A file that is damaged, cut off, or of a newer format is refused, and then the directory is as it was. In another
/// directory than the one that was backed up, the instance gets that directory's name, and keeps ports and address ranges.
pub fn restore(data_dir: &Path, file: &Path) -> Result<()> {
    if file == Path::new("-") {
        return read(data_dir, io::stdin().lock());
    }
    let input = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    read(data_dir, input).with_context(|| format!("cannot restore {}", file.display()))
}

fn read(data_dir: &Path, input: impl Read) -> Result<()> {
    let is_new = !data_dir.exists();
    if !is_new {
        check_empty(data_dir)?;
    }
    fs::create_dir_all(data_dir).with_context(|| format!("cannot make {}", data_dir.display()))?;
    let data_dir = fs::canonicalize(data_dir)?;
    let stage = data_dir.join(UNFINISHED);
    let done = unpack_into(&data_dir, &stage, input);
    if done.is_err() {
        // Nothing has been moved out of the stage: the last step cannot be refused half-way but by a crash.
        let _ = fs::remove_dir_all(&stage);
        if is_new {
            let _ = fs::remove_dir(&data_dir);
        }
    }
    done
}

/// Empty, but for what a file system has by itself or an earlier restore left behind before it got anywhere.
fn check_empty(data_dir: &Path) -> Result<()> {
    let entries =
        fs::read_dir(data_dir).with_context(|| format!("cannot read {}", data_dir.display()))?;
    for entry in entries {
        let name = entry?.file_name();
        if name == UNFINISHED {
            bail!(
                "an earlier restore into {0} was cut off; remove what is in {0} and restore again",
                data_dir.display()
            );
        }
        if name != "lost+found" {
            bail!(
                "{} is not empty (it holds {:?}); a backup is restored into an empty directory only: remove the instance with \
                 `plimsoll down --purge`, or name another directory with --data-dir",
                data_dir.display(),
                name
            );
        }
    }
    Ok(())
}

fn unpack_into(data_dir: &Path, stage: &Path, input: impl Read) -> Result<()> {
    let mut input = Checked::new(BufReader::with_capacity(1 << 20, input));
    check_title(&mut input)?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(stage)
        .with_context(|| format!("cannot make {}", stage.display()))?;
    let mut progress = Progress::new("unpacked");
    let found = {
        let plain = zstd::Decoder::with_buffer(BufReader::new(&mut input))?.single_frame();
        unpack::unpack(plain, stage, &mut progress)
    };
    // A checksum that is wrong explains whatever else went wrong.
    input.finish()?;
    let found = found?;
    let about: About = serde_json::from_slice(&found.about).context("its about.json is damaged")?;
    let state = stage.join(DATA);
    fs::create_dir_all(state.join("store"))?;
    store::embedded::restore(&state.join("store").join("state.redb"), &*found.snapshot)
        .context("cannot restore the store")?;
    adapt(&state, data_dir, &about)?;
    let whole = File::open(data_dir)?;
    rustix::fs::syncfs(&whole).context("cannot write it to the disk")?;
    settle(&state, data_dir)?;
    fs::remove_dir_all(stage)?;
    whole.sync_all()?;
    progress.end(&format!(
        "of {} from {:.0} by plimsoll {}; `plimsoll up --data-dir {}` starts it",
        about.data_dir.display(),
        about.created,
        about.version,
        data_dir.display()
    ));
    Ok(())
}

fn check_title(input: &mut impl Read) -> Result<()> {
    let no_backup = "it is not a backup made by `plimsoll backup`";
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < 100 {
        input.read_exact(&mut byte).context(no_backup)?;
        if byte == *b"\n" {
            break;
        }
        line.extend(byte);
    }
    let line = String::from_utf8_lossy(&line).into_owned();
    let mut words = line.split(' ');
    let title = (
        words.next(),
        words.next().and_then(|word| word.parse::<u32>().ok()),
        words.next(),
    );
    match title {
        (Some(TITLE), Some(FORMAT), Some(_)) => Ok(()),
        (Some(TITLE), Some(format), Some(version)) if format > FORMAT => bail!(
            "it was made by plimsoll {version} in format {format}, and this version knows formats up to {FORMAT}; restore it with plimsoll \
             {version} or newer"
        ),
        _ => bail!(no_backup),
    }
}

/// Makes what was backed up fit the directory that it comes to.
fn adapt(state: &Path, data_dir: &Path, about: &About) -> Result<()> {
    let mut instance = Instance::find(state)
        .context("its instance.json is damaged")?
        .context("it has no instance.json")?;
    if about.data_dir == data_dir {
        return Ok(());
    }
    instance.name = Instance::name_of(data_dir);
    instance.write()?;
    files::move_paths(&state.join("engine"), &about.data_dir, data_dir)
}

/// Moves everything to its place; `instance.json`, which makes it an instance, last.
fn settle(state: &Path, data_dir: &Path) -> Result<()> {
    let mut names: Vec<_> = fs::read_dir(state)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort_by_key(|name| name == crate::instance::FILE);
    for name in names {
        fs::rename(state.join(&name), data_dir.join(&name))
            .with_context(|| format!("cannot move {name:?} to {}", data_dir.display()))?;
    }
    Ok(())
}
