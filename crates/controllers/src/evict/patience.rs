//! How long a pod bears a node's taints. Pure.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Taint, Toleration};

/// How long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    None,
    For(SignedDuration),
    Endless,
}

/// Of a pod with these tolerations. Of several that are used the shortest counts.
pub fn patience(taints: &[Taint], tolerations: &[Toleration]) -> Patience {
    let mut used = Vec::new();
    for taint in taints {
        let bearing = tolerations
            .iter()
            .find(|toleration| bears(toleration, taint));
        match bearing {
            Some(toleration) => used.push(toleration.toleration_seconds),
            None => return Patience::None,
        }
    }
    let shortest = used.into_iter().flatten().min();
    match shortest {
        None => Patience::Endless,
        Some(seconds) if seconds <= 0 => Patience::None,
        Some(seconds) => Patience::For(SignedDuration::from_secs(seconds)),
    }
}

fn bears(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let number = |text: &Option<String>| text.as_ref()?.parse::<i64>().ok();
    given(&toleration.effect).is_none_or(|effect| effect == taint.effect)
        && given(&toleration.key).is_none_or(|key| key == taint.key)
        && match toleration.operator.as_deref() {
            None | Some("" | "Equal") => given(&toleration.value) == given(&taint.value),
            Some("Exists") => true,
            Some(operator @ ("Lt" | "Gt")) => {
                match (number(&taint.value), number(&toleration.value)) {
                    (Some(theirs), Some(mine)) if operator == "Lt" => theirs < mine,
                    (Some(theirs), Some(mine)) => theirs > mine,
                    _ => false,
                }
            }
            Some(_) => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_shortest_patience_counts_and_every_taint_must_be_borne() {
        let taints = json!([
            {"key": "a", "value": "1", "effect": "NoExecute"}, {"key": "b", "effect": "NoExecute"},
        ]);
        let bear = |key: &str, seconds: Value| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let seconds = |n| Patience::For(SignedDuration::from_secs(n));
        let table = [
            (json!([]), Patience::None),
            (json!([bear("a", json!(null))]), Patience::None),
            (
                json!([bear("a", json!(null)), bear("b", json!(null))]),
                Patience::Endless,
            ),
            (
                json!([bear("a", json!(60)), bear("b", json!(30))]),
                seconds(30),
            ),
            (
                json!([bear("a", json!(60)), bear("b", json!(null))]),
                seconds(60),
            ),
            (
                json!([bear("a", json!(0)), bear("b", json!(30))]),
                Patience::None,
            ),
            (json!([{"operator": "Exists"}]), Patience::Endless),
            (
                json!([{"key": "a", "value": "2", "effect": "NoExecute"}, bear("b", json!(null))]),
                Patience::None,
            ),
            (
                json!([{"operator": "Exists", "effect": "NoSchedule"}]),
                Patience::None,
            ),
        ];
        let taints: Vec<Taint> = serde_json::from_value(taints).expect("taints");
        for (given, expected) in table {
            let tolerations: Vec<Toleration> =
                serde_json::from_value(given.clone()).expect("tolerations");
            assert_eq!(patience(&taints, &tolerations), expected, "{given}");
        }
        assert_eq!(patience(&[], &[]), Patience::Endless);
    }
}
