//! Table and property tests of the rollout arithmetic.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn goal(replicas: i32, max_surge: i32, max_unavailable: i32) -> Goal {
    Goal {
        replicas,
        max_surge,
        max_unavailable,
        rolling: true,
    }
}

fn set(name: &str, replicas: i32, available: i32, age: i64) -> Set {
    Set {
        name: name.to_owned(),
        replicas,
        available,
        created: Timestamp::from_second(1_000_000 - age).unwrap(),
        max_replicas: None,
    }
}

fn sizes(resizes: &[Resize]) -> Vec<(&str, i32)> {
    resizes
        .iter()
        .map(|resize| (resize.name.as_str(), resize.replicas))
        .collect()
}

#[test]
fn surge_rounds_up_and_unavailability_down() {
    // replicas, maxSurge, maxUnavailable → surge, unavailable
    let table: [(i32, Value, Value, i32, i32); 9] = [
        (10, json!("25%"), json!("25%"), 3, 2),
        (3, json!("25%"), json!("25%"), 1, 0),
        (1, json!("25%"), json!("25%"), 1, 0),
        (4, json!(0), json!(0), 0, 1),
        (4, json!(0), json!("10%"), 0, 1),
        (4, json!(2), json!(9), 2, 4),
        (0, json!(1), json!(1), 1, 0),
        (10, json!("100%"), json!("100%"), 10, 10),
        (10, json!("nonsense"), json!("-5%"), 0, 1),
    ];
    for (replicas, surge, unavailable, expect_surge, expect_unavailable) in table {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {
                "replicas": replicas, "selector": {}, "template": {},
                "strategy": {"type": "RollingUpdate",
                             "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            },
        }))
        .unwrap();
        let read = Goal::of(&deployment);
        assert_eq!(
            (read.max_surge, read.max_unavailable),
            (expect_surge, expect_unavailable),
            "{replicas} {surge} {unavailable}"
        );
    }
}

#[test]
fn the_new_set_grows_into_the_surge() {
    // replicas, surge, current, total → size
    let table = [
        (10, 3, 0, 10, 3),
        (10, 3, 3, 13, 3),
        (10, 0, 0, 10, 0),
        (10, 0, 0, 8, 2),
        (10, 20, 0, 10, 10),
        (3, 1, 5, 5, 3),
        (3, 1, 3, 3, 3),
    ];
    for (replicas, surge, current, total, size) in table {
        assert_eq!(
            new_set_size(&goal(replicas, surge, 0), current, total),
            size,
            "{replicas} +{surge}: {current} of {total}"
        );
    }
    let recreate = Goal {
        rolling: false,
        ..goal(5, 0, 0)
    };
    assert_eq!(new_set_size(&recreate, 0, 5), 5);
}

#[test]
fn old_sets_shrink_unhealthy_first_then_oldest() {
    let g = goal(10, 3, 2);
    let new = set("new", 3, 0, 0);
    // 13 replicas, 8 must stay, 3 new ones not yet there: two old ones may go.
    assert_eq!(
        sizes(&shrink_old(&g, &new, &[set("old", 10, 10, 9)])),
        [("old", 8)]
    );
    // Two of the old ones are not available: they go, and no available one can be missed.
    assert_eq!(
        sizes(&shrink_old(&g, &new, &[set("old", 10, 8, 9)])),
        [("old", 8)]
    );
    // More are not available, but the new ones are not there yet: no more than two may go.
    assert_eq!(
        sizes(&shrink_old(&g, &new, &[set("old", 10, 5, 9)])),
        [("old", 8)]
    );
    // Without surge, what the new set still lacks is all that may be missing.
    let tight = goal(10, 0, 2);
    assert!(shrink_old(&tight, &set("new", 2, 0, 0), &[set("old", 8, 6, 9)]).is_empty());
    // The unhealthy set first, although younger.
    let old = [set("older", 5, 5, 9), set("sick", 5, 3, 5)];
    assert_eq!(sizes(&shrink_old(&g, &new, &old)), [("sick", 3)]);
    // Everything new is available: all old ones go.
    let done = set("new", 10, 10, 0);
    assert_eq!(
        sizes(&shrink_old(
            &g,
            &done,
            &[set("a", 2, 2, 9), set("b", 1, 1, 5)]
        )),
        [("a", 0), ("b", 0)]
    );
    assert!(shrink_old(&g, &done, &[set("a", 0, 0, 9)]).is_empty());
}

