//! CertificateSigningRequests: those that were approved for one of Kubernetes' own signers are checked and signed, and old
//! ones go (upstream's csrsigning and csrcleaner controllers). Nothing is approved by itself.

mod check;
mod clean;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::{Controller, watcher};
use tokio_util::sync::CancellationToken;

use crate::drive::drive;
use crate::error::{Error, is_not_found};
use crate::informer::Informer;
use crate::objects;
use crate::shared::Shared;

/// How long certificates are valid whose request does not say.
const VALIDITY: SignedDuration = SignedDuration::from_hours(365 * 24);
/// The shortest that is signed.
const SHORTEST: SignedDuration = SignedDuration::from_mins(10);
/// Clocks may be behind by so much.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// What is valid for less keeps its whole length after now.
const SHORT: SignedDuration = SignedDuration::from_hours(8);

/// What is to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The request, PEM.
    pub request: &'a [u8],
    /// Upstream's names of what the certificate is for.
    pub usages: &'a [String],
    /// Valid from then.
    pub from: Timestamp,
    /// Until then.
    pub until: Timestamp,
}

type Sign = dyn Fn(&Order<'_>) -> Result<String, String> + Send + Sync;

/// Signs with the cluster's authority, whose key this crate never sees.
#[derive(Clone)]
pub struct Signer(Arc<Sign>);

impl Signer {
    /// `sign` returns the certificate as PEM, or why there is none.
    pub fn new(
        sign: impl Fn(&Order<'_>) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(sign))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Signer")
    }
}

/// Runs the controller until `shutdown`. Without a signer it only takes old requests away.
pub async fn run(shared: Shared, signer: Option<Signer>, shutdown: CancellationToken) {
    let requests: Informer<CertificateSigningRequest> = Informer::start(
        Api::all(shared.client.clone()),
        watcher::Config::default().any_semantic(),
        |_| Vec::new(),
        |_| {},
        shutdown.clone(),
    );
    if !requests.ready().await {
        return;
    }
    let controller = Controller::for_shared_stream(requests.stream(), requests.store());
    let context = Arc::new(Context {
        api: Api::all(shared.client),
        signer,
    });
    drive("certificates", controller, shutdown, move |request| {
        let context = context.clone();
        async move { context.reconcile(&request, Timestamp::now()).await }
    })
    .await;
}

struct Context {
    api: Api<CertificateSigningRequest>,
    signer: Option<Signer>,
}

impl Context {
    async fn reconcile(
        &self,
        request: &CertificateSigningRequest,
        now: Timestamp,
    ) -> Result<Option<Duration>, Error> {
        if objects::is_terminating(request) {
            return Ok(None);
        }
        let left = clean::left(request, now);
        if left.is_zero() {
            self.delete(request).await?;
            return Ok(None);
        }
        if let (Some(signer), true) = (&self.signer, waits(request)) {
            self.answer(signer, request, now).await?;
        }
        Ok(Some(left))
    }

    /// Signs, or says what is wrong with it for good.
    async fn answer(
        &self,
        signer: &Signer,
        request: &CertificateSigningRequest,
        now: Timestamp,
    ) -> Result<(), Error> {
        let spec = &request.spec;
        let usages = spec.usages.as_deref().unwrap_or_default();
        let mut changed = request.clone();
        let status = changed
            .status
            .get_or_insert_with(CertificateSigningRequestStatus::default);
        match check::check(&spec.signer_name, &spec.request.0, usages) {
            check::Verdict::NotOurs => return Ok(()),
            check::Verdict::Wrong(why) => {
                let failed = failure("SignerValidationFailure", why, now);
                status.conditions.get_or_insert_default().push(failed);
            }
            check::Verdict::Fine => {
                let (from, until) = validity(spec.expiration_seconds, now);
                let order = Order {
                    request: &spec.request.0,
                    usages,
                    from,
                    until,
                };
                match (signer.0)(&order) {
                    Ok(pem) => status.certificate = Some(ByteString(pem.into_bytes())),
                    Err(why) => {
                        return Err(Error::Other {
                            action: "sign CertificateSigningRequest",
                            object: objects::name(request).to_owned(),
                            why,
                        });
                    }
                }
            }
        }
        let written = self
            .api
            .replace_status(objects::name(request), &PostParams::default(), &changed)
            .await;
        match written {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => {
                let what = "write the status of CertificateSigningRequest";
                Err(Error::api(what, objects::name(request))(error))
            }
        }
    }

    async fn delete(&self, request: &CertificateSigningRequest) -> Result<(), Error> {
        let same = DeleteParams {
            preconditions: Some(Preconditions {
                uid: request.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api.delete(objects::name(request), &same).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => {
                let what = "delete CertificateSigningRequest";
                Err(Error::api(what, objects::name(request))(error))
            }
        }
    }
}

/// Whether the request has a condition of this type that holds.
fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    let status = request.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == kind && condition.status == "True")
}

fn certificate(request: &CertificateSigningRequest) -> Option<&[u8]> {
    let status = request.status.as_ref()?;
    let certificate = status.certificate.as_ref()?;
    (!certificate.0.is_empty()).then_some(&certificate.0)
}

/// Approved, and neither signed nor failed yet.
fn waits(request: &CertificateSigningRequest) -> bool {
    has(request, "Approved")
        && !has(request, "Denied")
        && !has(request, "Failed")
        && certificate(request).is_none()
}

fn failure(reason: &str, message: String, now: Timestamp) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: "Failed".into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: None,
    }
}

/// From when until when a certificate is valid that should be so for these seconds.
fn validity(seconds: Option<i32>, now: Timestamp) -> (Timestamp, Timestamp) {
    let length = match seconds {
        None => VALIDITY,
        Some(seconds) => SignedDuration::from_secs(i64::from(seconds)).clamp(SHORTEST, VALIDITY),
    };
    let from = now - BACKDATE;
    let until = if length < SHORT {
        now + length
    } else {
        from + length
    };
    (from, until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (seconds, from, until) in [
            (None, "2025-12-31T23:55:00Z", "2026-12-31T23:55:00Z"),
            (Some(3600), "2025-12-31T23:55:00Z", "2026-01-01T01:00:00Z"),
            (Some(1), "2025-12-31T23:55:00Z", "2026-01-01T00:10:00Z"),
            (Some(86_400), "2025-12-31T23:55:00Z", "2026-01-01T23:55:00Z"),
            (
                Some(i32::MAX),
                "2025-12-31T23:55:00Z",
                "2026-12-31T23:55:00Z",
            ),
        ] {
            let (start, end) = validity(seconds, now);
            assert_eq!(
                (start.to_string(), end.to_string()),
                (from.into(), until.into())
            );
        }
    }
}
