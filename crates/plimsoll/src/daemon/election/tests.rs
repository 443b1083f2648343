//! Elections on an API server in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use apiserver::{ApiServer, Config, Identity};

use super::*;

const QUICK: Times = Times {
    lease: Duration::from_secs(2),
    renewal: Duration::from_secs(1),
    retry: Duration::from_millis(50),
};
const PATIENCE: Duration = Duration::from_secs(30);

/// Who works, by name, and how many do at once at most.
#[derive(Default)]
struct Log {
    working: AtomicUsize,
    begun: parking_lot::Mutex<Vec<&'static str>>,
}

impl Log {
    fn work(self: &Arc<Self>, name: &'static str) -> Work {
        let log = self.clone();
        Box::new(move |stop| {
            let log = log.clone();
            Box::pin(async move {
                let others = log.working.fetch_add(1, Ordering::SeqCst);
                assert_eq!(others, 0, "two work at once");
                log.begun.lock().push(name);
                stop.cancelled().await;
                log.working.fetch_sub(1, Ordering::SeqCst);
            })
        })
    }

    async fn until(&self, expected: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        while *self.begun.lock() != expected {
            assert!(Instant::now() < deadline, "{:?}", self.begun.lock());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn server(directory: &tempfile::TempDir) -> ApiServer {
    let store = store::EmbeddedStore::in_memory().expect("a store");
    let config = Config::new(directory.path());
    ApiServer::open(config, Arc::new(store))
        .await
        .expect("a server")
}

fn candidate(server: &ApiServer, user: &str, identity: &str) -> Candidate {
    let client = server.in_process_client(Identity::new(user, &[]));
    Candidate {
        api: Api::namespaced(client, NAMESPACE),
        lease: Role::Scheduler.lease(),
        identity: identity.to_owned(),
        times: QUICK,
        seen: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_works_and_the_next_one_follows() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory).await;
    let log = Arc::new(Log::default());
    let run = |name: &'static str| {
        let stop = CancellationToken::new();
        // the role that the scheduler has suffices
        let candidate = candidate(&server, "system:kube-scheduler", name);
        let task = tokio::spawn(candidate.run(log.work(name), stop.clone()));
        (task, stop)
    };
    let (first, stop_first) = run("a");
    log.until(&["a"]).await;
    let (second, _) = run("b");
    tokio::time::sleep(QUICK.lease * 2).await;
    assert_eq!(
        *log.begun.lock(),
        ["a"],
        "a lease that is renewed is respected"
    );

    // An orderly end frees it.
    let ended = Instant::now();
    stop_first.cancel();
    first.await.expect("its end");
    log.until(&["a", "b"]).await;
    assert!(ended.elapsed() < QUICK.lease, "{:?}", ended.elapsed());

    // A killed one's lease runs out. (The work itself belongs to the killed process.)
    let (third, stop_third) = run("c");
    let killed = Instant::now();
    second.abort();
    log.working.store(0, Ordering::SeqCst);
    log.until(&["a", "b", "c"]).await;
    assert!(
        killed.elapsed() >= QUICK.lease / 2,
        "{:?}",
        killed.elapsed()
    );
    stop_third.cancel();
    third.await.expect("its end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_renew_stops_working_and_stands_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = server(&directory).await;
    let log = Arc::new(Log::default());
    let stop = CancellationToken::new();
    let leading = candidate(&server, "system:kube-scheduler", "a");
    let api = leading.api.clone();
    let task = tokio::spawn(leading.run(log.work("a"), stop.clone()));
    log.until(&["a"]).await;
    // Somebody else has it now, whatever that one thinks, and never renews it.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut lease = api.get(Role::Scheduler.lease()).await.expect("the lease");
        let spec = lease.spec.as_mut().expect("a spec");
        spec.holder_identity = Some("thief".into());
        let name = Role::Scheduler.lease();
        match api.replace(name, &PostParams::default(), &lease).await {
            Ok(_) => break,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
    while log.working.load(Ordering::SeqCst) > 0 {
        assert!(Instant::now() < deadline, "it goes on working");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    log.until(&["a", "a"]).await;
    stop.cancel();
    task.await.expect("its end");
}
