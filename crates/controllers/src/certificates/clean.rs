//! How long a request stays (upstream `pkg/controller/certificates/cleaner`). Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::{certificate, has};
use crate::objects;

/// Since it was approved, denied or failed.
const DECIDED: SignedDuration = SignedDuration::from_hours(1);
/// Since it was made, when nobody decided.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// For how long the request may stay; zero when it should go.
pub fn left(request: &CertificateSigningRequest, now: Timestamp) -> Duration {
    let end = end(request);
    Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO)
}

fn end(request: &CertificateSigningRequest) -> Timestamp {
    let made = objects::created(request);
    let pending = made.checked_add(PENDING).unwrap_or(Timestamp::MAX);
    let status = request.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let issued = certificate(request).is_some();
    let decided = conditions.into_iter().flatten().filter(|condition| {
        match condition.type_.as_str() {
            // one that waits for its signer waits as long as one that waits for its approval
            "Approved" => issued,
            "Denied" | "Failed" => true,
            _ => false,
        }
    });
    let ends = decided.map(|condition| {
        let at = condition
            .last_update_time
            .as_ref()
            .map_or(made, |time| time.0);
        at.checked_add(DECIDED).unwrap_or(Timestamp::MAX)
    });
    let expired = certificate(request)
        .filter(|_| has(request, "Approved"))
        .and_then(not_after);
    let earliest = ends.chain(expired).min();
    match earliest {
        Some(end) => end,
        None => pending,
    }
}

/// When the first certificate of a PEM text ends.
fn not_after(pem: &[u8]) -> Option<Timestamp> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let parsed = block.parse_x509().ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn old_requests_go() {
        let at = |condition: Option<&str>, certificate: bool| -> String {
            let conditions: Vec<Value> = condition
                .into_iter()
                .map(|kind| json!({"type": kind, "status": "True", "lastUpdateTime": "2026-01-01T02:00:00Z"}))
                .collect();
            let mut request = json!({
                "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"request": "", "signerName": "s", "usages": []},
                "status": {"conditions": conditions},
            });
            if certificate {
                // "hello": what cannot be read does not end
                request["status"]["certificate"] = "aGVsbG8=".into();
            }
            let request = serde_json::from_value(request).expect("a request");
            end(&request).to_string()
        };
        assert_eq!(at(None, false), "2026-01-02T00:00:00Z");
        assert_eq!(at(Some("Denied"), false), "2026-01-01T03:00:00Z");
        assert_eq!(at(Some("Failed"), false), "2026-01-01T03:00:00Z");
        assert_eq!(at(Some("Approved"), true), "2026-01-01T03:00:00Z");
        assert_eq!(at(Some("Approved"), false), "2026-01-02T00:00:00Z");
    }
}
