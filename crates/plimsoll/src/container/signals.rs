//! What the terminal and the shell tell this program, and is meant for what runs in the container.

use tokio::signal::unix::{SignalKind, signal};

use super::client::Client;
use super::streams::terminal_size;

/// Hands signals on to a container (docker's `--sig-proxy`), without end: for use beside what does end.
pub async fn hand_on(client: &Client, id: &str) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut user_1 = signal(SignalKind::user_defined1())?;
    let mut user_2 = signal(SignalKind::user_defined2())?;
    loop {
        let name = tokio::select! {
            _ = hangup.recv() => "HUP",
            _ = interrupt.recv() => "INT",
            _ = quit.recv() => "QUIT",
            _ = terminate.recv() => "TERM",
            _ = user_1.recv() => "USR1",
            _ = user_2.recv() => "USR2",
        };
        // one that has just ended needs none
        let _ = client
            .post(&format!("/containers/{id}/kill?signal={name}"))
            .await;
    }
}

/// Has a terminal at `path` (`/containers/ID`, `/exec/ID`) be as large as ours, now and whenever ours changes, without end.
pub async fn follow_size(client: &Client, path: &str) -> std::io::Result<()> {
    let mut changed = signal(SignalKind::window_change())?;
    loop {
        if let Some((columns, rows)) = terminal_size() {
            let _ = client
                .post(&format!("{path}/resize?w={columns}&h={rows}"))
                .await;
        }
        changed.recv().await;
    }
}
