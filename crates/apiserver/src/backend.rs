//! How the server reaches what is proxied to: pods, the pods behind Services, other ports of nodes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::kubelet::{NodeDialer, NodeStream};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Dials TCP. Addresses that are not global unicast have been refused before.
pub struct TcpDialer;

#[async_trait]
impl NodeDialer for TcpDialer {
    async fn dial(&self, address: &str, port: u16) -> std::io::Result<Box<dyn NodeStream>> {
        let connect = tokio::net::TcpStream::connect((address, port));
        let tcp = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        tcp.set_nodelay(true)?;
        Ok(Box::new(tcp))
    }
}

/// TLS over a connection, to whoever answers: no authority vouches for a pod's address, and upstream does not ask for one.
pub(crate) async fn encrypted(
    stream: Box<dyn NodeStream>,
    address: IpAddr,
) -> std::io::Result<Box<dyn NodeStream>> {
    let connector = tokio_rustls::TlsConnector::from(anybody());
    let connect = connector.connect(ServerName::from(address), stream);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    Ok(Box::new(stream))
}

/// Whether an address may be proxied to, as Go's IsGlobalUnicast: not the machine's own loopback, nor link-local (where
/// clouds answer with credentials), nor a group. Private networks may.
pub(crate) fn is_allowed(address: IpAddr) -> bool {
    let plain = |address: std::net::Ipv4Addr| {
        !(address.is_unspecified()
            || address.is_loopback()
            || address.is_multicast()
            || address.is_link_local()
            || address.is_broadcast())
    };
    match address {
        IpAddr::V4(address) => plain(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => plain(mapped),
            None => {
                !(address.is_unspecified()
                    || address.is_loopback()
                    || address.is_multicast()
                    || address.is_unicast_link_local())
            }
        },
    }
}

fn anybody() -> Arc<ClientConfig> {
    static CONFIG: std::sync::LazyLock<Arc<ClientConfig>> = std::sync::LazyLock::new(|| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        Arc::new(config)
    });
    CONFIG.clone()
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_proxied_to() {
        for (address, allowed) in [
            ("10.1.2.3", true),
            ("192.168.1.1", true),
            ("8.8.8.8", true),
            ("fd00::1", true),
            ("2001:db8::1", true),
            ("127.0.0.1", false),
            ("127.8.8.8", false),
            ("0.0.0.0", false),
            ("169.254.169.254", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("::ffff:10.0.0.1", true),
        ] {
            assert_eq!(is_allowed(address.parse().unwrap()), allowed, "{address}");
        }
    }
}
