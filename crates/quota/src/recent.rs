//! Charges of late: what is charged is not stored yet, and whoever counts what is stored must not take it back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::{Amounts, Quantity, add};

/// What a quota was charged within some time, by what its status said.
#[derive(Clone, Debug)]
pub struct Recent {
    within: Duration,
    /// What the status said last.
    used: Amounts,
    charged: VecDeque<(Instant, Amounts)>,
}

impl Recent {
    /// Of a quota that is seen for the first time: all that is used may have been charged in this moment.
    pub fn new(used: Amounts, within: Duration, now: Instant) -> Self {
        Self {
            within,
            charged: [(now, used.clone())].into(),
            used,
        }
    }

    /// The status says so now; what is more than before was charged.
    pub fn see(&mut self, used: Amounts, now: Instant) {
        let mut more = used.clone();
        more.retain(|name, amount| {
            *amount -= self.used.get(name).copied().unwrap_or(Quantity::ZERO);
            amount.sign() > 0
        });
        if !more.is_empty() {
            self.charged.push_back((now, more));
        }
        self.used = used;
    }

    /// The status was written so by whoever counts, which is no charge.
    pub fn wrote(&mut self, used: Amounts) {
        self.used = used;
    }

    /// What the status should say when so much was counted: no less than that, and where it is less than what the status says,
    /// with the charges of late. And whether there were any, so that it is to be counted again.
    pub fn settled(&mut self, mut counted: Amounts, now: Instant) -> (Amounts, bool) {
        let late = |(at, _): &(Instant, Amounts)| now.duration_since(*at) >= self.within;
        while self.charged.front().is_some_and(late) {
            self.charged.pop_front();
        }
        let mut recent = Amounts::new();
        for (_, amounts) in &self.charged {
            add(&mut recent, amounts);
        }
        for (name, amount) in &mut counted {
            if let Some(said) = self.used.get(name).filter(|said| *said > amount) {
                let charged = recent.get(name).copied().unwrap_or(Quantity::ZERO);
                *amount = (*amount + charged).min(*said);
            }
        }
        (counted, !self.charged.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_millis(500);

    fn pods(count: i64) -> Amounts {
        let count = Quantity::from_value(count, crate::quantity::Format::Decimal);
        [("pods".to_owned(), count)].into()
    }

    #[test]
    fn charges_of_late_are_not_taken_back() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut recent = Recent::new(pods(5), WITHIN, start);
        assert_eq!(recent.settled(pods(3), at(100)), (pods(5), true));
        assert_eq!(recent.settled(pods(3), at(499)), (pods(5), true));
        assert_eq!(recent.settled(pods(3), at(500)), (pods(3), false));
        recent.wrote(pods(3));
        // two more were charged, one of them is stored
        recent.see(pods(5), at(600));
        assert_eq!(recent.settled(pods(4), at(700)), (pods(5), true));
        assert_eq!(recent.settled(pods(3), at(700)), (pods(5), true));
        assert_eq!(recent.settled(pods(2), at(700)), (pods(4), true));
        assert_eq!(recent.settled(pods(6), at(700)), (pods(6), true));
        // the same version again is no charge
        recent.see(pods(5), at(1000));
        assert_eq!(recent.settled(pods(4), at(1100)), (pods(4), false));
    }

    /// Three a second that live for two seconds, in a quota that is never left alone for half a second.
    #[test]
    fn steady_work_does_not_fill_a_quota() {
        let start = Instant::now();
        let mut recent = Recent::new(pods(0), WITHIN, start);
        let (mut said, mut most) = (0, 0);
        for n in 0..300_i64 {
            let now = start + Duration::from_millis(333) * u32::try_from(n).expect("small");
            // what the API server charges
            said += 1;
            recent.see(pods(said), now);
            let stored = n.min(6);
            let (used, _) = recent.settled(pods(stored), now);
            said = used["pods"].value();
            recent.wrote(used);
            most = most.max(said);
        }
        assert!((6..=9).contains(&most), "{most}");
    }
}
