//! Table tests of phases, conditions and terminal states.

use std::sync::LazyLock;

use super::*;
use serde_json::json;

/// The pod's and the node's.
static IPS: LazyLock<[Vec<String>; 2]> = LazyLock::new(|| {
    [
        vec!["10.0.0.2".into(), "fd00::2".into()],
        vec!["10.0.0.1".into(), "fd00::1".into()],
    ]
});

fn view(doing: Doing) -> View {
    View {
        name: "web".into(),
        image: "my-web-app:latest".into(),
        image_id: "sha256:1".into(),
        container_id: Some("plimsoll://1".into()),
        ready: matches!(doing, Doing::Running { .. }),
        started: true,
        doing,
        last: None,
        restarts: 0,
        sidecar: false,
        again: None,
        resources: None,
    }
}

fn ended(code: i32) -> Doing {
    Doing::Terminated {
        code,
        reason: "Error".into(),
        started: None,
        finished: Timestamp::UNIX_EPOCH,
        message: None,
    }
}

fn running() -> Doing {
    Doing::Running {
        since: Timestamp::UNIX_EPOCH,
    }
}

fn observed<'a>(pod: &'a Pod, containers: &'a [View]) -> Observed<'a> {
    Observed {
        pod,
        init: &[],
        containers,
        ephemeral: &[],
        sandbox_ready: true,
        pod_ips: &IPS[0],
        host_ips: &IPS[1],
        start_time: Timestamp::UNIX_EPOCH,
        now: "2025-01-01T00:00:00.7Z".parse().expect("time"),
        ending: false,
        resizing: None,
        failure: None,
    }
}

#[test]
fn how_a_resize_stands_is_told_until_it_is_done() {
    let pod: Pod =
        serde_json::from_value(json!({ "spec": { "containers": [] } })).expect("fixture");
    let told = |resizing: Option<&Resizing>| {
        let status = pod_status(&Observed {
            resizing,
            ..observed(&pod, &[view(running())])
        });
        let all = status.conditions.unwrap_or_default().into_iter();
        let mut resizes = all.filter(|c| c.type_.starts_with("PodResize"));
        let one = resizes.next().map(|c| (c.type_, c.reason, c.message));
        assert_eq!(resizes.count(), 0);
        one
    };
    let text = |text: &str| Some(text.to_owned());
    let pending = Resizing::Pending {
        reason: "Infeasible",
        message: "too much".into(),
    };
    let failed = Resizing::InProgress {
        error: text("busy"),
    };
    assert_eq!(told(None), None);
    assert_eq!(
        told(Some(&pending)),
        Some((
            "PodResizePending".to_owned(),
            text("Infeasible"),
            text("too much")
        ))
    );
    assert_eq!(
        told(Some(&Resizing::InProgress { error: None })),
        Some(("PodResizeInProgress".to_owned(), None, None))
    );
    assert_eq!(
        told(Some(&failed)),
        Some((
            "PodResizeInProgress".to_owned(),
            text("Error"),
            text("busy")
        ))
    );
}

/// What was begun stays so: `kubectl get` shows the pod's own containers, and not `Init:…`, when a sidecar starts again.
#[test]
fn a_sidecar_that_starts_again_undoes_no_initialization() {
    let sidecar = View {
        sidecar: true,
        started: false,
        last: Some(("1".into(), ended(1))),
        ..view(Doing::waiting("CrashLoopBackOff"))
    };
    let crashed = View {
        last: Some(("1".into(), ended(1))),
        ..view(Doing::waiting("CrashLoopBackOff"))
    };
    let pod: Pod =
        serde_json::from_value(json!({ "spec": { "containers": [] } })).expect("fixture");
    for (container, want) in [
        (view(running()), "True"),
        (view(ended(0)), "True"),
        (crashed, "True"),
        (view(Doing::waiting("PodInitializing")), "False"),
    ] {
        let init = [sidecar.clone()];
        let status = pod_status(&Observed {
            init: &init,
            ..observed(&pod, std::slice::from_ref(&container))
        });
        let conditions = status.conditions.unwrap_or_default();
        let found = conditions.iter().find(|c| c.type_ == "Initialized");
        assert_eq!(found.map(|c| c.status.as_str()), Some(want));
    }
}

