mod cluster;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use std::time::Instant;
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adhoc() {
    let cluster = cluster::Cluster::start(Some(6400)).await;
    for (n, name) in [(100, "a"), (100, "b"), (300, "c")] {
        let before = cluster.list::<Pod>().await.len();
        let t = Instant::now();
        let _: Deployment = cluster.create(cluster::deployment(name, n, "v1")).await;
        cluster
            .until("bound", || async {
                cluster
                    .list::<Pod>()
                    .await
                    .iter()
                    .filter(|p| p.spec.as_ref().unwrap().node_name.is_some())
                    .count()
                    == before + n as usize
            })
            .await;
        println!("{n} bound {:?}", t.elapsed());
        cluster
            .until("ready", || async {
                cluster
                    .api::<Deployment>()
                    .get(name)
                    .await
                    .unwrap()
                    .status
                    .unwrap()
                    .available_replicas
                    == Some(n)
            })
            .await;
        println!("{n} available {:?}", t.elapsed());
    }
    let t = Instant::now();
    let _: Deployment = cluster.create(cluster::deployment("one", 1, "v1")).await;
    cluster
        .until("ready", || async {
            cluster
                .api::<Deployment>()
                .get("one")
                .await
                .unwrap()
                .status
                .and_then(|s| s.available_replicas)
                == Some(1)
        })
        .await;
    println!("1 available {:?}", t.elapsed());
}
