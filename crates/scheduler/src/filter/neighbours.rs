//! Which pods must be near each other and which must not (upstream's plugin InterPodAffinity).

use std::collections::HashMap;

use super::{Rejection, View};
use crate::cluster::NodeRoom;
use crate::resident::{Resident, Term};

const NOT_NEAR: &str = "node(s) didn't match pod affinity rules";
const NOT_APART: &str = "node(s) didn't match pod anti-affinity rules";
const UNWELCOME: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// How many pods are meant, by label and value of the nodes they are on. What falls to zero is forgotten.
type ByPlace = HashMap<String, HashMap<String, i64>>;

/// What is counted for the pod.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    /// Those that all of its affinity terms mean.
    near: ByPlace,
    /// Those that one of its anti-affinity terms means.
    apart: ByPlace,
    /// Those that do not want it near.
    unwelcoming: ByPlace,
}

impl Pairs {
    /// Over all nodes.
    pub fn count(view: &View) -> Self {
        let mut pairs = Self::default();
        let own = &view.incoming.resident.neighbours;
        let indifferent = own.near.is_empty() && own.apart.is_empty();
        if indifferent && !view.cluster.has_choosy_pods() {
            return pairs;
        }
        for room in view.cluster.rooms().values() {
            // a pod that wants nothing is only told what others want
            let residents = match indifferent {
                true => &room.choosy,
                false => &room.residents,
            };
            for resident in residents {
                pairs.shift(view, resident, room, 1);
            }
        }
        pairs
    }

    /// A pod came to the node or went from there.
    pub fn shift(&mut self, view: &View, resident: &Resident, room: &NodeRoom, by: i64) {
        let (incoming, namespaces) = (&view.incoming.resident, &view.cluster.namespaces);
        let own = &incoming.neighbours;
        for term in &resident.neighbours.apart {
            if term.means(incoming, namespaces) {
                add(&mut self.unwelcoming, term, room, by);
            }
        }
        if !own.near.is_empty() && resident.is_meant_by_all(&own.near, namespaces) {
            for term in &own.near {
                add(&mut self.near, term, room, by);
            }
        }
        for term in &own.apart {
            if term.means(resident, namespaces) {
                add(&mut self.apart, term, room, by);
            }
        }
    }

    /// The pod may live there, and those that are there may live with it.
    pub fn check(&self, view: &View, room: &NodeRoom) -> Result<(), Rejection> {
        let own = &view.incoming.resident.neighbours;
        if !self.is_near(view, &own.near, room) {
            return Err(Rejection::fixed(NOT_NEAR));
        }
        if own
            .apart
            .iter()
            .any(|term| is_there(&self.apart, term, room))
        {
            return Err(Rejection::passing(NOT_APART));
        }
        let mut unwelcoming = self.unwelcoming.iter();
        let unwelcome = unwelcoming.any(|(key, values)| {
            let value = room.label(key);
            value.is_some_and(|value| values.contains_key(value))
        });
        if unwelcome {
            return Err(Rejection::passing(UNWELCOME));
        }
        Ok(())
    }

    fn is_near(&self, view: &View, terms: &[Term], room: &NodeRoom) -> bool {
        if terms
            .iter()
            .any(|term| room.label(&term.topology_key).is_none())
        {
            return false;
        }
        if terms.iter().all(|term| is_there(&self.near, term, room)) {
            return true;
        }
        // the first of pods that want to be together has nobody to join
        let incoming = &view.incoming.resident;
        self.near.is_empty() && incoming.is_meant_by_all(terms, &view.cluster.namespaces)
    }
}

fn add(pairs: &mut ByPlace, term: &Term, room: &NodeRoom, by: i64) {
    let key = &term.topology_key;
    let Some(value) = room.label(key) else {
        return;
    };
    let values = pairs.entry(key.clone()).or_default();
    let count = values.entry(value.to_owned()).or_insert(0);
    *count += by;
    if *count == 0 {
        values.remove(value);
        if values.is_empty() {
            pairs.remove(key);
        }
    }
}

fn is_there(pairs: &ByPlace, term: &Term, room: &NodeRoom) -> bool {
    let values = pairs.get(&term.topology_key);
    room.label(&term.topology_key)
        .and_then(|value| values?.get(value))
        .is_some_and(|count| *count > 0)
}
