//! The pod that a decision is about, with what is read of it once.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::resident::Resident;
use crate::spread::Spread;

/// A pod that wants a node.
#[derive(Clone, Debug)]
pub struct Incoming<'a> {
    pub pod: &'a Pod,
    /// How it will be remembered.
    pub resident: Arc<Resident>,
    /// Its topology spread constraints that must hold.
    pub spread: Vec<Spread>,
}

impl<'a> Incoming<'a> {
    /// Of this pod.
    pub fn of(pod: &'a Pod) -> Self {
        Self {
            pod,
            resident: Arc::new(Resident::of(pod)),
            spread: Spread::of(pod, true),
        }
    }

    /// The node on which room is being made for it, as its status has it.
    pub fn nominated(&self) -> Option<&'a str> {
        let status = self.pod.status.as_ref()?;
        let node = status.nominated_node_name.as_deref();
        node.filter(|node| !node.is_empty())
    }
}
