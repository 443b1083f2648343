//! Collects what containers use and what pods expose, keeps the recent past in memory, and answers the metrics APIs.
//!
//! [`Server::collect`] scrapes every node's kubelet once a second through the API server's node proxy;
//! [`Server::service`] answers `metrics.k8s.io/v1beta1` from what was collected and is mounted by the API
//! server's aggregation layer. Metrics that pods expose themselves are scraped by their annotations and answered as
//! custom.metrics.k8s.io and external.metrics.k8s.io (`custom`). Nothing here decides anything: scaling lives in `autoscale`.
//!
//! CPU is a rate over about five seconds of one-second samples. Quick: a load step that multiplies the load shows
//! in the first second, because even a fifth of it leaves the HPA's tolerance of 10 %. Not nervous: the kernel
//! hands out CPU quota in periods of 100 ms, so where a sample cuts through a period moves a one-second rate by
//! up to 10 %, the tolerance itself, but a five-second rate by 2 % at most.
#![forbid(unsafe_code)]

mod api;
mod collector;
mod custom;
mod history;
mod labels;
mod refusal;
mod resources;
mod scrape;
mod server;
mod store;
mod text;

pub use custom::services::{ServiceSource, ServiceValue};
pub use custom::{Limits, read_page};
pub use resources::{GROUP, GroupVersion, Resource, VERSION, resources};
pub use server::{BoxError, Config, Server, Service};
pub use text::{LineError, Sample, samples};
