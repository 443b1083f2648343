//! Compaction from time to time, as upstream's API servers do it: whoever moves the key
//! `compact_rev_key` on compacts, to the revision that it saw one interval before. So several API
//! servers (also stock ones) on one etcd compact once, not once each.
//!
//! Source: `k8s.io/apiserver/pkg/storage/etcd3/compact.go`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::client::{Client, unsigned};
use super::failure::{Failure, Kind};
use super::proto::{EQUAL, PutRequest, TxnRequest, request_op};
use super::txn;
use crate::Revision;

const KEY: &str = "compact_rev_key";

/// Compacts every `interval`, for ever.
pub(super) async fn run(client: Arc<Client>, interval: Duration) {
    let (mut round, mut revision) = (0, 0);
    loop {
        tokio::time::sleep(interval).await;
        match compact(&client, round, revision).await {
            Ok(next) => (round, revision) = next,
            Err(failure) => {
                tracing::warn!(reason = failure.reason, "etcd could not be compacted");
            }
        }
    }
}

/// One round: the next one's number, and the revision to compact to then.
async fn compact(
    client: &Client,
    round: i64,
    revision: Revision,
) -> Result<(i64, Revision), Failure> {
    let answer = client
        .txn(TxnRequest {
            compare: vec![txn::version(KEY, EQUAL, round)],
            success: vec![txn::op(request_op::Request::Put(PutRequest {
                key: KEY.into(),
                value: Bytes::from(revision.to_string()),
            }))],
            failure: vec![txn::read(KEY, false)],
        })
        .await?;
    let current = answer
        .header
        .as_ref()
        .map_or(0, |header| unsigned(header.revision));
    if !answer.succeeded {
        // Somebody else compacted; take part from where that one is.
        let round = txn::found(&answer).map_or(0, |kv| kv.version);
        return Ok((round, current));
    }
    if revision > 0 {
        match client.compact(revision).await {
            Ok(()) => tracing::debug!(revision, "etcd was compacted"),
            Err(failure) if failure.kind == Kind::Compacted => {}
            Err(failure) => {
                tracing::warn!(reason = failure.reason, "etcd could not be compacted");
            }
        }
    }
    Ok((round + 1, current))
}
