//! Jobs and CronJobs by kubectl, with real containers.

use crate::support::{Space, holds};

pub fn a_job_runs_to_its_end_and_a_failing_one_says_why() {
    let space = Space::new("jobs");
    // kubectl sends protobuf
    space
        .kubectl("create job hello --image=busybox:static -- sh -c 'echo hello from $(hostname)'")
        .ok();
    space.apply(
        "apiVersion: batch/v1
kind: Job
metadata: {name: doomed}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: main, image: 'busybox:static', command: [sh, -c, 'exit 3']}
---
apiVersion: batch/v1
kind: Job
metadata: {name: parts}
spec:
  completions: 3
  parallelism: 3
  completionMode: Indexed
  template:
    spec:
      restartPolicy: OnFailure
      containers:
      - {name: main, image: 'busybox:static', command: [sh, -c, 'echo part $JOB_COMPLETION_INDEX of $(hostname)']}
",
    );
    for job in ["hello", "parts"] {
        space
            .kubectl(&format!(
                "wait --for=condition=complete job/{job} --timeout=75s"
            ))
            .ok();
    }
    space
        .kubectl("wait --for=condition=failed job/doomed --timeout=75s")
        .ok();
    holds(&space.kubectl("logs job/hello").ok(), "hello from hello-");
    let parts = space
        .kubectl("logs -l batch.kubernetes.io/job-name=parts")
        .ok();
    for n in 0..3 {
        holds(&parts, &format!("part {n} of parts-{n}"));
    }
    let failed = "{range .status.conditions[*]}{.type}={.reason} {end}";
    let failed = space
        .kubectl(&format!("get job doomed -o 'jsonpath={failed}'"))
        .ok();
    assert_eq!(
        failed,
        "FailureTarget=BackoffLimitExceeded Failed=BackoffLimitExceeded "
    );
    let table = space.kubectl("get jobs -o wide").ok();
    for row in ["hello", "doomed", "parts"] {
        holds(&table, row);
    }
    holds(&table, "Complete");
    holds(&table, "3/3");
    holds(
        &space.kubectl("describe job doomed").ok(),
        "Job has reached the specified backoff limit",
    );
    space.kubectl("delete jobs --all").ok();
    assert_eq!(space.kubectl("get jobs -o name").ok(), "");
    space
        .kubectl("wait --for=delete pods --all --timeout=75s")
        .ran();
    assert_eq!(space.kubectl("get pods -o name").ok(), "");
}

pub fn a_running_job_is_suspended_and_deleted_with_its_pods() {
    let space = Space::new("halted");
    space.apply(
        "apiVersion: batch/v1
kind: Job
metadata: {name: long}
spec:
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: 'busybox:static', command: [sh, -c, 'sleep 1000']}
",
    );
    space.until("job/long", ".status.ready", "2");
    space
        .kubectl("patch job long --type=merge -p '{\"spec\":{\"suspend\":true}}'")
        .ok();
    space
        .kubectl("wait --for=condition=suspended job/long --timeout=75s")
        .ok();
    space.until("pods", ".items", "[]");
    space
        .kubectl("patch job long --type=merge -p '{\"spec\":{\"suspend\":false}}'")
        .ok();
    space.until("job/long", ".status.ready", "2");
    space
        .kubectl("delete job long --cascade=foreground --timeout=75s")
        .ok();
    assert_eq!(space.kubectl("get pods -o name").ok(), "");
}

pub fn a_cron_job_is_kept_and_its_job_made_by_hand() {
    let space = Space::new("cron");
    space
        .kubectl("create cronjob tick --image=busybox:static '--schedule=*/1 * * * *' -- sh -c 'echo tick'")
        .ok();
    space.kubectl("create job now --from=cronjob/tick").ok();
    space
        .kubectl("wait --for=condition=complete job/now --timeout=75s")
        .ok();
    holds(&space.kubectl("logs job/now").ok(), "tick");
    let table = space.kubectl("get cj").ok();
    holds(&table, "*/1 * * * *");
    holds(&table, "<none>");
    assert_eq!(
        space.field("job/now", ".metadata.ownerReferences[0].name"),
        "tick"
    );
    // each second is as good as each minute, and does not let a test wait
    space
        .kubectl("patch cronjob tick --type=merge -p '{\"spec\":{\"schedule\":\"@every 1s\"}}'")
        .ok();
    space.until_says("get jobs -o name", "job.batch/tick-");
    space.until_says(
        "get cronjob tick -o jsonpath={.status.lastSuccessfulTime}",
        "T",
    );
    space.kubectl("delete cronjob tick").ok();
    space.until("jobs", ".items", "[]");
}
