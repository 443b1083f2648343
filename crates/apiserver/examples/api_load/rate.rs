//! Requests a second, and how long each takes.

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use crate::access::Access;
use crate::{Result, quantile};

pub struct Load {
    pub access: Access,
    pub method: Method,
    pub path: String,
    pub body: String,
    pub amount: Amount,
    pub clients: u64,
}

/// How much: for a time, or so many requests of all clients together.
#[derive(Clone, Copy)]
pub enum Amount {
    For(Duration),
    Requests(u64),
}

impl FromStr for Amount {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(count) = text.strip_suffix('x') {
            return Ok(Amount::Requests(count.parse()?));
        }
        let seconds = text.strip_suffix('s').unwrap_or(text);
        Ok(Amount::For(Duration::from_secs_f64(seconds.parse()?)))
    }
}

pub async fn run(load: Load) -> Result<Value> {
    let load = Arc::new(load);
    let began = Instant::now();
    let clients = 0..load.clients;
    let running: Vec<_> = clients
        .map(|client| tokio::spawn(requests(load.clone(), client)))
        .collect();
    let mut latencies = Vec::new();
    for client in running {
        latencies.extend(client.await??);
    }
    let taken = began.elapsed().as_secs_f64();
    Ok(json!({
        "per_second": latencies.len() as f64 / taken,
        "requests": latencies.len(),
        "p50_us": quantile(&mut latencies, 0.5),
        "p99_us": quantile(&mut latencies, 0.99),
    }))
}

/// One client's requests, one after the other; how long each took, in microseconds.
async fn requests(load: Arc<Load>, client: u64) -> Result<Vec<i64>> {
    let mut connection = load.access.connect().await?;
    let start = Instant::now();
    let more = |n: u64| match load.amount {
        Amount::For(time) => start.elapsed() < time,
        // the first clients take what is left over
        Amount::Requests(all) => n < all / load.clients + u64::from(client < all % load.clients),
    };
    let mut latencies = Vec::new();
    for n in 0u64.. {
        if !more(n) {
            break;
        }
        let fill = |text: &str| {
            text.replace("{client}", &client.to_string())
                .replace("{n}", &n.to_string())
        };
        let (path, body) = (fill(&load.path), fill(&load.body));
        let began = Instant::now();
        connection.ask(&load.method, &path, body).await?;
        latencies.push(i64::try_from(began.elapsed().as_micros())?);
    }
    Ok(latencies)
}
