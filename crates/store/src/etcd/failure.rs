//! What an error of etcd or of the connection means: nothing was done, or nobody knows.

use std::error::Error as _;

use tonic::{Code, ConnectError, Status};

use crate::Error;

/// Why a request has no answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub reason: String,
    pub kind: Kind,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The request did not reach etcd, or etcd turned it away before doing anything: another
    /// member, or a later attempt, may do it.
    NotDone,
    /// The connection was lost, or the time ran out, with the request under way.
    Unknown,
    /// The revision was compacted.
    Compacted,
    /// The revision does not exist yet.
    Future,
    /// The token has expired or the users have changed: log in again.
    LogIn,
    /// The answer is larger than what is taken.
    TooLarge,
    /// etcd is full.
    NoSpace,
    /// The request is larger than etcd takes (`--max-request-bytes`).
    RequestTooLarge,
    /// etcd will never do it.
    Refused,
}

impl Failure {
    pub fn timeout(limit: std::time::Duration) -> Self {
        Self {
            reason: format!("etcd did not answer within {} ms", limit.as_millis()),
            kind: Kind::Unknown,
        }
    }

    /// The error of a request that changes nothing.
    pub fn reading(self, attempted: &str) -> Error {
        let Self { reason, kind } = self;
        let attempted = attempted.to_string();
        match kind {
            Kind::Refused | Kind::RequestTooLarge | Kind::LogIn => refused(attempted, reason),
            _ => Error::Unavailable { attempted, reason },
        }
    }

    /// The error of a request that changes something.
    pub fn writing(self, attempted: String, size_bytes: usize) -> Error {
        let Self { reason, kind } = self;
        match kind {
            Kind::Unknown | Kind::TooLarge => Error::Undecided { attempted, reason },
            Kind::NotDone => Error::Unavailable { attempted, reason },
            Kind::NoSpace => Error::NoSpace {
                attempted,
                reason: format!(
                    "etcd has used up its space ({reason}); compact and defragment it, or raise \
                     --quota-backend-bytes, then `etcdctl alarm disarm`"
                ),
            },
            Kind::RequestTooLarge => Error::TooLarge {
                what: "request to etcd (see its --max-request-bytes)",
                size_bytes,
                limit_bytes: crate::VALUE_BYTES_MAX,
            },
            Kind::Refused | Kind::LogIn | Kind::Compacted | Kind::Future => {
                refused(attempted, reason)
            }
        }
    }
}

fn refused(attempted: String, reason: String) -> Error {
    Error::Refused {
        attempted,
        reason: format!("etcd refused: {reason}"),
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self {
            kind: kind(&status),
            reason: reason(&status),
        }
    }
}

fn kind(status: &Status) -> Kind {
    let message = status.message();
    if not_connected(status) {
        return Kind::NotDone;
    }
    if status.code() == Code::OutOfRange && message.contains("message length too large") {
        return Kind::TooLarge;
    }
    if message.contains("database space exceeded") {
        return Kind::NoSpace;
    }
    // What does not come from etcd itself says nothing about what etcd did.
    let Some(said) = message.strip_prefix("etcdserver: ") else {
        return match status.code() {
            Code::Unimplemented => Kind::Refused,
            _ => Kind::Unknown,
        };
    };
    match (status.code(), said) {
        (_, "mvcc: required revision has been compacted") => Kind::Compacted,
        (_, "mvcc: required revision is a future revision") => Kind::Future,
        (_, "invalid auth token" | "revision of auth store is old") => Kind::LogIn,
        (_, "request is too large") => Kind::RequestTooLarge,
        (_, "no leader" | "too many requests") => Kind::NotDone,
        (
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::NotFound
            | Code::Unimplemented,
            _,
        ) => Kind::Refused,
        _ => Kind::Unknown,
    }
}

/// Whether there was no connection that the request could have gone through.
fn not_connected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The message with its causes: tonic's own is only "transport error".
fn reason(status: &Status) -> String {
    const CHARACTERS_MAX: usize = 400;
    let mut text = status.message().to_string();
    let mut source = status.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    if text.is_empty() {
        text = status.code().description().to_string();
    }
    text.chars().take(CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_etcd_said_is_known_not_to_have_happened() {
        let cases = [
            (
                Code::Unavailable,
                "etcdserver: request timed out",
                Kind::Unknown,
            ),
            (
                Code::Unavailable,
                "etcdserver: server stopped",
                Kind::Unknown,
            ),
            (Code::Unavailable, "transport error", Kind::Unknown),
            (
                Code::Unknown,
                "h2 protocol error: error reading a body",
                Kind::Unknown,
            ),
            (Code::ResourceExhausted, "h2 protocol error", Kind::Unknown),
            (Code::PermissionDenied, "h2 protocol error", Kind::Unknown),
            (Code::Cancelled, "operation was canceled", Kind::Unknown),
            (Code::Unavailable, "etcdserver: no leader", Kind::NotDone),
            (
                Code::ResourceExhausted,
                "etcdserver: too many requests",
                Kind::NotDone,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Kind::NoSpace,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                Kind::RequestTooLarge,
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                Kind::Compacted,
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
                Kind::Future,
            ),
            (
                Code::Unauthenticated,
                "etcdserver: invalid auth token",
                Kind::LogIn,
            ),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                Kind::Refused,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                Kind::Refused,
            ),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5, the limit is: 4",
                Kind::TooLarge,
            ),
            (
                Code::Unimplemented,
                "unknown service etcdserverpb.KV",
                Kind::Refused,
            ),
        ];
        for (code, message, expected) in cases {
            assert_eq!(kind(&Status::new(code, message)), expected, "{message}");
        }
    }

    #[test]
    fn a_lost_answer_is_never_told_as_a_failure() {
        let failure = |kind| Failure {
            reason: "r".into(),
            kind,
        };
        let write = |kind| failure(kind).writing("put k".into(), 9);
        assert!(matches!(write(Kind::Unknown), Error::Undecided { .. }));
        assert!(matches!(write(Kind::TooLarge), Error::Undecided { .. }));
        assert!(matches!(write(Kind::NotDone), Error::Unavailable { .. }));
        assert!(matches!(write(Kind::NoSpace), Error::NoSpace { .. }));
        assert!(matches!(
            failure(Kind::Unknown).reading("get"),
            Error::Unavailable { .. }
        ));
    }
}
