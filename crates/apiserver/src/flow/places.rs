//! Places for what lasts: watches; logs, exec, attach and port-forward; the bytes of answers that are not yet sent. So
//! many in all and so many a user.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::too_many;
use crate::meter::Lasting;
use crate::status::ApiError;

/// The places for one sort of lasting request.
pub(crate) struct Places {
    max: usize,
    per_user_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    users: HashMap<String, usize>,
}

/// One place or several; free again when dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    user: String,
    count: usize,
    /// Counted as open as long as the place is taken.
    _lasting: Option<Lasting>,
}

impl Place {
    /// Whatever this request is counted by, it is so until the place is free again.
    #[must_use]
    pub fn held_with(mut self, lasting: Option<Lasting>) -> Self {
        self._lasting = lasting;
        self
    }
}

impl Places {
    pub fn new(max: usize, per_user_max: usize) -> Arc<Self> {
        Arc::new(Places {
            max,
            per_user_max,
            taken: Mutex::new(Taken::default()),
        })
    }

    /// A place for `user`; 429 when they or all have too many. Roles inside this process are counted, and only the
    /// bound on all holds for them (`role`).
    pub fn take(self: &Arc<Self>, user: &str, role: bool) -> Result<Place, ApiError> {
        let mut taken = self.taken.lock();
        let of_user = taken.users.get(user).copied().unwrap_or(0);
        if taken.all >= self.max || (!role && of_user >= self.per_user_max) {
            return Err(too_many());
        }
        Ok(self.given(&mut taken, user, 1))
    }

    /// So many places at once. Who has none gets them however many they are: one answer may be longer than all that
    /// should be unread.
    pub fn take_some(self: &Arc<Self>, user: &str, count: usize) -> Result<Place, ApiError> {
        let mut taken = self.taken.lock();
        let of_user = taken.users.get(user).copied().unwrap_or(0);
        let fits = |has: usize, max: usize| has == 0 || has.saturating_add(count) <= max;
        if !fits(taken.all, self.max) || !fits(of_user, self.per_user_max) {
            return Err(too_many());
        }
        Ok(self.given(&mut taken, user, count))
    }

    /// So many places, whether they are there or not: nobody else gets one before they are free again.
    pub fn take_beyond(self: &Arc<Self>, user: &str, count: usize) -> Place {
        self.given(&mut self.taken.lock(), user, count)
    }

    fn given(self: &Arc<Self>, taken: &mut Taken, user: &str, count: usize) -> Place {
        taken.all += count;
        *taken.users.entry(user.to_owned()).or_insert(0) += count;
        Place {
            places: self.clone(),
            user: user.to_owned(),
            count,
            _lasting: None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all = taken.all.saturating_sub(self.count);
        if let Some(of_user) = taken.users.get_mut(&self.user) {
            *of_user = of_user.saturating_sub(self.count);
            if *of_user == 0 {
                taken.users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_by_user_and_come_back() {
        let places = Places::new(4, 2);
        let take = |user: &str, role| places.take(user, role).map_err(|error| error.code);
        let first = take("a", false);
        let second = take("a", false);
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(take("a", false).err(), Some(429), "two a user");
        let role = take("a", true);
        assert!(role.is_ok(), "roles are not bounded by user");
        let other = take("b", false);
        assert!(other.is_ok());
        assert_eq!(take("c", false).err(), Some(429), "four in all");
        drop(first);
        assert_eq!(take("a", false).err(), Some(429), "a has two still");
        assert!(take("c", false).is_ok());
        drop((second, role, other));
        assert!(places.taken.lock().users.is_empty());
    }

    #[test]
    fn several_at_once() {
        let bytes = Places::new(100, 60);
        let take = |user: &str, count| bytes.take_some(user, count).map_err(|error| error.code);
        let large = take("a", 90);
        assert!(large.is_ok(), "the first may be as long as it is");
        assert_eq!(
            take("a", 1).err(),
            Some(429),
            "it leaves no room for a second"
        );
        let other = take("b", 10);
        assert!(other.is_ok());
        assert_eq!(take("c", 1).err(), Some(429), "all is taken");
        let beyond = bytes.take_beyond("a", 50);
        drop(large);
        assert_eq!(take("a", 20).err(), Some(429), "what is beyond counts");
        drop(beyond);
        assert!(take("a", 60).is_ok());
        drop(other);
        assert_eq!(bytes.taken.lock().all, 0);
    }
}
