//! A load generator: so many requests a second at one URL, from a process of its own, reported each second as a line of JSON.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

const IN_FLIGHT_MAX: usize = 256;
const REQUEST: Duration = Duration::from_secs(10);
const BODY_BYTES_MAX: usize = 1 << 20;

/// What to send, how often, how long.
#[derive(clap::Args)]
pub struct Options {
    /// http://HOST[:PORT]/PATH
    pub url: String,
    /// Requests a second
    #[arg(long, default_value_t = 10.0)]
    pub rate: f64,
    /// Seconds to run
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
}

/// One second of load.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Second {
    pub answered: usize,
    pub failed: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Runs to the end; each second prints one line. Exit code 1 if nothing was ever answered.
pub fn run(options: &Options) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answered = runtime.block_on(drive(options))?;
    Ok(if answered > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[derive(Default)]
struct Tally {
    latencies_ms: Vec<f64>,
    failed: usize,
}

async fn drive(options: &Options) -> Result<usize> {
    let uri: http::Uri = options
        .url
        .parse()
        .with_context(|| format!("{:?} is no URL", options.url))?;
    let host = uri.host().context("the URL names no host")?.to_owned();
    if uri.scheme_str() != Some("http") || !(options.rate > 0.0 && options.rate <= 10_000.0) {
        bail!("the URL must begin with http:// and the rate lie between 0 and 10000 a second");
    }
    let target = Arc::new((
        host,
        uri.port_u16().unwrap_or(80),
        uri.path_and_query().map_or("/".into(), ToString::to_string),
    ));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let slots = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / options.rate));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut reports = tokio::time::interval(Duration::from_secs(1));
    reports.tick().await;
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut total = 0;
    while Instant::now() < end {
        tokio::select! {
            _ = ticks.tick() => match slots.clone().try_acquire_owned() {
                Ok(slot) => {
                    let (target, tally) = (target.clone(), tally.clone());
                    tokio::spawn(async move {
                        let _slot = slot;
                        let began = Instant::now();
                        let outcome = tokio::time::timeout(REQUEST, get(&target)).await;
                        let mut tally = tally.lock();
                        match outcome {
                            Ok(Ok(())) => tally.latencies_ms.push(began.elapsed().as_secs_f64() * 1000.0),
                            _ => tally.failed += 1,
                        }
                    });
                }
                // everything in flight is stuck: a request that cannot even be sent has failed
                Err(_) => tally.lock().failed += 1,
            },
            _ = reports.tick() => {
                let second = summary(std::mem::take(&mut *tally.lock()));
                total += second.answered;
                println!("{}", serde_json::to_string(&second)?);
            }
        }
    }
    Ok(total)
}

async fn get(target: &(String, u16, String)) -> Result<()> {
    let (host, port, path) = target;
    let stream = TcpStream::connect((host.as_str(), *port)).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = http::Request::get(path)
        .header("host", format!("{host}:{port}"))
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX)
        .collect()
        .await;
    driver.abort();
    if !status.is_success() || body.is_err() {
        bail!("answered {status}");
    }
    Ok(())
}

fn summary(mut tally: Tally) -> Second {
    tally.latencies_ms.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let index = (q * tally.latencies_ms.len() as f64).ceil() as usize;
        tally
            .latencies_ms
            .get(index.saturating_sub(1))
            .copied()
            .unwrap_or(0.0)
    };
    Second {
        answered: tally.latencies_ms.len(),
        failed: tally.failed,
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let second = summary(Tally {
            latencies_ms: (1..=100).rev().map(f64::from).collect(),
            failed: 2,
        });
        assert_eq!(
            (second.answered, second.failed, second.p50_ms, second.p99_ms),
            (100, 2, 50.0, 99.0)
        );
        assert_eq!(summary(Tally::default()).p99_ms, 0.0);
    }
}
