//! Every stamp of the data directory is looked at when the daemon starts: what a newer version wrote is refused in words that
//! help, and stays as it is.

use std::fs;

use super::machine::Machine;

/// Replaces a stamp in a file and returns what was there.
fn stamp(machine: &Machine, file: &str, from: &str, to: &str) -> Vec<u8> {
    let path = machine.data_dir.join(file);
    let before = fs::read(&path).expect("read");
    let text = String::from_utf8(before.clone()).expect("text");
    assert!(text.contains(from), "{file} has no {from}: {text}");
    fs::write(&path, text.replacen(from, to, 1)).expect("written");
    before
}

#[test]
fn a_newer_data_directory_is_refused_and_left_alone() {
    let machine = Machine::new(200).started();
    machine
        .kubectl("create configmap kept --from-literal=a=1")
        .ok();
    machine.plimsoll("down").ok();
    // a version that is not this one ran here last
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    stamp(
        &machine,
        "instance.json",
        &version,
        "\"version\": \"7.8.9\"",
    );

    for (file, from, to, said) in [
        (
            "instance.json",
            "\"format\": 1",
            "\"format\": 2",
            "use plimsoll 7.8.9 or newer",
        ),
        (
            "engine/format.json",
            "\"format\":1",
            "\"format\":2",
            "record format 2",
        ),
        ("images/index.json", "\"format\": 1", "\"format\": 2", "2"),
    ] {
        let before = stamp(&machine, file, from, to);
        let newer = fs::read(machine.data_dir.join(file)).expect("read");
        let refused = machine.plimsoll("up").fails(said);
        assert!(
            refused.contains("7.8.9"),
            "{file}: which version to use is not told: {refused}"
        );
        assert!(refused.contains(file), "{file} is not named: {refused}");
        assert_eq!(
            fs::read(machine.data_dir.join(file)).expect("read"),
            newer,
            "{file} was changed"
        );
        fs::write(machine.data_dir.join(file), before).expect("written");
    }
    // the store's stamp lies in its database
    let path = machine.data_dir.join("store/state.redb");
    let whole = fs::read(&path).expect("read");
    write_store_format(&path, 2);
    let refused = machine.plimsoll("up").fails("store format 2");
    assert!(refused.contains("7.8.9"), "{refused}");
    fs::write(&path, whole).expect("written");

    // what was refused four times is as good as before, and this version notes that it runs now
    machine.plimsoll("up").ok();
    assert_eq!(
        machine
            .kubectl("get configmap kept -o jsonpath={.data.a}")
            .ok(),
        "1"
    );
    let now = fs::read_to_string(machine.data_dir.join("instance.json")).expect("read");
    assert!(now.contains(&version), "{now}");
}

fn write_store_format(path: &std::path::Path, format: u64) {
    let about = redb::TableDefinition::<&str, u64>::new("plimsoll-store");
    let database = redb::Database::open(path).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    transaction
        .open_table(about)
        .expect("a table")
        .insert("format", format)
        .expect("inserted");
    transaction.commit().expect("committed");
}
