//! CertificateSigningRequests: who asks is the server's to say, and who approves or signs must be allowed to for that signer
//! (upstream's admission plugins CertificateApproval, CertificateSigning and CertificateSubjectRestriction).

use base64::Engine as _;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::Context;
use crate::auth::Decision;
use crate::object::text;
use crate::path::{RequestInfo, ResourceInfo};
use crate::pki::MASTERS;
use crate::status::ApiError;

const GROUP: &str = "certificates.k8s.io";
const PLURAL: &str = "certificatesigningrequests";
const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";

fn forbidden(request: &Value, why: &str) -> ApiError {
    ApiError::forbidden(GROUP, PLURAL, text(request, &["metadata", "name"]), why)
}

/// Notes who asks. Nobody becomes a super-user this way.
pub(super) fn create(context: &Context, request: &mut Value) -> Result<(), ApiError> {
    let identity = &context.identity;
    let spec = &mut request["spec"];
    spec["username"] = identity.user.as_str().into();
    spec["groups"] = json!(identity.groups);
    if let Some(spec) = spec.as_object_mut() {
        for key in ["uid", "extra"] {
            spec.remove(key);
        }
        if !identity.uid.is_empty() {
            spec.insert("uid".into(), identity.uid.as_str().into());
        }
        if !identity.extra.is_empty() {
            let extra: serde_json::Map<_, _> = identity
                .extra
                .iter()
                .map(|(key, values)| (key.clone(), json!(values)))
                .collect();
            spec.insert("extra".into(), extra.into());
        }
    }
    if spec["signerName"] == CLIENTS && asks_for(text(spec, &["request"]), MASTERS) {
        let why = format!("use of {CLIENTS} signer with {MASTERS} group is not allowed");
        return Err(forbidden(request, &why));
    }
    Ok(())
}

/// Whether the request (base64 of PEM) is for a member of the group. Validation says what is wrong with one that is none.
fn asks_for(request: &str, group: &str) -> bool {
    let pem = base64::engine::general_purpose::STANDARD
        .decode(request)
        .unwrap_or_default();
    let Ok((_, block)) = x509_parser::pem::parse_x509_pem(&pem) else {
        return false;
    };
    let Ok((_, parsed)) = X509CertificationRequest::from_der(&block.contents) else {
        return false;
    };
    let subject = &parsed.certification_request_info.subject;
    subject
        .iter_organization()
        .any(|name| name.as_str().is_ok_and(|name| name == group))
}

/// Whether whoever writes may approve or sign for the request's signer.
pub(super) fn update(context: &Context, new: &Value, old: &Value) -> Result<(), ApiError> {
    if !context.kind.is("certificates.k8s.io", PLURAL) {
        return Ok(());
    }
    let verb = match context.info.subresource.as_str() {
        "approval" => "approve",
        "status" => {
            let failed = |request: &Value| {
                crate::object::items(request, &["status", "conditions"])
                    .iter()
                    .any(|condition| condition["type"] == "Failed")
            };
            if new["status"]["certificate"] == old["status"]["certificate"]
                && failed(new) == failed(old)
            {
                return Ok(());
            }
            "sign"
        }
        _ => return Ok(()),
    };
    let signer = text(old, &["spec", "signerName"]);
    let domain = signer.split('/').next().unwrap_or_default();
    if may(context, verb, signer) || may(context, verb, &format!("{domain}/*")) {
        return Ok(());
    }
    let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
    Err(forbidden(old, &why))
}

fn may(context: &Context, verb: &str, signer: &str) -> bool {
    if context.identity.is_master() {
        return true;
    }
    let info = RequestInfo {
        verb: verb.into(),
        path: String::new(),
        resource: Some(ResourceInfo {
            group: GROUP.into(),
            version: "*".into(),
            resource: "signers".into(),
            name: signer.into(),
            ..ResourceInfo::default()
        }),
    };
    let authorizer = context.state.authorizer.read().clone();
    authorizer.authorize(&context.identity, &info) == Decision::Allow
}
