//! Collects what containers use, keeps the recent past in memory, and answers metrics.k8s.io.
//!
//! [`Server::collect`] scrapes every node's kubelet once a second through the API server's node proxy;
//! [`Server::service`] answers `metrics.k8s.io/v1beta1` from what was collected and is mounted by the API
//! server's aggregation layer. Nothing here decides anything: scaling lives in `autoscale`.
//!
//! CPU is a rate over about five seconds of one-second samples. Quick: a load step that multiplies the load shows
//! in the first second, because even a fifth of it leaves the HPA's tolerance of 10 %. Not nervous: the kernel
//! hands out CPU quota in periods of 100 ms, so where a sample cuts through a period moves a one-second rate by
//! up to 10 %, the tolerance itself, but a five-second rate by 2 % at most.
#![forbid(unsafe_code)]

mod api;
mod collector;
mod history;
mod labels;
mod resources;
mod scrape;
mod server;
mod store;
mod text;

pub use resources::{GROUP, Resource, VERSION, resources};
pub use server::{BoxError, Config, Server, Service};
pub use text::{LineError, Sample, samples};
