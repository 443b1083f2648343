//! Writes as etcd's transactions, and what their answers mean. Pure.

use bytes::Bytes;

use super::client::{signed, unsigned};
use super::proto::{
    self, Compare, DeleteRangeRequest, EQUAL, GREATER, PutRequest, RangeRequest, RequestOp,
    TARGET_MOD, TARGET_VERSION, TxnRequest, TxnResponse, compare, request_op, response_op,
};
use crate::{Error, Expect, KeyValue, Revision};

/// Sets the key when `expect` holds, and reads what is there afterwards (only its revisions) or
/// instead.
pub(super) fn put(key: &str, value: Bytes, expect: Expect) -> TxnRequest {
    TxnRequest {
        compare: conditions(key, expect),
        success: vec![
            op(request_op::Request::Put(PutRequest {
                key: key.as_bytes().to_vec(),
                value,
            })),
            read(key, true),
        ],
        failure: vec![read(key, false)],
    }
}

/// What [`put`] did.
pub(super) fn put_answer(value: Bytes, answer: TxnResponse) -> Result<KeyValue, Error> {
    let found = found(&answer);
    if !answer.succeeded {
        return Err(Error::Conflict {
            current: found.and_then(key_value),
        });
    }
    let stored = found.and_then(key_value).ok_or_else(malformed)?;
    Ok(KeyValue { value, ..stored })
}

/// Deletes the key when `expect` holds, and reads what is there instead.
pub(super) fn delete(key: &str, expect: Expect) -> TxnRequest {
    let expect = match expect {
        Expect::Any => vec![exists(key)],
        // Never deletes anything: what is there is in the way, what is not there is not found.
        Expect::Absent => vec![exists(key), version(key, EQUAL, 0)],
        Expect::Revision(_) => conditions(key, expect),
    };
    TxnRequest {
        compare: expect,
        success: vec![op(request_op::Request::Delete(DeleteRangeRequest {
            key: key.as_bytes().to_vec(),
            prev_kv: true,
        }))],
        failure: vec![read(key, false)],
    }
}

/// What [`delete`] did.
pub(super) fn delete_answer(answer: TxnResponse) -> Result<(KeyValue, Revision), Error> {
    if !answer.succeeded {
        return Err(match found(&answer).and_then(key_value) {
            Some(current) => Error::Conflict {
                current: Some(current),
            },
            None => Error::NotFound,
        });
    }
    let revision = answer
        .header
        .as_ref()
        .map_or(0, |header| unsigned(header.revision));
    let last = answer.responses.iter().find_map(|op| match &op.response {
        Some(response_op::Response::Delete(deleted)) => deleted.prev_kvs.first(),
        _ => None,
    });
    let last = last.and_then(key_value).ok_or_else(malformed)?;
    Ok((last, revision))
}

/// A key of etcd as this store has it; `None` when it is not text.
pub(super) fn key_value(kv: &proto::KeyValue) -> Option<KeyValue> {
    Some(KeyValue {
        key: std::str::from_utf8(&kv.key).ok()?.to_string(),
        value: Bytes::copy_from_slice(&kv.value),
        create_revision: unsigned(kv.create_revision),
        mod_revision: unsigned(kv.mod_revision),
        version: unsigned(kv.version),
    })
}

fn conditions(key: &str, expect: Expect) -> Vec<Compare> {
    match expect {
        Expect::Any => Vec::new(),
        Expect::Absent => vec![version(key, EQUAL, 0)],
        // For etcd a key that does not exist is at revision 0.
        Expect::Revision(revision) => vec![
            exists(key),
            Compare {
                result: EQUAL,
                target: TARGET_MOD,
                key: key.as_bytes().to_vec(),
                with: Some(compare::With::ModRevision(signed(revision))),
            },
        ],
    }
}

fn exists(key: &str) -> Compare {
    version(key, GREATER, 0)
}

pub(super) fn version(key: &str, result: i32, version: i64) -> Compare {
    Compare {
        result,
        target: TARGET_VERSION,
        key: key.as_bytes().to_vec(),
        with: Some(compare::With::Version(version)),
    }
}

pub(super) fn read(key: &str, keys_only: bool) -> RequestOp {
    op(request_op::Request::Range(RangeRequest {
        key: key.as_bytes().to_vec(),
        keys_only,
        ..RangeRequest::default()
    }))
}

pub(super) fn op(request: request_op::Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// The key that the transaction read.
pub(super) fn found(answer: &TxnResponse) -> Option<&proto::KeyValue> {
    answer.responses.iter().find_map(|op| match &op.response {
        Some(response_op::Response::Range(range)) => range.kvs.first(),
        _ => None,
    })
}

fn malformed() -> Error {
    Error::Undecided {
        attempted: "read what etcd answered to a write".into(),
        reason: "the answer has not the form that etcd's API promises".into(),
    }
}
