//! Making room when the disk runs short: what can be made or fetched again goes, the longest unused first.

use std::time::Duration;

use jiff::Timestamp;

use super::{State, Store};
use crate::error::Error;
use crate::model::{Freed, Removed};

/// What is known of an image when it has to be decided whether it may go.
#[derive(Clone, Debug, PartialEq)]
struct Candidate {
    id: String,
    /// Without any name: a newer build has taken it over.
    dangling: bool,
    /// Some name of it was set here (build, load, tag, commit, import): nobody could fetch it again.
    local: bool,
    /// A container has it.
    in_use: bool,
    since: Timestamp,
    last: Timestamp,
}

/// Images that may go, in the order in which they do: those without a name first, then the longest unused. Only what has been here,
/// and unused, for `age_min`. A pure function; follows the kubelet's `pkg/kubelet/images/image_gc_manager.go`, but for images that
/// were made here.
fn order(mut images: Vec<Candidate>, age_min: Duration, now: Timestamp) -> Vec<Candidate> {
    let old = |at: Timestamp| {
        let age = now.duration_since(at);
        Duration::try_from(age).is_ok_and(|age| age >= age_min)
    };
    images.retain(|image| {
        let may_go = image.dangling || !image.local;
        may_go && !image.in_use && old(image.since) && old(image.last)
    });
    images.sort_by(|a, b| {
        let key = |image: &Candidate| (!image.dangling, image.last, image.since, image.id.clone());
        key(a).cmp(&key(b))
    });
    images
}

impl Store {
    /// Deletes what may go until so many bytes are free, or nothing is left that may. See [`crate::Images::free_space`].
    pub fn free_space(
        &self,
        bytes: u64,
        age_min: Duration,
        now: Timestamp,
    ) -> Result<Freed, Error> {
        let mut freed = Freed::default();
        if self.is_busy() {
            freed.busy = true;
            return Ok(freed);
        }
        freed.bytes += self.collect_garbage()?;
        let mut cache_is_left = true;
        for image in order(self.candidates(now), age_min, now) {
            if freed.bytes >= bytes {
                return Ok(freed);
            }
            if !image.dangling && cache_is_left {
                cache_is_left = false;
                freed.bytes += self.prune_build_cache()?;
                if freed.bytes >= bytes {
                    return Ok(freed);
                }
            }
            // While content is being added deleting frees nothing, and nobody could tell how much is enough.
            if self.is_busy() {
                freed.busy = true;
                return Ok(freed);
            }
            if let Some(names) = self.drop_unused(&image)? {
                freed.bytes += self.collect_garbage()?;
                freed.images.push((image.id, names));
            }
        }
        if freed.bytes < bytes && cache_is_left {
            freed.bytes += self.prune_build_cache()?;
        }
        Ok(freed)
    }

    fn is_busy(&self) -> bool {
        self.state.lock().busy > 0
    }

    fn candidates(&self, now: Timestamp) -> Vec<Candidate> {
        let used: std::collections::HashSet<String> = self
            .snapshots
            .records()
            .into_values()
            .map(|record| record.image)
            .collect();
        let state = self.state.lock();
        let uses = self.uses.of(state.index.images.keys(), now);
        let candidate = |(id, one): (String, super::uses::Use)| Candidate {
            dangling: state.is_nameless(&id),
            local: state.is_local(&id),
            in_use: used.contains(&id),
            since: one.since,
            last: one.last,
            id,
        };
        uses.into_iter().map(candidate).collect()
    }

    /// Drops the image unless somebody has begun to use it, or to name it, meanwhile; the names that it had.
    fn drop_unused(&self, image: &Candidate) -> Result<Option<Vec<String>>, Error> {
        let mut state = self.state.lock();
        let id = &image.id;
        let used = self
            .snapshots
            .records()
            .into_values()
            .any(|record| record.image == *id);
        let changed = state.is_nameless(id) != image.dangling || state.is_local(id) != image.local;
        let again = self.uses.last(id) != Some(image.last);
        if used || changed || again || state.busy > 0 {
            return Ok(None);
        }
        let mut removed = Vec::new();
        state.drop_image(id, &mut removed);
        self.write(&mut state)?;
        let names = removed.into_iter().filter_map(|one| match one {
            Removed::Untagged(name) => Some(name),
            Removed::Deleted(_) => None,
        });
        Ok(Some(names.collect()))
    }
}

impl State {
    /// Neither a tag nor a digest of a registry.
    fn is_nameless(&self, id: &str) -> bool {
        !self.index.tags.values().any(|tag| tag.id == id)
            && !self.index.digests.values().any(|image| image == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn image(id: &str, last: i64) -> Candidate {
        Candidate {
            id: id.into(),
            dangling: false,
            local: false,
            in_use: false,
            since: at(0),
            last: at(last),
        }
    }

    #[test]
    fn what_can_be_had_again_goes_the_longest_unused_first() {
        let images = vec![
            image("new", 900),
            image("old", 100),
            Candidate {
                local: true,
                ..image("built", 1)
            },
            Candidate {
                in_use: true,
                ..image("running", 1)
            },
            Candidate {
                dangling: true,
                local: true,
                ..image("replaced", 500)
            },
            Candidate {
                since: at(950),
                ..image("just-pulled", 100)
            },
            image("just-used", 950),
            Candidate {
                since: at(50),
                ..image("alike", 100)
            },
            image("of-tomorrow", 90_000),
        ];
        let ids = |age_s| {
            let sorted = order(images.clone(), Duration::from_secs(age_s), at(1000));
            let ids: Vec<String> = sorted.into_iter().map(|image| image.id).collect();
            ids.join(" ")
        };
        assert_eq!(ids(100), "replaced old alike new");
        assert_eq!(ids(0), "replaced old alike just-pulled new just-used");
        assert_eq!(ids(5000), "");
    }
}
