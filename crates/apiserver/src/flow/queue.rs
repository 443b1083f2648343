//! Who runs next: a pure decision over counts.

use std::collections::{HashMap, VecDeque};

/// How many may run and wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub running_max: usize,
    pub running_per_user_max: usize,
    pub waiting_per_user_max: usize,
    pub waiting_max: usize,
}

/// What becomes of a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It runs, and is counted.
    Run,
    /// The caller says by [`Queue::wait`] how it is to be woken.
    Wait,
    Refuse,
}

/// The requests of one lane: counts of those that run, and those that wait, by user.
pub(super) struct Queue<W> {
    bounds: Bounds,
    running: usize,
    waiting: usize,
    users: HashMap<String, User<W>>,
    /// Goes up with each request that is let run.
    turn: u64,
}

struct User<W> {
    running: usize,
    waiting: VecDeque<W>,
    /// The turn in which one of theirs was last let run.
    served: u64,
}

impl<W> Queue<W> {
    pub fn new(bounds: Bounds) -> Self {
        Queue {
            bounds,
            running: 0,
            waiting: 0,
            users: HashMap::new(),
            turn: 0,
        }
    }

    /// Decides about a request of `user`.
    pub fn arrive(&mut self, user: &str) -> Arrival {
        let (running, waiting) = self
            .users
            .get(user)
            .map_or((0, 0), |user| (user.running, user.waiting.len()));
        let room =
            self.running < self.bounds.running_max && running < self.bounds.running_per_user_max;
        if room && waiting == 0 {
            self.run(user);
            Arrival::Run
        } else if waiting < self.bounds.waiting_per_user_max
            && self.waiting < self.bounds.waiting_max
        {
            Arrival::Wait
        } else {
            Arrival::Refuse
        }
    }

    /// Puts a request behind the others of its user.
    pub fn wait(&mut self, user: &str, waker: W) {
        self.waiting += 1;
        self.user(user).waiting.push_back(waker);
    }

    /// A request of `user` has ended. Gives the next that runs: of the user who has the fewest running, and of those
    /// the one who has waited longest for a turn.
    pub fn leave(&mut self, user: &str) -> Option<(String, W)> {
        self.running = self.running.saturating_sub(1);
        if let Some(user) = self.users.get_mut(user) {
            user.running = user.running.saturating_sub(1);
        }
        let next = self
            .users
            .iter()
            .filter(|(_, user)| {
                !user.waiting.is_empty() && user.running < self.bounds.running_per_user_max
            })
            .min_by_key(|(_, user)| (user.running, user.served))
            .map(|(name, _)| name.clone());
        let found = next.and_then(|name| {
            let waker = self.users.get_mut(&name)?.waiting.pop_front()?;
            self.waiting -= 1;
            self.run(&name);
            Some((name, waker))
        });
        // Users without requests are forgotten: the map is as large as what is in flight.
        if self
            .users
            .get(user)
            .is_some_and(|user| user.running == 0 && user.waiting.is_empty())
        {
            self.users.remove(user);
        }
        found
    }

    fn run(&mut self, user: &str) {
        self.running += 1;
        self.turn += 1;
        let turn = self.turn;
        let user = self.user(user);
        user.running += 1;
        user.served = turn;
    }

    fn user(&mut self, name: &str) -> &mut User<W> {
        self.users.entry(name.to_owned()).or_insert_with(|| User {
            running: 0,
            waiting: VecDeque::new(),
            served: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        running_max: 4,
        running_per_user_max: 3,
        waiting_per_user_max: 2,
        waiting_max: 3,
    };

    fn arrive(queue: &mut Queue<u32>, user: &str, number: u32) -> Arrival {
        let arrival = queue.arrive(user);
        if arrival == Arrival::Wait {
            queue.wait(user, number);
        }
        arrival
    }

    #[test]
    fn bounds_hold() {
        let mut queue = Queue::new(BOUNDS);
        let mut of = |user: &str| arrive(&mut queue, user, 0);
        assert_eq!([of("a"), of("a"), of("a")], [Arrival::Run; 3]);
        assert_eq!([of("a"), of("a")], [Arrival::Wait; 2], "three of four");
        assert_eq!(of("a"), Arrival::Refuse, "two wait");
        assert_eq!(of("b"), Arrival::Run, "the fourth is another's");
        assert_eq!(of("b"), Arrival::Wait);
        assert_eq!(of("c"), Arrival::Refuse, "three wait in all");
    }

    #[test]
    fn who_has_least_comes_first() {
        let mut queue = Queue::new(Bounds {
            waiting_per_user_max: 9,
            waiting_max: 9,
            ..BOUNDS
        });
        for number in 0..6 {
            arrive(&mut queue, "a", number);
        }
        arrive(&mut queue, "b", 10);
        arrive(&mut queue, "b", 11);
        arrive(&mut queue, "c", 20);
        // a runs three, b one; waiting are three of a, one of b, one of c.
        let order: Vec<_> = ["a", "a", "b", "a", "c"]
            .iter()
            .map(|user| queue.leave(user).map(|(_, number)| number))
            .collect();
        // c has none; then a and b have one each, and a had its last turn before b; then b has none.
        assert_eq!(order, [Some(20), Some(3), Some(11), Some(4), Some(5)]);
        assert_eq!((queue.running, queue.waiting), (4, 0));
    }

    #[test]
    fn nobody_is_remembered_when_all_have_gone() {
        let mut queue = Queue::new(BOUNDS);
        for user in ["a", "b", "c"] {
            assert_eq!(arrive(&mut queue, user, 0), Arrival::Run);
        }
        for user in ["a", "b", "c"] {
            assert!(queue.leave(user).is_none());
        }
        assert_eq!((queue.running, queue.users.len()), (0, 0));
    }

    proptest::proptest! {
        /// Whatever comes and goes: bounds hold, and nobody waits while they could run.
        #[test]
        fn no_order_breaks_the_bounds(steps in proptest::collection::vec((0u8..4, proptest::bool::ANY), 1..200)) {
            let mut queue = Queue::new(BOUNDS);
            let mut running: Vec<String> = Vec::new();
            for (number, (user, comes)) in steps.into_iter().enumerate() {
                let name = format!("user-{user}");
                if comes {
                    if arrive(&mut queue, &name, number as u32) == Arrival::Run {
                        running.push(name);
                    }
                } else if let Some(at) = running.iter().position(|r| *r == name) {
                    running.remove(at);
                    running.extend(queue.leave(&name).map(|(user, _)| user));
                }
                proptest::prop_assert_eq!(queue.running, running.len());
                proptest::prop_assert!(queue.running <= BOUNDS.running_max);
                proptest::prop_assert!(queue.waiting <= BOUNDS.waiting_max);
                for user in queue.users.values() {
                    let free = queue.running < BOUNDS.running_max
                        && user.running < BOUNDS.running_per_user_max;
                    proptest::prop_assert!(!free || user.waiting.is_empty());
                }
            }
        }
    }
}