#[test]
fn a_change_of_size_is_spread_in_proportion() {
    let with_max = |mut set: Set, max| {
        set.max_replicas = Some(max);
        set
    };
    // Upstream's documented example: 10 replicas + 3 surge, 8 old and 5 new, scaled to 15.
    let sets = [
        with_max(set("old", 8, 8, 9), 13),
        with_max(set("new", 5, 0, 1), 13),
    ];
    let up = spread(&goal(15, 3, 2), 13, &sets);
    assert_eq!(sizes(&up), [("old", 11), ("new", 7)]);
    let down = spread(&goal(5, 2, 1), 13, &sets);
    assert_eq!(down.iter().map(|resize| resize.replicas).sum::<i32>(), 7);
    assert_eq!(sizes(&down), [("old", 4), ("new", 3)]);
    let zero = spread(&goal(0, 1, 0), 13, &sets);
    assert_eq!(sizes(&zero), [("old", 0), ("new", 0)]);
    assert!(spread(&goal(3, 1, 0), 0, &[]).is_empty());
}

proptest! {
    /// Plays rollouts in which pods become available and fail at random: never more replicas than allowed, never
    /// fewer available ones because of us, and it ends when all new pods are available.
    #[test]
    fn a_rollout_keeps_its_promises(
        replicas in 1..30_i32,
        surge in 0..10_i32,
        unavailable in 0..10_i32,
        luck in proptest::collection::vec(0..4_u8, 200),
    ) {
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable }.min(replicas);
        let g = goal(replicas, surge, unavailable);
        let mut new = set("new", 0, 0, 0);
        let mut old = vec![set("older", replicas / 2, replicas / 2, 9), set("old", replicas - replicas / 2, replicas - replicas / 2, 5)];
        let mut luck = luck.into_iter();
        for _ in 0..2000 {
            let total = new.replicas + old.iter().map(|set| set.replicas).sum::<i32>();
            let size = new_set_size(&g, new.replicas, total);
            if size == new.replicas {
                let healthy = new.available + old.iter().map(|set| set.available).sum::<i32>();
                for resize in shrink_old(&g, &new, &old) {
                    let shrunk = old.iter_mut().find(|set| set.name == resize.name).unwrap();
                    prop_assert!(resize.replicas >= 0 && resize.replicas < shrunk.replicas);
                    // The ReplicaSet controller deletes unready pods first.
                    shrunk.replicas = resize.replicas;
                    shrunk.available = shrunk.available.min(resize.replicas);
                }
                let left = new.available + old.iter().map(|set| set.available).sum::<i32>();
                prop_assert!(left >= g.min_available().min(healthy), "{left} of {g:?} (was {healthy})");
            } else {
                new.replicas = size;
            }
            let total = new.replicas + old.iter().map(|set| set.replicas).sum::<i32>();
            prop_assert!(total <= g.max_total(), "{total} of {g:?}");
            match luck.next() {
                Some(0) => old[0].available = (old[0].available - 1).max(0),
                Some(1) => new.available = (new.available - 1).max(0),
                _ => new.available = (new.available + 1).min(new.replicas),
            }
        }
        prop_assert_eq!(new.replicas, replicas);
        prop_assert!(old.iter().all(|set| set.replicas == 0));
    }

    /// A change of size gives exactly what is allowed, never a negative size.
    #[test]
    fn spreading_adds_up(
        replicas in 0..50_i32,
        surge in 0..10_i32,
        counts in proptest::collection::vec((1..20_i32, 1..60_i32), 1..5),
    ) {
        let sets: Vec<Set> = counts
            .iter()
            .enumerate()
            .map(|(n, (count, max))| Set { max_replicas: Some(*max), ..set(&format!("s{n}"), *count, *count, n as i64) })
            .collect();
        let g = goal(replicas, surge, 0);
        let sizes = spread(&g, 10, &sets);
        prop_assert!(sizes.iter().all(|resize| resize.replicas >= 0));
        let total: i32 = sizes.iter().map(|resize| resize.replicas).sum();
        let allowed = if replicas == 0 { 0 } else { replicas + surge };
        prop_assert!(total >= allowed, "{total} < {allowed}");
        let grown = allowed >= counts.iter().map(|(count, _)| count).sum();
        if grown {
            prop_assert_eq!(total, allowed);
        }
    }
}
