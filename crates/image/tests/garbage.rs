//! What is removed when nothing names it, and what is not while someone is at work.

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use common::server::{Content, Server};
use common::{Chroot, Home, archive, file, import, is_root};
use engine::runner::{RunError, RunStep, Runner};
use image::{BuildRequest, Options, Removed, silent};
use tokio::sync::{Semaphore, mpsc};

/// Directories of layers, without the empty one that always is there.
fn layers(home: &Home) -> usize {
    std::fs::read_dir(home.path("images/layers"))
        .unwrap()
        .count()
        - 1
}

fn blobs(home: &Home) -> usize {
    std::fs::read_dir(home.path("images/blobs/sha256"))
        .unwrap()
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_takes_what_has_no_name_or_no_user() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    let one = |name: &'static str, content: &'static str| {
        import(&home.images, name, archive(&[file("a", content)]))
    };
    let first = one("plim-x", "1").await.unwrap();
    let second = one("plim-x", "2").await.unwrap();
    let used = one("plim-used", "3").await.unwrap();
    home.images.prepare(&used, "plim-c").unwrap();
    assert_eq!(
        (layers(&home), blobs(&home)),
        (3, 3),
        "the first lost its name, not its content"
    );
    let pruned = home.images.prune(false, |_| true).unwrap();
    assert_eq!(pruned[0], Removed::Deleted(first.id.clone()));
    assert_eq!((layers(&home), blobs(&home)), (2, 2));
    let pruned = home.images.prune(true, |_| true).unwrap();
    assert!(pruned.contains(&Removed::Deleted(second.id)), "{pruned:?}");
    assert!(
        home.images.resolve("plim-used").is_some(),
        "a container has it"
    );
    assert_eq!((layers(&home), blobs(&home)), (1, 1));
    home.images.remove_snapshot("plim-c").unwrap();
    home.images.prune(true, |_| true).unwrap();
    assert_eq!((layers(&home), blobs(&home)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_while_somebody_reads_the_directory() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    import(&home.images, "plim-x", archive(&[file("a", "1")]))
        .await
        .unwrap();
    let kept = home.images.keep_everything();
    home.images.remove("plim-x", true).unwrap();
    assert!(home.images.resolve("plim-x").is_none());
    home.images.prune(true, |_| true).unwrap();
    assert_eq!(
        (layers(&home), blobs(&home)),
        (1, 1),
        "still there to be read"
    );
    drop(kept);
    assert_eq!((layers(&home), blobs(&home)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_build_cache_is_bounded_and_can_be_emptied() {
    if !is_root() {
        return;
    }
    let home = Home::with(Options {
        cache_entries: 2,
        ..Options::default()
    });
    home.base().await;
    let dockerfile = "FROM plim-base\nRUN echo 1 > /1\nRUN echo 2 > /2\nRUN echo 3 > /3\n";
    let built = home.build(&[("Dockerfile", dockerfile)]).await;
    let image = built.image().clone();
    assert_eq!(
        home.build(&[("Dockerfile", dockerfile)]).await.cached(),
        0,
        "the first step is forgotten, so all are"
    );
    let failing = "FROM plim-base\nRUN echo x > /x\nRUN false\n";
    home.build(&[("Dockerfile", failing)]).await.error();
    home.images.prune(false, |_| true).unwrap();
    assert!(
        home.images.resolve(&image.id).is_none(),
        "no build tagged it"
    );
    assert_eq!(layers(&home), 2, "the base, and a step without an image");
    assert!(home.images.prune_build_cache().unwrap() > 0);
    assert_eq!(layers(&home), 1, "the base");
    assert_eq!(home.images.list().len(), 1);
}

/// Waits in every step until it is let go.
struct Gate {
    entered: Semaphore,
    go: Semaphore,
}

#[async_trait]
impl Runner for Gate {
    async fn run(&self, step: RunStep, output: mpsc::Sender<Bytes>) -> Result<i32, RunError> {
        self.entered.add_permits(1);
        self.go.acquire().await.unwrap().forget();
        Chroot.run(step, output).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_keeps_what_it_needs_while_others_clean_up() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let context = home.context(&[(
        "Dockerfile",
        "FROM plim-base AS a\nRUN --mount=type=cache,target=/c echo kept > /c/x && echo 1 > /1\nFROM plim-base\nRUN echo 2 > /2\nCOPY --from=a /1 /1\n",
    )]);
    let gate = Gate {
        entered: Semaphore::new(0),
        go: Semaphore::new(0),
    };
    let (sender, mut receiver) = mpsc::channel(64);
    let drain = async { while receiver.recv().await.is_some() {} };
    let request = BuildRequest {
        context,
        tags: vec!["plim-built".into()],
        ..BuildRequest::default()
    };
    let clean = async {
        for _ in 0..2 {
            gate.entered.acquire().await.unwrap().forget();
            home.images.remove("plim-base", true).ok();
            home.images.prune(true, |_| true).unwrap();
            home.images.prune_build_cache().unwrap();
            home.images.collect_garbage().unwrap();
            home.base().await;
            gate.go.add_permits(1);
        }
    };
    let (built, (), ()) = futures::join!(home.images.build(request, &gate, sender), drain, clean);
    let image = built.unwrap();
    assert_eq!(home.read(&image, "1").as_deref(), Some("1\n"));
    assert_eq!(home.read(&image, "2").as_deref(), Some("2\n"));
    home.images.remove("plim-built", false).unwrap();
    home.images.prune_build_cache().unwrap();
    assert_eq!(
        layers(&home),
        1,
        "the base; the rest went when the build was over"
    );
    assert_eq!(home.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_keeps_what_it_needs_while_others_clean_up() {
    let content = Content::new(&archive(&[file("a", "1")]), "gzip");
    let (entered, wait) = (
        Arc::new(Semaphore::new(0)),
        std::sync::mpsc::channel::<()>(),
    );
    let (go, waiting) = (wait.0, std::sync::Mutex::new(wait.1));
    let (signal, path) = (entered.clone(), content.layer_path());
    let server = Server::start(move |request| {
        if request.path.ends_with(&path) {
            signal.add_permits(1);
            tokio::task::block_in_place(|| waiting.lock().unwrap().recv().unwrap());
        }
        content.reply(request)
    })
    .await;
    let home = Home::new();
    let clean = async {
        entered.acquire().await.unwrap().forget();
        assert_eq!(blobs(&home), 1, "the configuration");
        home.images.prune(true, |_| true).unwrap();
        home.images.collect_garbage().unwrap();
        assert_eq!(blobs(&home), 1, "it is needed in a moment");
        go.send(()).unwrap();
    };
    let name = server.name("app");
    let (pulled, ()) = futures::join!(home.images.pull(&name, None, None, silent()), clean);
    let image = pulled.unwrap();
    assert_eq!((layers(&home), blobs(&home)), (1, 2));
    home.images.remove(&image.id, true).unwrap();
    assert_eq!((layers(&home), blobs(&home)), (0, 0));
}

/// An image from a registry of its own, with this in its only file.
async fn pulled(home: &Home, content: &str) -> image::Image {
    let content = Content::new(&archive(&[file("a", content)]), "gzip");
    let server = Server::start(move |request| content.reply(request)).await;
    let name = server.name("app");
    home.images.pull(&name, None, None, silent()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_made_of_what_can_be_had_again_the_longest_unused_first() {
    if !is_root() {
        return;
    }
    const NOW: Duration = Duration::ZERO;
    let mut home = Home::new();
    let local = |name: &'static str, content: &'static str| archive(&[file(name, content)]);
    let old = pulled(&home, "old").await;
    let used = pulled(&home, "used").await;
    let new = pulled(&home, "new").await;
    let built = import(&home.images, "plim-built", local("b", "1"))
        .await
        .unwrap();
    let named = pulled(&home, "named").await;
    home.images.tag(&named.id, "plim-mine").unwrap();
    let replaced = import(&home.images, "plim-x", local("c", "1"))
        .await
        .unwrap();
    let replacing = import(&home.images, "plim-x", local("c", "2"))
        .await
        .unwrap();
    home.images.prepare(&used, "plim-c").unwrap();
    // of two that were pulled the first was used last, which a restart remembers
    home.images.prepare(&old, "plim-d").unwrap();
    home.images.remove_snapshot("plim-d").unwrap();
    home.images.remember_uses().unwrap();
    home.reopen();

    let hour = Duration::from_secs(3600);
    let freed = home.images.free_space(u64::MAX, hour).unwrap();
    assert_eq!(freed, image::Freed::default(), "everything is too young");
    let kept = home.images.keep_everything();
    let freed = home.images.free_space(u64::MAX, NOW).unwrap();
    assert!(freed.busy && freed.images.is_empty(), "{freed:?}");
    drop(kept);

    let gone = |freed: image::Freed| -> Vec<String> {
        assert!(freed.bytes > 0 && !freed.busy);
        freed.images.into_iter().map(|(id, _)| id).collect()
    };
    let freed = home.images.free_space(1, NOW).unwrap();
    assert_eq!(gone(freed), [replaced.id], "what has no name is enough");
    let freed = home.images.free_space(1, NOW).unwrap();
    let names = &freed.images[0].1;
    assert!(
        names.contains(&new.tags[0]) && names.contains(&new.digests[0]),
        "{names:?}"
    );
    assert_eq!(gone(freed), [new.id]);
    let freed = home.images.free_space(u64::MAX, NOW).unwrap();
    assert_eq!(gone(freed), [old.id]);
    for image in [&built, &named, &replacing, &used] {
        assert!(home.images.resolve(&image.id).is_some(), "{:?}", image.tags);
    }
    home.images.remove_snapshot("plim-c").unwrap();
    let freed = home.images.free_space(u64::MAX, NOW).unwrap();
    assert_eq!(gone(freed), [used.id]);
    let freed = home.images.free_space(u64::MAX, NOW).unwrap();
    assert!(freed.images.is_empty(), "what was made here stays");
    assert_eq!((layers(&home), home.images.list().len()), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_build_cache_goes_before_images_that_were_pulled() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    home.base().await;
    let image = pulled(&home, "app").await;
    let failing = "FROM plim-base\nRUN echo x > /x\nRUN false\n";
    home.build(&[("Dockerfile", failing)]).await.error();
    assert_eq!(layers(&home), 3, "the base, what was pulled, and a step");
    let freed = home.images.free_space(1, Duration::ZERO).unwrap();
    assert!(freed.bytes > 0 && freed.images.is_empty(), "{freed:?}");
    assert_eq!(layers(&home), 2);
    let freed = home.images.free_space(1, Duration::ZERO).unwrap();
    assert_eq!(freed.images[0].0, image.id);
}
