//! Prometheus beside and within a cluster: what there is is found, scraped and forgotten.
//!
//! Debian's Prometheus is built without the discovery that asks Kubernetes. It runs in a pod and finds pods by their names;
//! VictoriaMetrics, which is told by the same configuration, runs on the host and asks the API.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::support::{
    Process, Root, Run, Space, client_image, eventually, free_port, holds, shared,
};

const WEB: &str = include_str!("../clients/prometheus/web.yaml");
const PROMETHEUS: &str = include_str!("../clients/prometheus/prometheus.yaml");
const DISCOVERY: &str = include_str!("../clients/prometheus/discovery.yml");

/// What the query API answers, one row a series.
fn query(url: &str, text: &str) -> Result<Vec<Value>, String> {
    let ran = Run::new("curl", "-sS -f -m 5 -G")
        .argument("--data-urlencode")
        .argument(&format!("query={text}"))
        .argument(&format!("{url}/api/v1/query"))
        .ran();
    if ran.code != 0 {
        return Err(ran.to_string());
    }
    let answer: Value = serde_json::from_str(&ran.stdout).map_err(|error| error.to_string())?;
    let rows = answer["data"]["result"].as_array();
    rows.cloned().ok_or_else(|| answer.to_string())
}

/// Waits until a job has exactly these targets, told by a label, and all are up.
#[track_caller]
fn has_up(url: &str, job: &str, label: &str, wanted: &BTreeSet<String>) {
    eventually(
        &format!("{wanted:?} up in the job {job} of {url}"),
        || -> Result<(), String> {
            let rows = query(url, &format!("up{{job=\"{job}\"}}"))?;
            let told = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let found: BTreeMap<String, String> = rows
                .iter()
                .map(|row| (told(&row["metric"][label]), told(&row["value"][1])))
                .collect();
            let up = found.values().all(|value| value == "1");
            if up && found.keys().eq(wanted) {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        },
    );
}

/// Waits until a query has an answer for each of two pods.
#[track_caller]
fn has_two(url: &str, text: &str) {
    eventually(
        &format!("two series of {text} in {url}"),
        || -> Result<(), String> {
            let rows = query(url, text)?;
            if rows.len() == 2 {
                Ok(())
            } else {
                Err(format!("{rows:?}"))
            }
        },
    );
}

/// The scraped pods' names with their addresses, as soon as there are so many.
#[track_caller]
fn pods(space: &Space, count: usize) -> BTreeMap<String, String> {
    eventually(&format!("{count} pods"), || {
        let list = space.get("pods -l app=web");
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let row = |pod: &Value| {
            let name = pod["metadata"]["name"].as_str()?;
            let address = pod["status"]["podIP"].as_str()?;
            Some((name.to_owned(), address.to_owned()))
        };
        let rows: BTreeMap<String, String> = items.iter().filter_map(row).collect();
        if rows.len() == count && items.len() == count {
            Ok(rows)
        } else {
            Err(format!("{rows:?}"))
        }
    })
}

pub fn pods_are_found_scraped_and_forgotten() {
    let instance = shared();
    client_image(&instance, "prometheus");
    let space = Space::within(instance.clone(), "prometheus");
    let node = space.field("nodes", ".items[0].metadata.name");
    space.apply(WEB);
    space.apply(&PROMETHEUS.replace("NODE", &node));
    space.rolled_out("web");
    space.rolled_out("prometheus");
    let inside = format!(
        "http://{}:9090",
        space.field("service/prometheus", ".spec.clusterIP")
    );

    let folder = Root::scratch();
    let token = space.kubectl("create token prometheus").ok();
    fs::write(folder.join("token"), token.trim()).expect("written");
    let authority = space.field("configmap/kube-root-ca.crt", r".data.ca\.crt");
    fs::write(folder.join("ca.crt"), authority).expect("written");
    let server = format!("127.0.0.1:{}", instance.api_port);
    let configuration = DISCOVERY
        .replace("FOLDER", &folder.display().to_string())
        .replace("HOSTPORT", &server)
        .replace("SERVER", &format!("https://{server}"));
    fs::write(folder.join("discovery.yml"), configuration).expect("written");
    let listen = format!("127.0.0.1:{}", free_port());
    let beside = format!("http://{listen}");
    let discoverer = Process::start(
        "victoria-metrics",
        [
            format!("-promscrape.config={}/discovery.yml", folder.display()),
            format!("-storageDataPath={}/data", folder.display()),
            format!("-httpListenAddr={listen}"),
            // what was scraped is told at once
            "-search.latencyOffset=0s".to_owned(),
            "-search.disableCache".to_owned(),
            "-promscrape.kubernetesSDCheckInterval=1s".to_owned(),
        ],
    );

    let all_see = |pods: &BTreeMap<String, String>| {
        let names: BTreeSet<String> = pods.keys().cloned().collect();
        for job in ["pods", "slices"] {
            has_up(&beside, job, "pod", &names);
        }
        let hosts = pods.values().map(|address| {
            let host = address.replace('.', "-");
            format!("{host}.webs.prometheus.svc.cluster.local:8080")
        });
        has_up(&inside, "pods", "instance", &hosts.collect());
    };
    all_see(&pods(&space, 2));
    let own = |host: &str| BTreeSet::from([host.to_owned()]);
    has_up(&beside, "nodes", "instance", &own(&node));
    has_up(&inside, "service", "instance", &own("web:80"));
    has_up(
        &inside,
        "nodes",
        "instance",
        &own("kubernetes.default.svc:443"),
    );
    for url in [&beside, &inside] {
        has_two(
            url,
            r#"container_memory_working_set_bytes{namespace="prometheus",container="web"}"#,
        );
        has_two(url, r#"http_requests_total{job="pods"}"#);
    }
    has_two(&beside, r#"up{job="pods",app="web"}"#);

    space.kubectl("scale deployment web --replicas=3").ok();
    let three = pods(&space, 3);
    all_see(&three);
    let gone = three.keys().next().expect("one of three");
    space.kubectl(&format!("delete pod {gone}")).ok();
    let others = pods(&space, 3);
    assert!(!others.contains_key(gone), "{others:?}");
    all_see(&others);
    space.kubectl("scale deployment web --replicas=1").ok();
    all_see(&pods(&space, 1));

    // what we expose is as Prometheus wants it
    let path = format!("/api/v1/nodes/{node}/proxy/metrics/resource");
    let exposed = instance.kubectl(&format!("get --raw {path}")).ok();
    holds(&exposed, "node_memory_working_set_bytes");
    let checked = Run::new("promtool", "check metrics").stdin(exposed).ran();
    assert!(
        checked.code == 0 && checked.both().is_empty(),
        "it is not clean: {checked}"
    );

    assert_eq!(discoverer.end(), 0);
    instance
        .kubectl("delete clusterrole,clusterrolebinding e2e-prometheus")
        .ok();
}
