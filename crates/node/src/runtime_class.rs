//! The runtime that a pod's RuntimeClass asks for: this node has one, by several names.
//!
//! Refusals are in the words of the kubelet with containerd, because people search for them.

use k8s_openapi::api::node::v1::RuntimeClass;
use kube::{Api, Client};

/// Names of the one runtime: what it stands in for, and its own.
const HANDLERS: [&str; 3] = ["", "runc", "plimsoll"];

/// Why a pod of this class cannot run here.
pub async fn check(client: &Client, class: Option<&str>) -> Result<(), String> {
    let Some(name) = class.filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let classes: Api<RuntimeClass> = Api::all(client.clone());
    match classes.get_opt(name).await {
        Ok(Some(class)) => known(&class.handler),
        Ok(None) => Err(format!("runtimeclass.node.k8s.io {name:?} not found")),
        Err(error) => Err(format!("failed to lookup RuntimeClass {name}: {error}")),
    }
}

fn known(handler: &str) -> Result<(), String> {
    if HANDLERS.contains(&handler) {
        return Ok(());
    }
    Err(format!(
        "rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for {handler:?} is configured"
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_runtime_by_several_names() {
        for handler in ["", "runc", "plimsoll"] {
            assert_eq!(super::known(handler), Ok(()), "{handler}");
        }
        for handler in ["kata", "runsc", "RUNC"] {
            let why = super::known(handler).expect_err(handler);
            let words = format!("no runtime for \"{handler}\" is configured");
            assert!(why.ends_with(&words), "{why}");
        }
    }
}
