//! Load on any Kubernetes API server from a process of its own, over TLS, as a kubeconfig says:
//!
//!     api_load KUBECONFIG rate METHOD PATH AMOUNT CLIENTS [BODY]
//!     api_load KUBECONFIG watch WATCHERS WRITES
//!
//! `rate` makes requests for a time (`5s`) or so many of them (`10000x`, shared out among the clients). Each client has one
//! connection and one request in flight. `{client}` and `{n}` in PATH and BODY become the client's number and the
//! request's. `watch` tells how long after a write was acknowledged, and after it was sent, watchers have its event.
//! Each prints one line of JSON; times are microseconds. `bench/apiserver.py` drives it.

mod access;
mod rate;
mod watch;

use std::error::Error;

use access::Access;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: api_load KUBECONFIG rate METHOD PATH AMOUNT CLIENTS [BODY], or \
                     api_load KUBECONFIG watch WATCHERS WRITES";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "a TLS provider is there already")?;
    let figures = match words[..] {
        [file, "rate", method, path, amount, clients, ref body @ ..] => {
            let load = rate::Load {
                access: Access::read(file).await?,
                method: method.parse()?,
                path: path.to_owned(),
                body: body.first().copied().unwrap_or_default().to_owned(),
                amount: amount.parse()?,
                clients: clients.parse()?,
            };
            rate::run(load).await?
        }
        [file, "watch", watchers, writes] => {
            let access = Access::read(file).await?;
            watch::run(access, watchers.parse()?, writes.parse()?).await?
        }
        _ => return Err(USAGE.into()),
    };
    println!("{figures}");
    Ok(())
}

/// The value below which such a share of the values lies; 0 of none.
fn quantile(values: &mut [i64], share: f64) -> i64 {
    values.sort_unstable();
    let index = (values.len() as f64 * share) as usize;
    let index = index.min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or_default()
}
