//! How many decisions a second one core makes: `decide_rate SECONDS PODS`. Prints one line of JSON. `bench/run` drives it.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::json;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse());
    let (Some(Ok(seconds)), Some(Ok(pods))) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: decide_rate SECONDS PODS");
        std::process::exit(2);
    };
    let behavior = json!({"scaleDown": {"stabilizationWindowSeconds": 60, "policies": [{"type": "Percent", "value": 50, "periodSeconds": 15}]}});
    let usage: Vec<Option<i64>> = (0..pods).map(|pod| Some(60 + pod as i64 % 70)).collect();
    let mut inputs = support::inputs(support::spec(1, 100, behavior), &usage);
    let (began, end) = (Instant::now(), Duration::from_secs(seconds));
    let mut decisions = 0_u64;
    while began.elapsed() < end {
        for _ in 0..100 {
            // as the controller does it: each decision goes on from the state that the one before left
            let decision = autoscale::decide(black_box(&inputs));
            inputs.state = decision.state;
            decisions += 1;
        }
    }
    let per_second = decisions as f64 / began.elapsed().as_secs_f64();
    println!("{}", json!({"per_second": per_second, "pods": pods}));
}
