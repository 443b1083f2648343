//! Jobs and CronJobs at the API: names, columns, what is made and what may change.

use serde_json::{Value, json};

use crate::server::Server;

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const CRON_JOBS: &str = "/apis/batch/v1/namespaces/default/cronjobs";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn template() -> Value {
    json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox:1"}]}})
}

fn job(name: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": template()}})
}

fn cron_job(name: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
        "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": template()}}}})
}

#[tokio::test]
async fn both_kinds_are_found_by_their_names() {
    let server = Server::new().await;
    let list = server.get("/apis/batch/v1").await.expect(200);
    let find = |name: &str| {
        let all = list["resources"].as_array().expect("resources");
        all.iter()
            .find(|one| one["name"] == name)
            .cloned()
            .unwrap_or_else(|| panic!("{name} in {list}"))
    };
    assert_eq!(find("cronjobs")["shortNames"], json!(["cj"]));
    for name in ["jobs", "cronjobs"] {
        assert_eq!(find(name)["categories"], json!(["all"]));
        assert_eq!(
            find(&format!("{name}/status"))["verbs"],
            json!(["get", "patch", "update"])
        );
    }
    assert_eq!(find("jobs").get("shortNames"), None);
}

#[tokio::test]
async fn a_job_gets_a_selector_and_labels_of_its_own() {
    let server = Server::new().await;
    let mut generated = job("");
    generated["metadata"] = json!({"generateName": "pi-"});
    for given in [job("pi"), generated] {
        let made = server.post(JOBS, &given).await.expect(201);
        let (name, uid) = (&made["metadata"]["name"], &made["metadata"]["uid"]);
        let labels = json!({"job-name": name, "batch.kubernetes.io/job-name": name,
            "controller-uid": uid, "batch.kubernetes.io/controller-uid": uid});
        assert_eq!(made["spec"]["template"]["metadata"]["labels"], labels);
        assert_eq!(made["metadata"]["labels"], labels);
        assert_eq!(
            made["spec"]["selector"],
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
        );
        assert_eq!(made["metadata"]["generation"], 1);
        assert_eq!(made["spec"]["completions"], 1);
        assert_eq!(made["status"], json!({}));
    }
}

#[tokio::test]
async fn a_jobs_template_stays_and_its_pace_changes() {
    let server = Server::new().await;
    let made = server.post(JOBS, &job("pi")).await.expect(201);
    let path = format!("{JOBS}/pi");
    let change = json!({"spec": {"parallelism": 3, "suspend": true}});
    let changed = server.patch(&path, "merge", &change).await.expect(200);
    assert_eq!(changed["metadata"]["generation"], 2);
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "other"}]}}}});
    let refusal = server
        .patch(&path, "strategic-merge", &image)
        .await
        .refusal(422);
    assert!(
        refusal.starts_with("Job.batch \"pi\" is invalid: spec.template: Invalid value: ")
            && refusal.ends_with(": field is immutable"),
        "{refusal}"
    );
    let mut same = made;
    same["metadata"]["resourceVersion"] = Value::Null;
    same["spec"]["completions"] = 2.into();
    assert_eq!(
        server.put(&path, &same).await.refusal(422),
        "Job.batch \"pi\" is invalid: spec.completions: Invalid value: 2: field is immutable"
    );
    let refusal = server
        .post(JOBS, &json!({"metadata": {"name": "x"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}}))
        .await
        .refusal(422);
    assert_eq!(
        refusal,
        "Job.batch \"x\" is invalid: spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
    );
}

