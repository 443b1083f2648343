//! The row of CertificateSigningRequests.

use super::super::names::path_segment;
use super::super::{Kind, Subresource, columns, strategy, validate};
use super::{BASE, field};

pub(super) const SIGNING_REQUEST: Kind = Kind {
    group: "certificates.k8s.io",
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short_names: &["csr"],
    namespaced: false,
    storage: "/registry/certificatesigningrequests",
    storage_version: "certificates.k8s.io/v1",
    status: true,
    subresources: &[Subresource {
        name: "approval",
        kind: "CertificateSigningRequest",
        group: "certificates.k8s.io",
        version: "v1",
        verbs: &["get", "patch", "update"],
    }],
    names: path_segment,
    fields: &[field("spec.signerName", &["spec", "signerName"])],
    columns: columns::SIGNING_REQUEST,
    cells: columns::signing_request,
    prepare_create: strategy::drop_status,
    prepare_update: strategy::keep_spec,
    validate: validate::signing_request,
    status_rules: validate::signing_request_status,
    ..BASE
};
