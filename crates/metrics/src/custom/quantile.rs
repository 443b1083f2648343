//! A quantile from the buckets of a histogram.
//!
//! Source followed: `bucketQuantile` of Prometheus' `promql/quantile.go` (linear within a bucket, from zero below the first,
//! the highest finite bound for what lies above it, counts made monotonic).

/// The quantile `q` (0 to 1) of buckets given as (upper bound, count of what is at most that), in any order. None without an
/// infinite bucket, with fewer than two, or when nothing was observed.
pub fn quantile(q: f64, mut buckets: Vec<(f64, f64)>) -> Option<f64> {
    buckets.retain(|(bound, count)| !bound.is_nan() && count.is_finite());
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    let mut highest: f64 = 0.0;
    for (_, count) in &mut buckets {
        highest = highest.max(*count);
        *count = highest;
    }
    let (last, observed) = *buckets.last()?;
    if last != f64::INFINITY || buckets.len() < 2 || observed <= 0.0 {
        return None;
    }
    let rank = q.clamp(0.0, 1.0) * observed;
    let place = buckets
        .iter()
        .position(|(_, count)| *count >= rank)
        .unwrap_or(buckets.len() - 1);
    if place == buckets.len() - 1 {
        return Some(buckets[place - 1].0).filter(|bound| bound.is_finite());
    }
    let (end, count) = buckets[place];
    if place == 0 && end <= 0.0 {
        return Some(end).filter(|bound| bound.is_finite());
    }
    let (start, below) = if place == 0 {
        (0.0, 0.0)
    } else {
        buckets[place - 1]
    };
    let within = count - below;
    let share = if within > 0.0 {
        (rank - below) / within
    } else {
        0.0
    };
    Some(start + (end - start) * share).filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INF: f64 = f64::INFINITY;

    #[test]
    fn as_prometheus_computes_them() {
        let usual = [(0.1, 50.0), (0.5, 90.0), (1.0, 100.0), (INF, 100.0)];
        for (q, buckets, wanted) in [
            (0.5, &usual[..], Some(0.1)),
            (0.25, &usual, Some(0.05)),
            (0.7, &usual, Some(0.3)),
            (0.95, &usual, Some(0.75)),
            (1.0, &usual, Some(1.0)),
            (0.0, &usual, Some(0.0)),
            // above every finite bound
            (0.9, &[(1.0, 1.0), (INF, 10.0)], Some(1.0)),
            // a bound below zero is not interpolated from zero
            (0.5, &[(-1.0, 4.0), (INF, 4.0)], Some(-1.0)),
            // counts that fall are lies or races
            (0.5, &[(1.0, 4.0), (2.0, 3.0), (INF, 4.0)], Some(0.5)),
            (0.5, &[(1.0, 4.0)], None),
            (0.5, &[(INF, 4.0)], None),
            (0.5, &[(1.0, 0.0), (INF, 0.0)], None),
            (0.5, &[], None),
            // the same bound written twice, as of two pods
            (0.5, &[(1.0, 2.0), (1.0, 2.0), (INF, 4.0)], Some(0.5)),
        ] {
            let mut turned = buckets.to_vec();
            turned.reverse();
            for buckets in [buckets.to_vec(), turned] {
                let told = quantile(q, buckets.clone());
                let near = match (told, wanted) {
                    (Some(told), Some(wanted)) => (told - wanted).abs() < 1e-9,
                    (told, wanted) => told == wanted,
                };
                assert!(
                    near,
                    "{told:?} instead of {wanted:?} for {q} of {buckets:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn within_the_bounds_and_monotonic(
            buckets in proptest::collection::vec((any::<f64>(), any::<f64>()), 0..20), low in 0.0f64..1.0, high in 0.0f64..1.0,
        ) {
            let mut buckets = buckets;
            buckets.push((INF, 1e9));
            let told = |q| quantile(q, buckets.clone());
            if let (Some(a), Some(b)) = (told(low.min(high)), told(low.max(high))) {
                prop_assert!(a.is_finite() && b.is_finite());
                prop_assert!(a <= b || (a - b).abs() <= a.abs() * 1e-9, "{a} {b}");
            }
        }
    }
}
