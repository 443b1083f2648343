//! Which of the nodes that can run a pod should.
//!
//! Pure. The score plugins of upstream's default profile with their weights; each gives 0 to 100. The first name wins a
//! tie, where upstream draws lots.

mod images;
mod neighbours;
mod resources;
mod spread;

use crate::cluster::NodeRoom;
use crate::filter::{View, preferred_weight, untolerated_preferences};

const MAX: i64 = 100;

/// The best of the rooms.
pub fn best<'a>(view: &View, rooms: &[(&'a str, &'a NodeRoom)]) -> Option<&'a str> {
    if let [(only, _)] = rooms {
        return Some(only);
    }
    let mut best: Option<(i64, &str)> = None;
    for (score, (name, _)) in scores(view, rooms).into_iter().zip(rooms) {
        if best.is_none_or(|(known, _)| score > known) {
            best = Some((score, name));
        }
    }
    best.map(|(_, name)| name)
}

/// The weighted sum of all plugins, of each room.
fn scores(view: &View, rooms: &[(&str, &NodeRoom)]) -> Vec<i64> {
    let rooms: Vec<&NodeRoom> = rooms.iter().map(|(_, room)| *room).collect();
    let pod = view.incoming.pod;
    let each = |score: &dyn Fn(&NodeRoom) -> i64| -> Vec<i64> {
        rooms.iter().map(|room| score(room)).collect()
    };
    let footprint = &view.incoming.resident.footprint;
    let taints =
        each(&|room| i64::try_from(untolerated_preferences(pod, &room.node)).unwrap_or(MAX));
    let weighted = [
        (3, reversed(taints)),
        (
            2,
            normalized(each(&|room| preferred_weight(pod, &room.node))),
        ),
        (2, spread::scores(view, &rooms)),
        (2, neighbours::scores(view, &rooms)),
        (1, each(&|room| resources::least_allocated(footprint, room))),
        (1, each(&|room| resources::balanced(footprint, room))),
        (1, images::scores(view, &rooms)),
    ];
    (0..rooms.len())
        .map(|at| {
            let parts = weighted.iter();
            parts
                .map(|(weight, scores)| weight * scores.get(at).copied().unwrap_or(0))
                .sum()
        })
        .collect()
}

/// Scaled so that the largest is 100.
fn normalized(mut scores: Vec<i64>) -> Vec<i64> {
    let largest = scores.iter().copied().max().unwrap_or(0);
    if largest > 0 {
        for score in &mut scores {
            *score = MAX * *score / largest;
        }
    }
    scores
}

/// Scaled so that zero is 100 and the largest is 0.
fn reversed(scores: Vec<i64>) -> Vec<i64> {
    let scaled = normalized(scores);
    scaled.into_iter().map(|score| MAX - score).collect()
}

#[cfg(test)]
mod tests;
