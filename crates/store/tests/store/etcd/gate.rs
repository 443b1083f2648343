//! A way between a store and its etcd that a test can close.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    Open,
    /// What etcd says is dropped.
    Deaf,
    /// Connections end, also those that are there.
    Closed,
}

/// A way to etcd that can be closed and turned to another one.
pub struct Gate {
    pub endpoint: String,
    state: watch::Sender<(Way, String)>,
    task: tokio::task::JoinHandle<()>,
}

impl Gate {
    pub async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let (state, seen) = watch::channel((Way::Open, to));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, seen.clone()));
            }
        });
        Self {
            endpoint,
            state,
            task,
        }
    }

    pub fn set(&self, way: Way) {
        self.state.send_modify(|state| state.0 = way);
    }

    /// Ends every connection; new ones end at once.
    pub async fn close(&self) {
        self.set(Way::Closed);
        // One for who accepts, two for each connection.
        while self.state.receiver_count() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub fn turn(&self, to: String) {
        self.state.send_modify(|state| state.1 = to);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, seen: watch::Receiver<(Way, String)>) {
    let to = seen.borrow().1.clone();
    let Ok(server) = TcpStream::connect(&to).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut closing = seen.clone();
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            let deaf = seen.borrow().0 == Way::Deaf;
            if !deaf && to_client.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        _ = closing.wait_for(|state| state.0 == Way::Closed) => {}
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = answers => {}
    }
}
