//! Serves the API alone over TLS: `serve DATA_DIR PORT`. Writes `DATA_DIR/kubeconfig` for kubectl.

use std::path::PathBuf;
use std::sync::Arc;

use apiserver::{ApiServer, Config, pki};
use store::embedded::EmbeddedStore;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(port)) = (arguments.next(), arguments.next()) else {
        return Err("usage: serve DATA_DIR PORT".into());
    };
    let dir = PathBuf::from(dir);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port.parse::<u16>()?)).await?;
    let address = listener.local_addr()?;
    let keys = pki::Pki::open(&dir.join("pki"))?;
    let names = ["localhost", "127.0.0.1", "kubernetes", "kubernetes.default"].map(str::to_owned);
    let tls = keys.server_tls(&keys.server(&names)?, &[b"h2", b"http/1.1"])?;
    let kubeconfig = pki::kubeconfig(
        "plimsoll",
        &format!("https://{address}"),
        keys.ca_certificate(),
        &keys.admin()?,
    );
    std::fs::write(dir.join("kubeconfig"), kubeconfig)?;
    std::fs::create_dir_all(dir.join("store"))?;
    let store = EmbeddedStore::open(
        &dir.join("store/state.redb"),
        store::embedded::Options::default(),
    )?;
    let mut config = Config::new(&dir);
    // An endpoint on loopback would be another's loopback to whoever is told of it.
    config.advertise_address = (!address.ip().is_loopback()).then_some(address);
    let server = ApiServer::open(config, Arc::new(store)).await?;
    println!("export KUBECONFIG={}", dir.join("kubeconfig").display());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    server.serve(listener, tls, shutdown).await;
    server.stop();
    Ok(())
}
