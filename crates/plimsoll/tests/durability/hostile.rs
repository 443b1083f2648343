//! Backups that are damaged, cut off, newer or made by an enemy.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

use super::machine::Machine;
use super::run::command;

/// Damaged, cut off, newer and hostile files are refused, and leave the directory as it was.
#[test]
fn what_is_no_whole_backup_leaves_nothing() {
    let machine = Machine::new(300).started();
    let file = machine.disk.outside().join("whole.backup");
    machine.plimsoll(&format!("backup {}", file.display())).ok();
    machine.plimsoll("down --purge").ok();
    let whole = fs::read(&file).expect("read");
    let title = whole
        .iter()
        .position(|byte| *byte == b'\n')
        .expect("a first line")
        + 1;
    let bad = machine.disk.outside().join("bad.backup");
    let refuse = |bytes: &[u8], part: &str, what: &str| {
        fs::write(&bad, bytes).expect("written");
        let ran = machine.plimsoll(&format!("restore {}", bad.display()));
        assert!(
            ran.code != 0 && ran.err.contains(part),
            "{what}: {part:?} is not in {ran}"
        );
        assert!(
            !machine.data_dir.exists(),
            "{what}: something was left in {}",
            machine.data_dir.display()
        );
    };
    let length = whole.len();
    for at in [
        title,
        title + 9,
        length / 3,
        length / 2,
        length - 80,
        length - 10,
    ] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        refuse(&damaged, "damaged", &format!("a bit of byte {at}"));
    }
    for at in [length / 2, length - 100, length - 1 - 64] {
        refuse(&whole[..at], "cut off", &format!("cut at {at}"));
    }
    for at in [title, title + 40] {
        refuse(&whole[..at], "not a backup", &format!("cut at {at}"));
    }
    refuse(b"", "not a backup", "an empty file");
    refuse(&[7; 5000], "not a backup", "noise");
    let newer = [b"plimsoll-backup 2 9.8.7\n", &whole[title..]].concat();
    refuse(
        &newer,
        "restore it with plimsoll 9.8.7 or newer",
        "a newer format",
    );

    for Hostile(what, part, write) in hostile() {
        let mut builder = tar::Builder::new(Vec::new());
        add(
            &mut builder,
            b"about.json",
            tar::EntryType::Regular,
            b"",
            b"{}",
        );
        add(&mut builder, b"data", tar::EntryType::Directory, b"", b"");
        write(&mut builder);
        let archive = builder.into_inner().expect("an archive");
        refuse(&framed(&archive), part, what);
    }
    assert!(
        !machine.disk.path().join("escaped").exists() && !Path::new("/plimsoll-escaped").exists()
    );

    // the whole one is still good, and a directory with something in it is not touched
    fs::create_dir(&machine.data_dir).expect("a directory");
    fs::write(machine.data_dir.join("mine"), "mine").expect("written");
    machine
        .plimsoll(&format!("restore {}", file.display()))
        .fails("is not empty");
    assert_eq!(
        fs::read_to_string(machine.data_dir.join("mine")).expect("read"),
        "mine"
    );
    fs::remove_file(machine.data_dir.join("mine")).expect("removed");
    machine
        .plimsoll(&format!("restore {}", file.display()))
        .ok();
    machine.plimsoll("up").ok();
    assert_eq!(
        machine.docker("run --rm busybox:static echo runs").ok(),
        "runs\n"
    );
    // a restore that was cut off is not taken for an instance
    machine.plimsoll("down").ok();
    fs::create_dir(machine.data_dir.join(".restoring")).expect("a directory");
    machine.plimsoll("up").fails("was cut off");
    fs::remove_dir(machine.data_dir.join(".restoring")).expect("removed");
}

type Builder = tar::Builder<Vec<u8>>;

/// What is wrong, a part of what is said about it, and how it is written.
struct Hostile(&'static str, &'static str, fn(&mut Builder));

fn hostile() -> [Hostile; 12] {
    use tar::EntryType::{Block, Char, Directory, Link, Regular, Symlink};
    [
        Hostile("a name that climbs", "leads out", |b| {
            add(b, b"data/../../escaped", Regular, b"", b"x");
        }),
        Hostile("an absolute name", "leads out", |b| {
            add(b, b"/plimsoll-escaped", Regular, b"", b"x");
        }),
        Hostile("a foreign name", "does not belong", |b| {
            add(b, b"other/file", Regular, b"", b"x");
        }),
        Hostile("through a symbolic link", "data/link/escaped", |b| {
            add(b, b"data/link", Symlink, b"../..", b"");
            add(b, b"data/link/escaped", Regular, b"", b"x");
        }),
        Hostile("over a symbolic link", "data/link", |b| {
            add(b, b"data/link", Symlink, b"../../escaped", b"");
            add(b, b"data/link", Regular, b"", b"x");
        }),
        Hostile("a hard link that climbs", "leads out", |b| {
            add(b, b"data/link", Link, b"data/../../../etc/passwd", b"");
        }),
        Hostile("a hard link to elsewhere", "leads out", |b| {
            add(b, b"data/link", Link, b"about.json", b"");
        }),
        Hostile("a device", "do not belong", |b| {
            add(b, b"data/disk", Block, b"", b"");
        }),
        Hostile("a character device", "do not belong", |b| {
            let mut header = header(b"data/memory", Char, b"", 0);
            header.set_device_major(1).expect("a number");
            header.set_device_minor(1).expect("a number");
            header.set_cksum();
            b.append(&header, &b""[..]).expect("added");
        }),
        Hostile("twice the same", "data/file", |b| {
            add(b, b"data/file", Regular, b"", b"x");
            add(b, b"data/file", Regular, b"", b"y");
        }),
        Hostile("no end", "cut off", |b| {
            add(b, b"data/dir", Directory, b"", b"");
        }),
        Hostile("more after the end", "more after its end", |b| {
            add(b, b"complete", Regular, b"", b"");
            add(b, b"data/late", Regular, b"", b"x");
        }),
    ]
}

/// A header as only a hostile program writes it.
fn header(name: &[u8], kind: tar::EntryType, target: &[u8], size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn add(builder: &mut Builder, name: &[u8], kind: tar::EntryType, target: &[u8], content: &[u8]) {
    let mut header = header(name, kind, target, content.len() as u64);
    header.set_cksum();
    builder.append(&header, content).expect("added");
}

/// An archive in a frame with a right checksum.
fn framed(archive: &[u8]) -> Vec<u8> {
    let mut bytes = b"plimsoll-backup 1 0.1.0\n".to_vec();
    bytes.extend(zstd::encode_all(archive, 1).expect("compressed"));
    let mut sum = command("sha256sum", "");
    let mut child = sum
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(&bytes)
        .expect("written");
    let mut text = String::new();
    child
        .stdout
        .take()
        .expect("a pipe")
        .read_to_string(&mut text)
        .expect("read");
    child.wait().expect("it ends");
    bytes.extend(format!("\nsha256:{}\n", &text[..64]).bytes());
    bytes
}