#[test]
fn phases() {
    let sidecar = |doing| View {
        sidecar: true,
        ..view(doing)
    };
    let crashed = View {
        last: Some(("1".into(), ended(1))),
        ..view(Doing::waiting("CrashLoopBackOff"))
    };
    for (policy, init, containers, want) in [
        (
            "Always",
            vec![],
            vec![view(Doing::waiting("ContainerCreating"))],
            "Pending",
        ),
        ("Always", vec![], vec![view(running())], "Running"),
        (
            "Always",
            vec![],
            vec![view(running()), view(Doing::waiting("ContainerCreating"))],
            "Pending",
        ),
        ("Always", vec![], vec![view(ended(0))], "Running"),
        ("Always", vec![], vec![crashed.clone()], "Running"),
        ("OnFailure", vec![], vec![view(ended(0))], "Succeeded"),
        ("OnFailure", vec![], vec![view(ended(1))], "Running"),
        (
            "Never",
            vec![],
            vec![view(ended(1)), view(ended(0))],
            "Failed",
        ),
        (
            "Never",
            vec![],
            vec![view(ended(1)), view(running())],
            "Running",
        ),
        (
            "Always",
            vec![view(running())],
            vec![view(Doing::waiting("PodInitializing"))],
            "Pending",
        ),
        (
            "Never",
            vec![view(ended(3))],
            vec![view(Doing::waiting("PodInitializing"))],
            "Failed",
        ),
        (
            "Always",
            vec![view(ended(0))],
            vec![view(running())],
            "Running",
        ),
        (
            "Always",
            vec![crashed.clone()],
            vec![view(Doing::waiting("PodInitializing"))],
            "Pending",
        ),
        (
            "Always",
            vec![sidecar(running())],
            vec![view(Doing::waiting("PodInitializing"))],
            "Pending",
        ),
        (
            "Never",
            vec![sidecar(running())],
            vec![view(ended(0))],
            "Running",
        ),
        (
            "Never",
            vec![sidecar(ended(143))],
            vec![view(ended(0))],
            "Succeeded",
        ),
        (
            "Always",
            vec![sidecar(ended(1))],
            vec![view(running())],
            "Running",
        ),
    ] {
        assert_eq!(
            phase(policy, &init, &containers, false),
            want,
            "{policy} {init:?} {containers:?}"
        );
    }
}

#[test]
fn containers_with_rules_of_their_own_decide_for_themselves() {
    let own = |code, again| View {
        again: Some(again),
        ..view(ended(code))
    };
    for (policy, containers, want) in [
        ("Never", vec![own(42, true)], "Running"),
        ("Never", vec![own(1, false)], "Failed"),
        ("Never", vec![own(42, true), view(ended(1))], "Running"),
        ("Always", vec![own(0, false)], "Succeeded"),
        ("Always", vec![own(1, false)], "Failed"),
        ("Always", vec![own(1, false), view(ended(0))], "Running"),
    ] {
        let found = phase(policy, &[], &containers, false);
        assert_eq!(found, want, "{policy} {containers:?}");
    }
    assert_eq!(phase("Never", &[], &[own(42, true)], true), "Failed");
}

#[test]
fn a_deleted_pod_ends_whatever_its_policy() {
    assert_eq!(phase("Always", &[], &[view(ended(143))], true), "Failed");
    assert_eq!(phase("Always", &[], &[view(ended(0))], true), "Succeeded");
    assert_eq!(
        phase(
            "Always",
            &[],
            &[view(Doing::waiting("ContainerCreating"))],
            true
        ),
        "Pending"
    );
}

#[test]
fn a_deleted_pod_that_never_ran_has_failed_too() {
    let pod: Pod = serde_json::from_value(json!({ "spec": { "containers": [] } })).expect("pod");
    for (doing, ending, want) in [
        (Doing::waiting("ContainerCreating"), true, "Failed"),
        (Doing::waiting("ContainerCreating"), false, "Pending"),
        (ended(0), true, "Succeeded"),
    ] {
        let status = pod_status(&Observed {
            ending,
            ..observed(&pod, &[view(doing)])
        });
        assert_eq!(status.phase.as_deref(), Some(want));
    }
}

