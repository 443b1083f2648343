//! Pods: waited for, entered with and without a terminal, attached to, their logs followed, their ports forwarded, evicted.

use std::future::Future;

use futures::io::AsyncBufReadExt;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{
    Api, AttachParams, AttachedProcess, DeleteParams, EvictParams, LogParams, PostParams,
    TerminalSize,
};
use kube::runtime::conditions::{is_deleted, is_pod_running};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::{refused, soon, with_client};
use crate::support::Space;

/// Says what it hears; serves on two ports of its own loopback address.
const SCRIPT: &str = "mkdir /tmp/www; echo page > /tmp/www/index.html; \
     httpd -p 127.0.0.1:8080 -h /tmp/www; httpd -p 127.0.0.1:8081 -h /tmp/www; \
     echo begun; while read line; do echo \"heard $line\"; done; sleep 1000";

pub fn pods_are_entered_attached_to_forwarded_and_evicted() {
    let space = Space::new("kube-rs-pods");
    with_client(&space, "edit", |client| async move {
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "ears", "labels": {"app": "ears"}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
                "name": "main", "image": "busybox:static", "stdin": true, "command": ["sh", "-c", SCRIPT],
            }]},
        });
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        pods.create(&PostParams::default(), &pod)
            .await
            .expect("created");
        let running = await_condition(pods.clone(), "ears", is_pod_running());
        soon("a running pod", running).await.expect("it runs");
        enters(&pods).await;
        has_a_terminal(&pods).await;
        attaches(&pods).await;
        forwards(&pods).await;
        evicts(client, &pods).await;
    });
}

async fn all(reader: Option<impl AsyncRead + Unpin>) -> String {
    let mut text = String::new();
    let mut reader = reader.expect("it was asked for");
    reader.read_to_string(&mut text).await.expect("text");
    text
}

fn status(process: &mut AttachedProcess) -> impl Future<Output = Option<Status>> + use<> {
    process.take_status().expect("not taken before")
}

async fn enters(pods: &Api<Pod>) {
    let script = "read line; echo \"heard $line\"; echo oh >&2; exit 3";
    let asked = AttachParams::default().stdin(true);
    let mut process = pods
        .exec("ears", ["sh", "-c", script], &asked)
        .await
        .expect("a process");
    let ended = status(&mut process);
    let (out, err) = (process.stdout(), process.stderr());
    let mut stdin = process.stdin().expect("standard input");
    stdin.write_all(b"me\n").await.expect("written");
    let (out, err, ended) =
        soon("its end", async { tokio::join!(all(out), all(err), ended) }).await;
    assert_eq!((&*out, &*err), ("heard me\n", "oh\n"));
    let ended = ended.expect("a status");
    assert_eq!(ended.reason.as_deref(), Some("NonZeroExitCode"));
    let causes = ended.details.expect("details").causes.expect("causes");
    assert_eq!(causes[0].message.as_deref(), Some("3"));

    let mut fine = pods
        .exec("ears", ["true"], &AttachParams::default())
        .await
        .expect("a process");
    let ended = soon("its end", status(&mut fine)).await.expect("a status");
    assert_eq!(ended.status.as_deref(), Some("Success"));
    // much more than what is on its way at once, both ways
    let mut cat = pods.exec("ears", ["cat"], &asked).await.expect("a process");
    let input: Vec<u8> = (0..400_000_u32).map(|n| (n % 251) as u8).collect();
    let mut stdin = cat.stdin().expect("standard input");
    let mut stdout = cat.stdout().expect("output");
    let mut back = vec![0; input.len()];
    soon("everything comes back", async {
        let (written, read) = tokio::join!(stdin.write_all(&input), stdout.read_exact(&mut back));
        written.expect("written");
        read.expect("read");
    })
    .await;
    assert!(back == input, "what goes in comes out");
}

