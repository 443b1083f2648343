//! Where the server is, and the right to ask it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use kube::client::ConfigExt;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use crate::Result;

/// What a kubeconfig's current context says, by certificate or token.
#[derive(Clone)]
pub struct Access {
    host: String,
    port: u16,
    name: ServerName<'static>,
    token: Option<String>,
    tls: Arc<rustls::ClientConfig>,
}

impl Access {
    pub async fn read(file: &str) -> Result<Access> {
        let kubeconfig = Kubeconfig::read_from(file)?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let host = config
            .cluster_url
            .host()
            .ok_or("the server has no host")?
            .trim_matches(['[', ']'])
            .to_owned();
        let name = config.tls_server_name.clone().unwrap_or(host.clone());
        let auth = serde_json::to_value(&config.auth_info)?;
        if !auth["exec"].is_null() {
            return Err("a kubeconfig whose credentials come from a program cannot be used".into());
        }
        let token = match (&auth["token"], &config.auth_info.token_file) {
            (serde_json::Value::String(token), _) => Some(token.clone()),
            (_, Some(file)) => Some(std::fs::read_to_string(file)?.trim().to_owned()),
            _ => None,
        };
        let mut tls = config.rustls_client_config()?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Access {
            port: config.cluster_url.port_u16().unwrap_or(443),
            name: ServerName::try_from(name)?,
            tls: Arc::new(tls),
            host,
            token,
        })
    }

    pub async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = tokio_rustls::TlsConnector::from(self.tls.clone())
            .connect(self.name.clone(), stream)
            .await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection {
            access: self.clone(),
            sender,
        })
    }
}

/// One connection, for one request at a time.
pub struct Connection {
    access: Access,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Sends a request; the head of the answer, which is a success.
    pub async fn begin(
        &mut self,
        method: &Method,
        path: &str,
        body: String,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("{}:{}", self.access.host, self.access.port))
            .header("content-type", "application/json");
        if let Some(token) = &self.access.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.sender.ready().await?;
        let request = request.body(Full::new(Bytes::from(body)))?;
        let answer = self.sender.send_request(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        Err(format!("{method} {path}: {status} {text}").into())
    }

    /// Sends a request and reads the whole answer, which is a success.
    pub async fn ask(&mut self, method: &Method, path: &str, body: String) -> Result<Bytes> {
        let answer = self.begin(method, path, body).await?;
        Ok(answer.into_body().collect().await?.to_bytes())
    }
}
