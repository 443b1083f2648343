//! The Kubernetes API over a [`store::Store`]: a registry of kinds, discovery, OpenAPI, create, read,
//! update, delete, watch, patch, admission, authentication and authorisation.
//!
//! Deliberately absent: controllers, and anything about containers. The data flow of a write is
//! authenticate → authorise → decode strictly → default → admit → validate → compare-and-swap in the
//! store → watch cache → every watcher gets the same pre-serialised bytes.
#![forbid(unsafe_code)]

pub mod activity;
pub mod aggregate;
mod apiservices;
mod apply;
pub mod auth;
mod backend;
mod bootstrap;
mod cache;
pub mod codec;
mod config;
pub mod custom;
mod discovery;
mod error;
mod events;
mod flow;
mod foreign;
mod handlers;
mod kubelet;
mod meter;
pub mod negotiate;
mod object;
mod openapi;
pub mod patch;
pub mod path;
pub mod pki;
mod pod_security;
pub mod query;
pub mod rbac;
pub mod registry;
pub mod schema;
pub mod selector;
mod serve;
mod server;
mod status;
mod time;
mod tokens;

pub use aggregate::{AggregatedResource, AggregatedResources, AggregatedService};
pub use auth::{Authorizer, Decision, Identity};
pub use config::{Config, Limits};
pub use error::Error;
pub use foreign::readable;
pub use kubelet::{NodeDialer, NodeStream, TlsDialer};
pub use quota::quantity;
pub use server::{ApiServer, BoxError, ClientService, ResponseBody};
pub use status::ApiError;
