//! Validation of CertificateSigningRequests, and who may write which part of their status (upstream
//! `pkg/apis/certificates/validation`, `pkg/registry/certificates`).

use std::collections::HashSet;

use base64::Engine as _;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::{Problems, names};
use crate::object::{at, items, text};

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const SECONDS_MIN: i64 = 600;
const LEGACY: &str = "kubernetes.io/legacy-unknown";
/// Conditions that say True or are not there.
const DECISIONS: [&str; 3] = ["Approved", "Denied", "Failed"];
/// Written by the `approval` subresource, the others by `status`.
const APPROVALS: [&str; 2] = ["Approved", "Denied"];

pub fn signing_request(object: &Value, problems: &mut Problems) {
    let spec = &object["spec"];
    if let Err(why) = parse(text(spec, &["request"])) {
        problems.invalid("spec.request", &spec["request"], &why);
    }
    let usages = items(spec, &["usages"]);
    if usages.is_empty() {
        problems.required("spec.usages", "");
    }
    for (n, usage) in usages.iter().enumerate() {
        let field = format!("spec.usages[{n}]");
        if !USAGES.contains(&usage.as_str().unwrap_or_default()) {
            problems.not_supported(&field, usage, &USAGES);
        }
        if usages[..n].contains(usage) {
            problems.duplicate(&field, usage);
        }
    }
    let signer = text(spec, &["signerName"]);
    if signer == LEGACY {
        let why = "the legacy signerName is not allowed via this API version";
        problems.invalid("spec.signerName", &signer.into(), why);
    } else {
        signer_name(signer, "spec.signerName", problems);
    }
    if let Some(seconds) = at(spec, &["expirationSeconds"]).and_then(Value::as_i64)
        && seconds < SECONDS_MIN
    {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        problems.invalid("spec.expirationSeconds", &seconds.into(), why);
    }
    conditions(items(object, &["status", "conditions"]), problems);
}

fn signer_name(signer: &str, field: &str, problems: &mut Problems) {
    if signer.is_empty() {
        return problems.required(field, "");
    }
    let segments: Vec<&str> = signer.split('/').collect();
    let [domain, path] = segments[..] else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return problems.invalid(field, &signer.into(), why);
    };
    if path.is_empty() {
        let why = "validating label \"\": path is empty";
        problems.invalid(field, &signer.into(), why);
    }
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        problems.invalid(field, &domain.into(), why);
    }
    for part in [domain, path].into_iter().filter(|part| !part.is_empty()) {
        for why in names::dns1123_subdomain(part) {
            let why = format!("validating label {part:?}: {why}");
            problems.invalid(field, &signer.into(), &why);
        }
    }
}

/// Reads a request (base64 of PEM) and checks that whoever made it has the key.
fn parse(request: &str) -> Result<(), String> {
    let pem = base64::engine::general_purpose::STANDARD
        .decode(request)
        .map_err(|error| format!("must be base64: {error}"))?;
    let block = x509_parser::pem::parse_x509_pem(&pem)
        .ok()
        .map(|(_, block)| block)
        .filter(|block| block.label == "CERTIFICATE REQUEST")
        .ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let (_, parsed) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| format!("asn1: structure error: {error}"))?;
    parsed
        .verify_signature()
        .map_err(|error| format!("x509: the request's signature is not its key's: {error}"))
}

