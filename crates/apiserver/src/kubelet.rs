//! How the server reaches a node's kubelet: log, exec, attach, port-forward and the node proxy.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

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
        let connect = tokio::net::TcpStream::connect((address, port));
        let tcp = tokio::time::timeout(std::time::Duration::from_secs(10), connect)
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        tcp.set_nodelay(true)?;
        let connector = tokio_rustls::TlsConnector::from(self.0.clone());
        Ok(Box::new(connector.connect(name, tcp).await?))
    }
}
