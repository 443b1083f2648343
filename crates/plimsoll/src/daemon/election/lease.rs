//! What is to be done about a lease. Pure, but for the time that is written into it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// Of a lease that does not say.
const DURATION: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none.
    Create,
    /// It is free, or its holder has not renewed it in time.
    Take,
    /// It is one's own.
    Renew,
    /// Somebody else holds it.
    Wait,
}

/// `unchanged_for`: how long this process has seen the lease as it is. Clocks of others are not compared with.
pub fn step(identity: &str, spec: Option<&LeaseSpec>, unchanged_for: Duration) -> Step {
    let Some(spec) = spec else {
        return Step::Create;
    };
    match spec.holder_identity.as_deref().unwrap_or_default() {
        "" => Step::Take,
        holder if holder == identity => Step::Renew,
        _ if unchanged_for >= duration(spec) => Step::Take,
        _ => Step::Wait,
    }
}

fn duration(spec: &LeaseSpec) -> Duration {
    spec.lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(DURATION, Duration::from_secs)
}

/// The lease as it is to be written.
pub fn next(
    found: Option<Lease>,
    name: &str,
    identity: &str,
    duration: Duration,
    step: Step,
) -> Lease {
    let now = Some(MicroTime(Timestamp::now()));
    let mut lease = found.unwrap_or_default();
    lease.metadata.name = Some(name.to_owned());
    let before = lease.spec.take().unwrap_or_default();
    let renewing = step == Step::Renew;
    let transitions = before.lease_transitions.unwrap_or_default();
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(duration.as_secs().max(1)).ok(),
        acquire_time: if renewing {
            before.acquire_time
        } else {
            now.clone()
        },
        renew_time: now,
        lease_transitions: Some(match step {
            Step::Take => transitions.saturating_add(1),
            _ => transitions,
        }),
        preferred_holder: before.preferred_holder,
        strategy: before.strategy,
    });
    lease
}

/// The lease without a holder, as upstream's client leaves it.
pub fn released(mut held: Lease) -> Lease {
    if let Some(spec) = &mut held.spec {
        let now = MicroTime(Timestamp::now());
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(now.clone());
        spec.acquire_time = Some(now);
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, seconds: Option<i32>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: seconds,
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_respected_as_long_as_it_lasts() {
        let cases = [
            (None, 0, Step::Create),
            (Some(LeaseSpec::default()), 0, Step::Take),
            (Some(held_by("", Some(15))), 0, Step::Take),
            (Some(held_by("me", Some(15))), 100, Step::Renew),
            (Some(held_by("other", Some(15))), 14, Step::Wait),
            (Some(held_by("other", Some(15))), 15, Step::Take),
            (Some(held_by("other", Some(60))), 15, Step::Wait),
            (Some(held_by("other", None)), 14, Step::Wait),
            (Some(held_by("other", None)), 15, Step::Take),
            (Some(held_by("other", Some(-1))), 14, Step::Wait),
        ];
        for (spec, seconds, expected) in cases {
            let found = step("me", spec.as_ref(), Duration::from_secs(seconds));
            assert_eq!(found, expected, "{spec:?} after {seconds} s");
        }
    }

    #[test]
    fn only_a_change_of_holders_is_a_transition() {
        let lease = |spec| Lease {
            spec: Some(spec),
            ..Lease::default()
        };
        let made = next(None, "l", "me", Duration::from_secs(15), Step::Create);
        let spec = made.spec.clone().expect("a spec");
        assert_eq!(made.metadata.name.as_deref(), Some("l"));
        assert_eq!(spec.lease_transitions, Some(0));
        assert_eq!(spec.lease_duration_seconds, Some(15));
        let renewed = next(Some(made), "l", "me", Duration::from_secs(15), Step::Renew);
        let again = renewed.spec.expect("a spec");
        assert_eq!(again.acquire_time, spec.acquire_time);
        assert_eq!(again.lease_transitions, Some(0));
        let other = lease(held_by("other", Some(15)));
        let taken = next(Some(other), "l", "me", Duration::from_secs(15), Step::Take);
        assert_eq!(
            taken.spec.clone().expect("a spec").lease_transitions,
            Some(4)
        );
        let free = released(taken).spec.expect("a spec");
        assert_eq!(step("other", Some(&free), Duration::ZERO), Step::Take);
    }
}