fn conditions(conditions: &[Value], problems: &mut Problems) {
    let mut seen = HashSet::new();
    let mut decided: Option<&str> = None;
    for (n, condition) in conditions.iter().enumerate() {
        let field = format!("status.conditions[{n}]");
        let kind = text(condition, &["type"]);
        if kind.is_empty() {
            problems.required(&format!("{field}.type"), "");
        }
        let status = &condition["status"];
        let of_status = format!("{field}.status");
        match status.as_str().unwrap_or_default() {
            "True" => {}
            "" => problems.required(&of_status, ""),
            "False" | "Unknown" => {
                if DECISIONS.contains(&kind) {
                    problems.not_supported(&of_status, status, &["True"]);
                }
            }
            _ => problems.not_supported(&of_status, status, &["False", "True", "Unknown"]),
        }
        if APPROVALS.contains(&kind) {
            if decided.is_some_and(|decided| decided != kind) {
                let why = "Approved and Denied conditions are mutually exclusive";
                problems.invalid(&format!("{field}.type"), &kind.into(), why);
            }
            decided = Some(kind);
        }
        if !seen.insert(kind) {
            problems.duplicate(&format!("{field}.type"), &kind.into());
        }
    }
}

/// Approvals are written by `approval`, everything else by `status`; neither takes a condition or a certificate away.
pub fn signing_request_status(
    new: &mut Value,
    old: &Value,
    subresource: &str,
    problems: &mut Problems,
) {
    let approval = subresource == "approval";
    let given = items(new, &["status", "conditions"]).to_vec();
    let before = items(old, &["status", "conditions"]);
    let ours = |condition: &&Value| APPROVALS.contains(&text(condition, &["type"])) == approval;
    if approval {
        let certificate = at(old, &["status", "certificate"]).cloned();
        match (certificate, new["status"].as_object_mut()) {
            (Some(certificate), Some(status)) => {
                drop(status.insert("certificate".into(), certificate));
            }
            (None, Some(status)) => drop(status.remove("certificate")),
            (_, None) => new["status"] = old["status"].clone(),
        }
    }
    let kept = before.iter().filter(|condition| !ours(condition)).cloned();
    let written = given
        .iter()
        .filter(ours)
        .map(|condition| stamped(condition, before));
    let merged: Vec<Value> = kept.chain(written).collect();
    for condition in before.iter().filter(ours) {
        let kind = &condition["type"];
        if !merged.iter().any(|one| one["type"] == *kind) {
            let why = format!(
                "updates may not remove a condition of type {:?}",
                kind.as_str().unwrap_or_default()
            );
            problems.forbidden("status.conditions", &why);
        }
    }
    conditions(&merged, problems);
    if let Some(status) = new["status"].as_object_mut() {
        match merged.is_empty() {
            true => drop(status.remove("conditions")),
            false => drop(status.insert("conditions".into(), json!(merged))),
        }
    }
    certificate(new, old, problems);
}

fn certificate(new: &Value, old: &Value, problems: &mut Problems) {
    let field = "status.certificate";
    let (given, before) = (
        text(new, &["status", "certificate"]),
        text(old, &["status", "certificate"]),
    );
    if !before.is_empty() && given != before {
        let why = match given {
            "" => "updates may not clear existing certificate content",
            _ => "updates may not modify existing certificate content",
        };
        return problems.forbidden(field, why);
    }
    if given.is_empty() || given == before {
        return;
    }
    let pem = base64::engine::general_purpose::STANDARD
        .decode(given)
        .unwrap_or_default();
    let blocks: Vec<_> = x509_parser::pem::Pem::iter_from_buffer(&pem).collect();
    if blocks.is_empty() {
        let why = "must contain at least one CERTIFICATE PEM block";
        return problems.invalid(field, &new["status"]["certificate"], why);
    }
    for (n, block) in blocks.iter().enumerate() {
        let why = match block {
            Ok(block) if block.label != "CERTIFICATE" => format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.label
            ),
            Ok(block) if block.parse_x509().is_err() => {
                format!("unable to parse certificate of PEM block {n}")
            }
            Ok(_) => continue,
            Err(error) => format!("unable to decode PEM block {n}: {error}"),
        };
        problems.invalid(field, &new["status"]["certificate"], &why);
    }
}