async fn has_a_terminal(pods: &Api<Pod>) {
    let script = "until [ \"$(stty size)\" = '33 77' ]; do sleep 0.1; done; echo resized; read line; echo \"heard $line\"";
    let asked = AttachParams::interactive_tty();
    let mut process = pods
        .exec("ears", ["sh", "-c", script], &asked)
        .await
        .expect("a process");
    let ended = status(&mut process);
    let mut sizes = process.terminal_size().expect("a terminal");
    let size = TerminalSize {
        width: 77,
        height: 33,
    };
    assert!(sizes.try_send(size).is_ok());
    let out = process.stdout();
    let mut stdin = process.stdin().expect("standard input");
    stdin.write_all(b"me\n").await.expect("written");
    let (out, ended) = soon("its end", async { tokio::join!(all(out), ended) }).await;
    assert!(out.contains("resized\r\n"), "{out:?}");
    assert!(out.ends_with("heard me\r\n"), "{out:?}");
    assert_eq!(ended.expect("a status").status.as_deref(), Some("Success"));
}

async fn attaches(pods: &Api<Pod>) {
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let log = pods.log_stream("ears", &follow).await.expect("a log");
    let mut log = log.lines();
    let first = soon("a line", log.try_next()).await.expect("no error");
    assert_eq!(first.as_deref(), Some("begun"));
    let asked = AttachParams::default().stdin(true).stderr(false);
    let mut process = pods.attach("ears", &asked).await.expect("attached");
    let mut stdin = process.stdin().expect("standard input");
    let stdout = process.stdout().expect("output");
    stdin.write_all(b"a word\n").await.expect("written");
    let said = tokio_util::io::ReaderStream::new(stdout)
        .map_ok(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .scan(String::new(), |all, part| {
            all.push_str(&part.unwrap_or_default());
            futures::future::ready(Some(all.clone()))
        })
        .filter(|all| futures::future::ready(all.contains("heard a word\n")));
    let mut said = Box::pin(said);
    soon("what the container says", said.next())
        .await
        .expect("not the end");
    // it is in the log as well, which goes on
    let second = soon("a line", log.try_next()).await.expect("no error");
    assert_eq!(second.as_deref(), Some("heard a word"));
    let tail = LogParams {
        tail_lines: Some(1),
        ..LogParams::default()
    };
    let last = pods.logs("ears", &tail).await.expect("a log");
    assert_eq!(last, "heard a word\n");
    drop(stdin);
    process.abort();
}

async fn forwards(pods: &Api<Pod>) {
    let mut forwarder = pods
        .portforward("ears", &[8080, 8081, 9])
        .await
        .expect("forwarded");
    let refused = forwarder.take_error(9).expect("not taken before");
    for port in [8080, 8081] {
        let mut stream = forwarder.take_stream(port).expect("not taken before");
        stream
            .write_all(b"GET / HTTP/1.0\r\n\r\n")
            .await
            .expect("written");
        // a port has no end of its own, the connection has one for all
        let mut answer = Vec::new();
        soon("an answer", async {
            while !answer.ends_with(b"\r\n\r\npage\n") {
                let more = stream.read_buf(&mut answer).await.expect("no error");
                assert_ne!(more, 0, "{}", String::from_utf8_lossy(&answer));
            }
        })
        .await;
    }
    let silent = forwarder.take_stream(9).expect("not taken before");
    let told = soon("that nobody listens", refused).await;
    let told = told.expect("an error");
    assert!(told.contains("refused"), "{told}");
    drop(silent);
    forwarder.abort();
}

async fn evicts(client: Client, pods: &Api<Pod>) {
    let budgets: Api<PodDisruptionBudget> = Api::default_namespaced(client);
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "ears"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "ears"}}},
    });
    let budget: PodDisruptionBudget = serde_json::from_value(budget).expect("a budget");
    budgets
        .create(&PostParams::default(), &budget)
        .await
        .expect("created");
    let (code, reason) = refused(pods.evict("ears", &EvictParams::default()).await);
    assert_eq!((code, &*reason), (429, "TooManyRequests"));
    budgets
        .delete("ears", &DeleteParams::default())
        .await
        .expect("deleted");
    let uid = pods.get("ears").await.expect("read").uid().expect("a uid");
    let evicted = pods.evict("ears", &EvictParams::default()).await;
    assert_eq!(evicted.expect("evicted").code, 201);
    let gone = await_condition(pods.clone(), "ears", is_deleted(&uid));
    soon("the pod is gone", gone).await.expect("it is gone");
}