#[tokio::test]
async fn status_is_written_by_itself_and_selected_by() {
    let server = Server::new().await;
    for name in ["done", "going"] {
        server.post(JOBS, &job(name)).await.expect(201);
    }
    let path = format!("{JOBS}/done/status");
    let status = json!({"status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}, "spec": {"parallelism": 9}});
    let written = server.patch(&path, "merge", &status).await.expect(200);
    assert_eq!(written["spec"]["parallelism"], 1);
    assert_eq!(written["metadata"]["generation"], 1);
    for (value, expected) in [("1", "done"), ("0", "going")] {
        let list = server
            .get(&format!("{JOBS}?fieldSelector=status.successful%3D{value}"))
            .await
            .expect(200);
        let items = list["items"].as_array().expect("items");
        assert_eq!(items.len(), 1);
        assert_eq!(items[0]["metadata"]["name"], expected);
    }
    // conditions are merged by type
    let condition =
        json!({"status": {"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}]}});
    let written = server
        .patch(&path, "strategic-merge", &condition)
        .await
        .expect(200);
    let list = written["status"]["conditions"].as_array().map(Vec::len);
    assert_eq!(list, Some(2));
}

#[tokio::test]
async fn a_job_that_is_deleted_without_a_word_leaves_its_pods() {
    let server = Server::new().await;
    for (body, finalizers, warns) in [
        (Value::Null, json!(["orphan"]), true),
        (
            json!({"propagationPolicy": "Foreground"}),
            json!(["foregroundDeletion"]),
            false,
        ),
        (
            json!({"propagationPolicy": "Background"}),
            Value::Null,
            false,
        ),
    ] {
        server.post(JOBS, &job("pi")).await.expect(201);
        let path = format!("{JOBS}/pi");
        let answer = server.delete(&path, &body).await;
        let warning = answer
            .headers
            .get("warning")
            .map(|text| text.to_str().expect("text").to_owned());
        assert_eq!(
            warning.is_some_and(|text| text.contains("child pods are preserved by default")),
            warns,
            "{body}"
        );
        let left = answer.expect(200);
        assert_eq!(left["metadata"]["finalizers"], finalizers, "{body}");
        let free = json!({"metadata": {"finalizers": null}});
        server.patch(&path, "merge", &free).await;
    }
}

#[tokio::test]
async fn columns_are_upstreams() {
    let server = Server::new().await;
    server.post(JOBS, &job("pi")).await.expect(201);
    server.post(CRON_JOBS, &cron_job("tick")).await.expect(201);
    for (path, columns, cells) in [
        (
            JOBS,
            "Name|Status|Completions|Duration|Age|Containers|Images|Selector",
            json!(["pi", "Running", "0/1", ""]),
        ),
        (
            CRON_JOBS,
            "Name|Schedule|Timezone|Suspend|Active|Last Schedule|Age|Containers|Images|Selector",
            json!(["tick", "*/5 * * * *", "<none>", "False", 0, "<none>"]),
        ),
    ] {
        let table = server
            .ask("GET", path, &[("accept", TABLE)], "")
            .await
            .expect(200);
        let all = table["columnDefinitions"].as_array().expect("columns");
        let names: Vec<_> = all.iter().filter_map(|c| c["name"].as_str()).collect();
        assert_eq!(names.join("|"), columns);
        let row = table["rows"][0]["cells"].as_array().expect("cells");
        let expected = cells.as_array().expect("cells");
        assert_eq!(&row[..expected.len()], expected);
    }
}

/// Manifests of the wild, as their authors wrote them. Applied once more, nothing changes.
#[tokio::test]
async fn manifests_of_others_are_taken() {
    let server = Server::new().await;
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/manifests");
    for (file, resource, name) in [
        (
            "kubernetes/test/fixtures/doc-yaml/user-guide/job.yaml",
            JOBS,
            "pi",
        ),
        (
            "podinfo/deploy/bases/database/cronjob-backup-daily.yaml",
            CRON_JOBS,
            "backup-daily",
        ),
        (
            "podinfo/deploy/bases/database/cronjob-rollup-daily.yaml",
            CRON_JOBS,
            "rollup-daily",
        ),
        (
            "podinfo/deploy/bases/frontend/cronjob-warm-cache.yaml",
            CRON_JOBS,
            "warm-cache",
        ),
    ] {
        let file = folder.join(file);
        let text = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let path = format!("{resource}/{name}?fieldManager=me&fieldValidation=Strict");
        let headers = [("content-type", "application/apply-patch+yaml")];
        let apply = || server.ask("PATCH", &path, &headers, text.clone());
        let made = apply().await.expect(201);
        let again = apply().await.expect(200);
        assert_eq!(
            made["metadata"]["resourceVersion"], again["metadata"]["resourceVersion"],
            "{name}"
        );
    }
    let backup = server
        .get(&format!("{CRON_JOBS}/backup-daily"))
        .await
        .expect(200);
    let volume = &backup["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"][0];
    assert_eq!(volume["configMap"]["defaultMode"], 0o755);
}