/// A condition with its times: when it was written last, and when it began to say what it says.
fn stamped(condition: &Value, before: &[Value]) -> Value {
    let mut condition = condition.clone();
    let old = before.iter().find(|old| old["type"] == condition["type"]);
    let same = old.is_some_and(|old| {
        ["status", "reason", "message"]
            .iter()
            .all(|key| old.get(key) == condition.get(key))
    });
    let now: Value = crate::time::now().into();
    let changed_at = match old {
        Some(old) if old["status"] == condition["status"] => {
            at(old, &["lastTransitionTime"]).unwrap_or(&now).clone()
        }
        _ => now.clone(),
    };
    if at(&condition, &["lastTransitionTime"]).is_none() {
        condition["lastTransitionTime"] = changed_at;
    }
    if at(&condition, &["lastUpdateTime"]).is_none() {
        let last = old
            .filter(|_| same)
            .and_then(|old| at(old, &["lastUpdateTime"]));
        condition["lastUpdateTime"] = last.unwrap_or(&now).clone();
    }
    condition
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::default();
        let request = params.serialize_request(&key).expect("a request");
        let pem = request.pem().expect("PEM");
        base64::engine::general_purpose::STANDARD.encode(pem)
    }

    fn said(object: &Value) -> Vec<String> {
        crate::registry::validate::said(|problems| signing_request(object, problems))
    }

    #[test]
    fn requests() {
        let object = |request: &str, signer: &str, usages: Value, seconds: i64| json!({"spec": {"request": request, "signerName": signer, "usages": usages, "expirationSeconds": seconds}});
        let request = request();
        let auth = json!(["client auth"]);
        assert_eq!(
            said(&object(&request, "example.com/s", auth.clone(), 600)),
            [""; 0]
        );
        let told = said(&object("aGVsbG8=", "s", json!(["fun", "fun"]), 599));
        assert_eq!(told.len(), 6, "{told:?}");
        assert!(told[0].ends_with("PEM block type must be CERTIFICATE REQUEST"));
        assert_eq!(
            told[4],
            "spec.signerName: Invalid value: \"s\": must be a fully qualified domain and path of the form 'example.com/signer-name'"
        );
        assert_eq!(
            said(&object(&request, LEGACY, auth.clone(), 600)),
            [
                "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version"
            ]
        );
        // one bit of the key's name is another
        let mut forged = base64::engine::general_purpose::STANDARD
            .decode(&request)
            .expect("base64");
        let middle = forged.len() / 2;
        forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
        let forged = base64::engine::general_purpose::STANDARD.encode(forged);
        assert_eq!(said(&object(&forged, "example.com/s", auth, 600)).len(), 1);
    }

    #[test]
    fn each_subresource_writes_its_own() {
        let condition = |kind: &str| json!({"type": kind, "status": "True"});
        let write = |subresource: &str, old: &Value, status: Value| {
            let mut new = json!({"status": status});
            let mut problems = Problems::default();
            signing_request_status(&mut new, old, subresource, &mut problems);
            let kinds: Vec<String> = items(&new, &["status", "conditions"])
                .iter()
                .map(|c| text(c, &["type"]).to_owned())
                .collect();
            (kinds, problems.0.len())
        };
        let none = json!({"status": {}});
        let both = json!({"conditions": [condition("Approved"), condition("Failed")]});
        assert_eq!(
            write("approval", &none, both.clone()),
            (vec!["Approved".into()], 0)
        );
        assert_eq!(
            write("status", &none, both.clone()),
            (vec!["Failed".into()], 0)
        );
        let approved = json!({"status": {"conditions": [condition("Approved")]}});
        assert_eq!(
            write("status", &approved, json!({})),
            (vec!["Approved".into()], 0)
        );
        assert_eq!(write("approval", &approved, json!({})), (vec![], 1));
        let denied = json!({"conditions": [condition("Approved"), condition("Denied")]});
        assert_eq!(write("approval", &approved, denied).1, 1);
        let stamped = stamped(&condition("Approved"), &[]);
        assert!(stamped["lastUpdateTime"].is_string());
    }
}
