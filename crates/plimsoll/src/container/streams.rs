//! Standard streams of a container over a hijacked connection: multiplexed, or raw when there is a terminal.

use std::io::{IsTerminal, Write};

use anyhow::{Result, bail};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

const FRAME_BYTES_MAX: usize = 64 << 20;

/// Copies the container's output to ours, and our input to it if `stdin`, until the output ends.
pub async fn copy(stream: TokioIo<Upgraded>, tty: bool, stdin: bool) -> Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let input = tokio::spawn(async move {
        if stdin {
            let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut to).await;
            let _ = to.shutdown().await;
        } else {
            // the connection stays open in this direction: closing it would end the stream for some servers
            std::future::pending::<()>().await;
        }
    });
    let outcome = if tty {
        raw(&mut from).await
    } else {
        demultiplex(&mut from).await
    };
    input.abort();
    outcome
}

async fn raw(from: &mut (impl AsyncRead + Unpin)) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        out.write_all(&buffer[..length])?;
        out.flush()?;
    }
}

/// Frames of eight bytes' header (stream, three zeros, length in big-endian order) and content.
pub async fn demultiplex(from: &mut (impl AsyncRead + Unpin)) -> Result<()> {
    let mut header = [0; 8];
    let mut content = Vec::new();
    loop {
        match from.read_exact(&mut header).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if length > FRAME_BYTES_MAX {
            bail!(
                "the server sent a frame of {length} bytes; no honest one is larger than {FRAME_BYTES_MAX}"
            );
        }
        content.resize(length, 0);
        from.read_exact(&mut content).await?;
        if header[0] == 2 {
            std::io::stderr().lock().write_all(&content)?;
        } else {
            let mut out = std::io::stdout().lock();
            out.write_all(&content)?;
            out.flush()?;
        }
    }
}

/// Our terminal in raw mode until dropped.
pub struct RawMode(Option<Termios>);

impl RawMode {
    /// Does nothing when standard input is no terminal.
    pub fn enter() -> Self {
        let stdin = std::io::stdin();
        let before = stdin
            .is_terminal()
            .then(|| tcgetattr(&stdin).ok())
            .flatten();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = tcsetattr(&stdin, OptionalActions::Now, &raw);
        }
        Self(before)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Columns and rows of our terminal, if it is one.
pub fn terminal_size() -> Option<(u16, u16)> {
    tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| (size.ws_col, size.ws_row))
}
