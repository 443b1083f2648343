//! kube, the client library for Rust, with its runtime: a program of somebody's who knows this server by a kubeconfig with the
//! token of a service account alone.

mod custom;
mod objects;
mod pods;

use std::future::Future;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::support::{Space, deadline};

pub use custom::a_controller_of_custom_objects_does_its_work;
pub use objects::objects_are_read_in_pages_changed_and_watched;
pub use pods::pods_are_entered_attached_to_forwarded_and_evicted;

/// Runs what a program does, as the account `robot` of the namespace, whose role there is given.
pub fn with_client<F: Future<Output = ()>>(
    space: &Space,
    role: &str,
    program: impl FnOnce(Client) -> F,
) {
    let name = &space.name;
    space.kubectl("create serviceaccount robot").ok();
    space
        .kubectl(&format!(
            "create rolebinding robot --clusterrole={role} --serviceaccount={name}:robot"
        ))
        .ok();
    let token = space.kubectl("create token robot").ok();
    let file = space.instance.data_dir.join("kubeconfig");
    let text = std::fs::read_to_string(file).expect("kubeconfig");
    let mut config: Value = serde_saphyr::from_str(&text).expect("YAML");
    config["users"][0]["user"] = json!({"token": token.trim()});
    config["contexts"][0]["context"]["namespace"] = name.as_str().into();
    let config: Kubeconfig = serde_json::from_value(config).expect("a kubeconfig");
    // another test may have said so already
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(config, &options)
            .await
            .expect("it is understood");
        // what is refused is to be seen, not asked for again for five minutes
        config.default_retry = false;
        assert_eq!(&config.default_namespace, name);
        program(Client::try_from(config).expect("a client")).await;
    });
}

/// What is waited for comes, and not too late.
#[track_caller]
pub fn soon<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    let limit: Duration = deadline();
    async move {
        match tokio::time::timeout(limit, future).await {
            Ok(value) => value,
            Err(_) => panic!("not within {} s: {what} ({place})", limit.as_secs()),
        }
    }
}

/// The code of the Status that a request was refused with.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason),
        other => panic!("expected a Status, not {other:?}"),
    }
}
