//! The API server driven in process: raw requests through its tower service, and `kube::Client`.

mod apply;
mod apps;
mod autoscalers;
mod client;
mod crud;
mod deletion;
mod discovery;
mod families;
mod hostile;
mod limits;
mod lists;
mod patches;
mod policies;
mod restarts;
mod server;
mod storage;
mod subresources;
mod tables;
mod tls;
mod tokens;
mod validation;
mod watches;
