//! What a LimitRange says, in upstream's words. Pure.

use quota::pod::{Part, total};
use quota::{Amounts, Quantity, amounts};
use serde_json::{Value, json};

use crate::object::{items, text};

/// Tells whoever reads the pod where its amounts are from.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Gives every container the amounts that it does not have itself.
pub(super) fn complete(range: &Value, pod: &mut Value) {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for item in items(range, &["spec", "limits"]) {
        if item["type"] == "Container" {
            requests.extend(amounts(&item["defaultRequest"]));
            limits.extend(amounts(&item["default"]));
        }
    }
    if requests.is_empty() && limits.is_empty() {
        return;
    }
    let mut told = Vec::new();
    for (list, what) in [
        ("containers", "container"),
        ("initContainers", "init container"),
    ] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = text(container, &["name"]).to_owned();
            for (part, defaults, word) in [
                ("requests", &requests, "request"),
                ("limits", &limits, "limit"),
            ] {
                let set = fill(&mut container["resources"], part, defaults);
                if !set.is_empty() {
                    told.push(format!("{} {word} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !told.is_empty() {
        let annotations = &mut pod["metadata"]["annotations"];
        if !annotations.is_object() {
            *annotations = json!({});
        }
        let told = format!("LimitRanger plugin set: {}", told.join("; "));
        annotations[ANNOTATION] = told.into();
    }
}

/// Sets what is missing; returns the names of what was set.
fn fill(resources: &mut Value, part: &str, defaults: &Amounts) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults {
        if !resources.is_object() {
            *resources = json!({});
        }
        if !resources[part].is_object() {
            resources[part] = json!({});
        }
        if resources[part].get(name).is_none() {
            resources[part][name.as_str()] = amount.to_string().into();
            set.push(name.clone());
        }
    }
    set
}

/// What the containers of a pod, and the pod as a whole, ask for.
pub(super) fn sizes(spec: &Value) -> Vec<&Value> {
    let containers = items(spec, &["containers"]).iter();
    let all = containers.chain(items(spec, &["initContainers"]));
    all.chain([spec]).map(|one| &one["resources"]).collect()
}

/// What is wrong with a pod's containers, and with the pod as a whole.
pub(super) fn of_pod(range: &Value, spec: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for item in items(range, &["spec", "limits"]) {
        match text(item, &["type"]) {
            "Container" => {
                let containers = items(spec, &["containers"]).iter();
                for container in containers.chain(items(spec, &["initContainers"])) {
                    let resources = &container["resources"];
                    let requests = amounts(&resources["requests"]);
                    bounds(item, &requests, &amounts(&resources["limits"]), &mut wrong);
                }
            }
            "Pod" => {
                let requests = total(spec, Part::Requests);
                bounds(item, &requests, &total(spec, Part::Limits), &mut wrong);
            }
            _ => {}
        }
    }
    wrong
}

/// What is wrong with what a claim asks for. What it had before is not looked at again.
pub(super) fn of_claim(range: &Value, new: &Value, old: Option<&Value>) -> Vec<String> {
    let asked = |claim: &Value| amounts(&claim["spec"]["resources"]["requests"]);
    let requests = asked(new);
    let before = old.map(asked).unwrap_or_default();
    let mut wrong = Vec::new();
    for item in items(range, &["spec", "limits"]) {
        if item["type"] != "PersistentVolumeClaim" {
            continue;
        }
        let changed = |name: &str| {
            let request = requests.get(name);
            request.is_none() || request != before.get(name)
        };
        for (name, bound) in amounts(&item["min"]) {
            if changed(&name) {
                let nothing = Amounts::new();
                wrong.extend(minimum(item, &name, bound, &requests, &nothing));
            }
        }
        for (name, bound) in amounts(&item["max"]) {
            if !changed(&name) {
                continue;
            }
            let rule = format!("maximum {name} usage per PersistentVolumeClaim is {bound}");
            match requests.get(&name) {
                None => wrong.push(format!("{rule}.  No request is specified")),
                Some(request) if *request > bound => {
                    wrong.push(format!("{rule}, but request is {request}"));
                }
                Some(_) => {}
            }
        }
    }
    wrong
}

fn bounds(item: &Value, requests: &Amounts, limits: &Amounts, wrong: &mut Vec<String>) {
    for (name, bound) in amounts(&item["min"]) {
        wrong.extend(minimum(item, &name, bound, requests, limits));
    }
    for (name, bound) in amounts(&item["max"]) {
        wrong.extend(maximum(item, &name, bound, requests, limits));
    }
    for (name, bound) in amounts(&item["maxLimitRequestRatio"]) {
        wrong.extend(ratio(item, &name, bound, requests, limits));
    }
}

/// Both amounts must be at least the bound; the request must be there.
fn minimum(
    item: &Value,
    name: &str,
    bound: Quantity,
    requests: &Amounts,
    limits: &Amounts,
) -> Option<String> {
    let amounts = [("request", requests), ("limit", limits)];
    within("minimum", item, name, bound, amounts, |amount| {
        *amount >= bound
    })
}

/// Both amounts may be at most the bound; the limit must be there.
fn maximum(
    item: &Value,
    name: &str,
    bound: Quantity,
    requests: &Amounts,
    limits: &Amounts,
) -> Option<String> {
    let amounts = [("limit", limits), ("request", requests)];
    within("maximum", item, name, bound, amounts, |amount| {
        *amount <= bound
    })
}

/// What is wrong with the first of two amounts, which must be there, or else with the other.
fn within(
    rule: &str,
    item: &Value,
    name: &str,
    bound: Quantity,
    [(first, must), (second, may)]: [(&str, &Amounts); 2],
    holds: impl Fn(&Quantity) -> bool,
) -> Option<String> {
    let kind = text(item, &["type"]);
    let rule = format!("{rule} {name} usage per {kind} is {bound}");
    let Some(amount) = must.get(name) else {
        return Some(format!("{rule}.  No {first} is specified"));
    };
    if !holds(amount) {
        return Some(format!("{rule}, but {first} is {amount}"));
    }
    let amount = may.get(name).filter(|amount| !holds(amount))?;
    Some(format!("{rule}, but {second} is {amount}"))
}

fn ratio(
    item: &Value,
    name: &str,
    bound: Quantity,
    requests: &Amounts,
    limits: &Amounts,
) -> Option<String> {
    let rule = format!(
        "{name} max limit to request ratio per {} is {bound}",
        text(item, &["type"])
    );
    let nonzero = |amounts: &Amounts| {
        amounts
            .get(name)
            .copied()
            .filter(|amount| !amount.is_zero())
    };
    let Some(request) = nonzero(requests) else {
        return Some(format!(
            "{rule}, but no request is specified or request is 0"
        ));
    };
    let Some(limit) = nonzero(limits) else {
        return Some(format!("{rule}, but no limit is specified or limit is 0"));
    };
    let provided = limit.as_f64() / request.as_f64();
    // the last digit of a float is no reason
    (provided > bound.as_f64() * (1.0 + f64::EPSILON * 4.0))
        .then(|| format!("{rule}, but provided ratio is {provided:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(item: Value) -> Value {
        json!({"spec": {"limits": [item]}})
    }

    fn spec(requests: Value, limits: Value) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": requests, "limits": limits}}]})
    }

    #[test]
    fn containers_are_completed_and_told_so() {
        let range = range(
            json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}),
        );
        let mut pod = json!({"spec": {
            "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "2"}}}],
            "initContainers": [{"name": "i"}]}});
        complete(&range, &mut pod);
        let spec = &pod["spec"];
        assert_eq!(
            spec["containers"][0]["resources"],
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}})
        );
        assert_eq!(
            spec["containers"][1]["resources"],
            json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "2"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; memory limit for container b; cpu request for init container i; cpu, memory limit for init container i"
        );
        let mut plain = json!({"spec": {"containers": [{"name": "a"}]}});
        let before = plain.clone();
        complete(&json!({"spec": {"limits": [{"type": "Pod"}]}}), &mut plain);
        assert_eq!(plain, before);
    }

    #[test]
    fn bounds_of_containers() {
        for (item, requests, limits, expected) in [
            (
                json!({"min": {"cpu": "100m"}}),
                json!({"cpu": "50m"}),
                json!({}),
                "minimum cpu usage per Container is 100m, but request is 50m",
            ),
            (
                json!({"min": {"cpu": "100m"}}),
                json!({}),
                json!({}),
                "minimum cpu usage per Container is 100m.  No request is specified",
            ),
            (
                json!({"max": {"memory": "1Gi"}}),
                json!({}),
                json!({}),
                "maximum memory usage per Container is 1Gi.  No limit is specified",
            ),
            (
                json!({"max": {"memory": "1Gi"}}),
                json!({}),
                json!({"memory": "2Gi"}),
                "maximum memory usage per Container is 1Gi, but limit is 2Gi",
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"cpu": "100m"}),
                json!({"cpu": "300m"}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"cpu": "0"}),
                json!({"cpu": "1"}),
                "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
            ),
        ] {
            let mut item = item;
            item["type"] = "Container".into();
            assert_eq!(of_pod(&range(item), &spec(requests, limits)), [expected]);
        }
        let fits = range(
            json!({"type": "Container", "max": {"cpu": "1"}, "min": {"cpu": "100m"}, "maxLimitRequestRatio": {"cpu": "3"}}),
        );
        assert_eq!(
            of_pod(&fits, &spec(json!({"cpu": "100m"}), json!({"cpu": "300m"}))),
            [""; 0]
        );
    }

    #[test]
    fn bounds_of_pods_and_claims() {
        let of_pods = range(json!({"type": "Pod", "max": {"cpu": "1"}}));
        let two = json!({"containers": [{"resources": {"limits": {"cpu": "600m"}}}, {"resources": {"limits": {"cpu": "600m"}}}]});
        assert_eq!(
            of_pod(&of_pods, &two),
            ["maximum cpu usage per Pod is 1, but limit is 1200m"]
        );
        let of_claims = range(
            json!({"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}, "min": {"storage": "1Gi"}}),
        );
        let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
        assert_eq!(of_claim(&of_claims, &claim("1Gi"), None), [""; 0]);
        assert_eq!(
            of_claim(&of_claims, &claim("3Gi"), None),
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]
        );
        assert_eq!(
            of_claim(&of_claims, &claim("512Mi"), None),
            ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 512Mi"]
        );
        assert_eq!(
            of_claim(&of_claims, &claim("3Gi"), Some(&claim("3Gi"))),
            [""; 0],
            "what is there stays"
        );
    }
}
