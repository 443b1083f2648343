//! Pipes and terminals in the async world.

use crate::process::Output;
use bytes::Bytes;
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

/// Bytes read at once.
pub(super) const PIECE_LENGTH: usize = 32 << 10;

/// Watches a terminal, without blocking from now on.
pub(super) fn watch_terminal(terminal: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    nonblocking(&terminal)?;
    // SAFETY: an `OwnedFd` is one and the same open descriptor until it is dropped.
    let watched = unsafe { AsyncFd::register(terminal) };
    Ok(watched?)
}

fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(
        fd,
        flags | rustix::fs::OFlags::NONBLOCK,
    )?)
}

pub(super) async fn read_pipe(
    mut pipe: pipe::Receiver,
    wrap: fn(Bytes) -> Output,
    output: mpsc::Sender<Output>,
) {
    let mut bytes = vec![0; PIECE_LENGTH];
    while let Ok(count) = pipe.read(&mut bytes).await {
        if count == 0
            || output
                .send(wrap(Bytes::copy_from_slice(&bytes[..count])))
                .await
                .is_err()
        {
            return;
        }
    }
}

pub(super) async fn read_terminal(terminal: AsyncFd<OwnedFd>, output: mpsc::Sender<Output>) {
    let mut bytes = vec![0; PIECE_LENGTH];
    loop {
        let Ok(mut ready) = terminal.readable().await else {
            return;
        };
        match ready.try_io(|fd| Ok(rustix::io::read(fd, &mut bytes)?)) {
            // A terminal that nobody has open any more answers EIO.
            Ok(Ok(0)) | Ok(Err(_)) => return,
            Ok(Ok(count)) => {
                if output
                    .send(Output::Stdout(Bytes::copy_from_slice(&bytes[..count])))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Err(_would_block) => {}
        }
    }
}

pub(super) async fn write_terminal(mut input: tokio::io::DuplexStream, terminal: AsyncFd<OwnedFd>) {
    let mut bytes = vec![0; 4096];
    while let Ok(count) = input.read(&mut bytes).await {
        if count == 0 {
            // A terminal has no end of file but the character that asks for it.
            bytes[0] = 4;
        }
        let mut rest = &bytes[..count.max(1)];
        while !rest.is_empty() {
            let Ok(mut ready) = terminal.writable().await else {
                return;
            };
            match ready.try_io(|fd| Ok(rustix::io::write(fd, rest)?)) {
                Ok(Ok(written)) => rest = &rest[written..],
                Ok(Err(_)) => return,
                Err(_would_block) => {}
            }
        }
        if count == 0 {
            return;
        }
    }
}
