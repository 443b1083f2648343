//! Claims that one pod alone may have (upstream's plugin VolumeRestrictions).

use super::{Rejection, View};
use crate::resident::Resident;

const TAKEN: &str =
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";

/// How many pods have a claim that the pod must have alone.
pub fn count(view: &View) -> i64 {
    if exclusive(view).next().is_none() {
        return 0;
    }
    let rooms = view.cluster.rooms().values();
    let all = rooms.flat_map(|room| &room.residents);
    all.map(|resident| of(view, resident)).sum()
}

/// 1 if this pod has one.
pub fn of(view: &View, resident: &Resident) -> i64 {
    let near = resident.namespace == view.incoming.resident.namespace;
    i64::from(near && exclusive(view).any(|claim| resident.claims.contains(claim)))
}

pub fn check(taken: i64) -> Result<(), Rejection> {
    match taken > 0 {
        true => Err(Rejection::passing(TAKEN)),
        false => Ok(()),
    }
}

fn exclusive<'a>(view: &'a View) -> impl Iterator<Item = &'a String> {
    let own = &view.incoming.resident;
    own.claims.iter().filter(|claim| {
        let key = (own.namespace.clone(), (*claim).clone());
        let spec = view
            .storage
            .claims
            .get(&key)
            .and_then(|claim| claim.spec.as_ref());
        let modes = spec.and_then(|spec| spec.access_modes.as_deref());
        modes
            .unwrap_or_default()
            .iter()
            .any(|mode| mode == "ReadWriteOncePod")
    })
}
