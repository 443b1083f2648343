//! The suite on Debian's etcd, and what only this store promises: others' writes, lost connections,
//! lost answers, logging in, certificates.

mod access;
mod away;
mod gate;
mod others;
mod server;

use futures::FutureExt;
use futures::future::BoxFuture;
use store::{Error, Store};

use self::server::Etcd;
use super::suite::{compaction, lists, put, refused, watches, writes};

macro_rules! suite {
    ($($module:ident::$name:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let etcd = Etcd::start();
            $module::$name(&etcd.store().await).await;
        }
    )*};
}

suite! {
    writes::revisions_and_versions_count_up,
    writes::a_write_happens_only_as_expected,
    writes::one_of_many_creators_wins,
    writes::concurrent_increments_add_up,
    writes::keys_and_values_have_limits,
    lists::a_prefix_is_a_prefix_of_bytes,
    lists::a_limit_says_what_remains,
    lists::pages_show_one_revision,
    lists::a_future_revision_is_refused,
    watches::a_watch_shows_past_and_future,
    watches::a_change_shows_before_and_after,
    watches::progress_ends_the_replay,
    watches::watches_are_independent,
    watches::nothing_is_lost_or_repeated_at_the_start,
    compaction::compaction_forgets_the_past_only,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_outlives_a_restart() {
    let etcd = Etcd::start();
    let options = etcd.options();
    let reopen = || -> BoxFuture<'static, Box<dyn Store>> {
        let options = options.clone();
        async move { Box::new(store::EtcdStore::open(options).await.unwrap()) as Box<dyn Store> }
            .boxed()
    };
    compaction::everything_outlives_a_restart(&reopen).await;
}

#[tokio::test]
async fn an_empty_etcd_is_at_revision_one() {
    let etcd = Etcd::start();
    let store = etcd.store().await;
    assert_eq!(store.revision(), 1);
    assert_eq!(store.range("", None, 0, None).await.unwrap().revision, 1);
    assert_eq!(put(&store, "/a", "").await.mod_revision, 2);
    assert_eq!(refused(&store, "", 0).await, Error::Compacted { oldest: 1 });
}
