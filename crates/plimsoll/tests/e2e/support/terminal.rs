//! A command at a terminal of its own: it reads what is typed, and is told when the window changes.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::poll::{deadline, eventually};

/// Ends with the test at the latest.
pub struct Terminal {
    child: Child,
    ours: File,
    said: Arc<Mutex<String>>,
    shown: String,
}

impl Terminal {
    /// Starts a command whose standard streams are a terminal, which is its controlling one.
    #[track_caller]
    pub fn start(mut command: Command, shown: &str, rows: u16, columns: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).expect("granted");
        unlockpt(&ours).expect("unlocked");
        let name = ptsname(&ours, Vec::new()).expect("a name");
        resize(&ours, rows, columns);
        let theirs = || {
            let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
            rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).expect("its other end")
        };
        command.stdin(theirs()).stdout(theirs()).stderr(theirs());
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
        // the command holds the other end alone: reading ends with it
        drop(command);
        let ours = File::from(ours);
        let said = Arc::new(Mutex::new(String::new()));
        let (mut reader, all) = (ours.try_clone().expect("a second one"), said.clone());
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(bytes @ 1..) = reader.read(&mut part) {
                let text = String::from_utf8_lossy(&part[..bytes]).into_owned();
                all.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&text);
            }
        });
        Self {
            child,
            ours,
            said,
            shown: shown.to_owned(),
        }
    }

    /// Everything it has shown, with what was typed when that is echoed.
    pub fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.clone()
    }

    /// Types a text; lines end with `\n`.
    #[track_caller]
    pub fn types(&mut self, text: &str) {
        self.ours.write_all(text.as_bytes()).expect("typed");
    }

    /// Waits until it has shown a text.
    #[track_caller]
    pub fn shows(&self, part: &str) {
        eventually(
            &format!("{part:?} on the terminal of {}", self.shown),
            || {
                let said = self.said();
                if said.contains(part) {
                    Ok(())
                } else {
                    Err(format!("{said:?}"))
                }
            },
        );
    }

    /// The window gets another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.ours, rows, columns);
    }

    /// Waits for its end; returns the exit code.
    #[track_caller]
    pub fn ends(mut self) -> i32 {
        let until = Instant::now() + deadline();
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status.code().unwrap_or(-1);
            }
            assert!(
                Instant::now() < until,
                "{} does not end; it showed {:?}",
                self.shown,
                self.said()
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

fn resize(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).expect("a size");
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
