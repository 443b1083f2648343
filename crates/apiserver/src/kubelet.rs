//! How the server reaches a node's kubelet: log, exec, attach, port-forward and the node proxy.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a connection and its handshake may take.
const DIAL: Duration = Duration::from_secs(10);

/// A byte stream to a kubelet.
pub trait NodeStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> NodeStream for T {}

/// Opens connections to kubelets.
#[async_trait]
pub trait NodeDialer: Send + Sync + 'static {
    /// Connects to the kubelet at `address:port`. `address` is what the Node object says.
    async fn dial(&self, address: &str, port: u16) -> std::io::Result<Box<dyn NodeStream>>;
}

/// Dials over TLS with the given settings (trusting the instance's CA, showing the server's client certificate).
pub struct TlsDialer(pub Arc<rustls::ClientConfig>);

#[async_trait]
impl NodeDialer for TlsDialer {
    async fn dial(&self, address: &str, port: u16) -> std::io::Result<Box<dyn NodeStream>> {
        let name = rustls::pki_types::ServerName::try_from(address.to_owned())
            .map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidInput, e))?;
        let connect = async {
            let tcp = tokio::net::TcpStream::connect((address, port)).await?;
            tcp.set_nodelay(true)?;
            let connector = tokio_rustls::TlsConnector::from(self.0.clone());
            connector.connect(name, tcp).await
        };
        // a kubelet that has no room takes the connection and says nothing
        let stream = tokio::time::timeout(DIAL, connect)
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        Ok(Box::new(stream))
    }
}