#[test]
fn what_has_failed_stays_failed() {
    let status = |before: serde_json::Value, failure| {
        let pod: Pod =
            serde_json::from_value(json!({ "spec": { "containers": [] }, "status": before }))
                .expect("fixture");
        pod_status(&Observed {
            failure,
            ..observed(&pod, &[view(running())])
        })
    };
    let failed = status(
        json!({ "phase": "Running" }),
        Some(("DeadlineExceeded", "too long")),
    );
    assert_eq!(
        (failed.phase.as_deref(), failed.reason.as_deref()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
    let kept = status(
        json!({ "phase": "Failed", "reason": "DeadlineExceeded", "message": "too long" }),
        None,
    );
    assert_eq!(
        (
            kept.phase.as_deref(),
            kept.reason.as_deref(),
            kept.message.as_deref()
        ),
        (Some("Failed"), Some("DeadlineExceeded"), Some("too long"))
    );
    assert_eq!(
        kept.conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == "Ready")
            .and_then(|c| c.reason.as_deref()),
        Some("PodFailed")
    );
}

#[test]
fn ready_condition_keeps_its_transition_time() {
    let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "a", "generation": 2 }, "spec": { "containers": [] },
        "status": { "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z" },
            { "type": "PodScheduled", "status": "True", "lastTransitionTime": "2023-01-01T00:00:00Z" } ] } }))
    .expect("fixture");
    let status = |views: &[View]| pod_status(&observed(&pod, views));
    let find = |status: &PodStatus, kind: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == kind)
            .cloned()
            .expect("condition")
    };
    let time = |c: &PodCondition| c.last_transition_time.as_ref().expect("time").0.to_string();
    let still = status(&[view(running())]);
    assert_eq!(time(&find(&still, "Ready")), "2024-01-01T00:00:00Z");
    let lost = status(&[View {
        ready: false,
        ..view(running())
    }]);
    assert_eq!(time(&find(&lost, "Ready")), "2025-01-01T00:00:00Z");
    assert_eq!(
        find(&lost, "Ready").message.as_deref(),
        Some("containers with unready status: [web]")
    );
    assert_eq!(time(&find(&lost, "PodScheduled")), "2023-01-01T00:00:00Z");
    assert_eq!(lost.pod_ip.as_deref(), Some("10.0.0.2"));
    assert_eq!(lost.pod_ips.expect("ips")[1].ip, "fd00::2");
    assert_eq!(lost.host_ips.expect("ips")[1].ip, "fd00::1");
}

#[test]
fn init_containers_have_policies_of_their_own() {
    let init = |code, again| View {
        again,
        ..view(ended(code))
    };
    let waiting = [view(Doing::waiting("PodInitializing"))];
    for (policy, code, again, expected) in [
        ("Never", 1, None, "Failed"),
        ("Never", 1, Some(true), "Pending"),
        ("Always", 1, None, "Pending"),
        ("Always", 1, Some(false), "Failed"),
        ("Always", 0, Some(false), "Pending"),
    ] {
        let found = phase(policy, &[init(code, again)], &waiting, false);
        assert_eq!(found, expected, "{policy} {code} {again:?}");
    }
}

#[test]
fn gates_are_told_with_what_they_say() {
    let told = |conditions: serde_json::Value| {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": [], "readinessGates": [{"conditionType": "a/b"}]},
            "status": {"conditions": conditions},
        }))
        .expect("a pod");
        let containers = [view(running())];
        let status = pod_status(&observed(&pod, &containers));
        let conditions = status.conditions.expect("conditions");
        let ready = conditions.into_iter().find(|one| one.type_ == "Ready");
        ready.expect("Ready").message.unwrap_or_default()
    };
    assert_eq!(
        told(json!([])),
        "corresponding condition of pod readiness gate \"a/b\" does not exist."
    );
    assert_eq!(
        told(json!([{"type": "a/b", "status": "False"}])),
        "the status of pod readiness gate \"a/b\" is not \"True\", but False"
    );
    assert_eq!(told(json!([{"type": "a/b", "status": "True"}])), "");
}
