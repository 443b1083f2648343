//! The node that has the pod's images already (upstream's ImageLocality). Images that are everywhere count in full, so that
//! one node that has a large image does not get all pods.

use super::MAX;
use crate::cluster::NodeRoom;
use crate::filter::View;

const MIB: i64 = 1024 * 1024;
const LEAST_BYTES: i64 = 23 * MIB;
const MOST_BYTES_EACH: i64 = 1000 * MIB;

pub fn scores(view: &View, rooms: &[&NodeRoom]) -> Vec<i64> {
    let spec = view.incoming.pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|spec| {
        let first = spec.init_containers.iter().flatten();
        first.chain(&spec.containers)
    });
    let names: Vec<String> = containers
        .filter_map(|container| container.image.as_deref())
        .map(tagged)
        .collect();
    let nodes = view.cluster.rooms().len() as f64;
    let spread: Vec<f64> = names
        .iter()
        .map(|name| view.cluster.nodes_with_image(name) as f64 / nodes)
        .collect();
    let most = MOST_BYTES_EACH.saturating_mul(i64::try_from(names.len()).unwrap_or(1));
    let score = |room: &&NodeRoom| {
        let bytes: i64 = names
            .iter()
            .zip(&spread)
            .map(|(name, spread)| {
                let size = room.images.get(name).copied().unwrap_or(0);
                (size as f64 * spread) as i64
            })
            .sum();
        match most > LEAST_BYTES {
            true => MAX * (bytes.clamp(LEAST_BYTES, most) - LEAST_BYTES) / (most - LEAST_BYTES),
            false => 0,
        }
    };
    rooms.iter().map(score).collect()
}

/// With the tag that a name without one means.
fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.contains(':') {
        true => name.to_owned(),
        false => format!("{name}:latest"),
    }
}
