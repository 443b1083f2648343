//! The rows of webhook configurations and admission policies, which are kept and checked and do not act.

use super::super::{Kind, columns, defaults, strategy, validate};
use super::BASE;

const ADMISSION: Kind = Kind {
    group: "admissionregistration.k8s.io",
    storage_version: "admissionregistration.k8s.io/v1",
    categories: &["api-extensions"],
    namespaced: false,
    generation: true,
    ..BASE
};

pub(super) const MUTATING_WEBHOOK: Kind = Kind {
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    singular: "mutatingwebhookconfiguration",
    storage: "/registry/mutatingwebhookconfigurations",
    columns: columns::WEBHOOKS,
    cells: columns::webhooks,
    defaults: defaults::mutating_webhooks,
    prepare_update: strategy::webhooks_update,
    validate: validate::webhooks,
    ..ADMISSION
};

pub(super) const VALIDATING_WEBHOOK: Kind = Kind {
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    singular: "validatingwebhookconfiguration",
    storage: "/registry/validatingwebhookconfigurations",
    columns: columns::WEBHOOKS,
    cells: columns::webhooks,
    defaults: defaults::validating_webhooks,
    prepare_update: strategy::webhooks_update,
    validate: validate::webhooks,
    ..ADMISSION
};

pub(super) const VALIDATING_POLICY: Kind = Kind {
    kind: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    singular: "validatingadmissionpolicy",
    storage: "/registry/validatingadmissionpolicies",
    status: true,
    columns: columns::VALIDATING_POLICY,
    cells: columns::validating_policy,
    defaults: defaults::admission_policy,
    prepare_create: strategy::drop_status,
    validate: validate::validating_policy,
    ..ADMISSION
};

pub(super) const VALIDATING_POLICY_BINDING: Kind = Kind {
    kind: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    singular: "validatingadmissionpolicybinding",
    storage: "/registry/validatingadmissionpolicybindings",
    columns: columns::POLICY_BINDING,
    cells: columns::policy_binding,
    defaults: defaults::policy_binding,
    validate: validate::validating_policy_binding,
    ..ADMISSION
};

pub(super) const MUTATING_POLICY: Kind = Kind {
    kind: "MutatingAdmissionPolicy",
    plural: "mutatingadmissionpolicies",
    singular: "mutatingadmissionpolicy",
    storage: "/registry/mutatingadmissionpolicies",
    columns: columns::MUTATING_POLICY,
    cells: columns::mutating_policy,
    defaults: defaults::admission_policy,
    validate: validate::mutating_policy,
    ..ADMISSION
};

pub(super) const MUTATING_POLICY_BINDING: Kind = Kind {
    kind: "MutatingAdmissionPolicyBinding",
    plural: "mutatingadmissionpolicybindings",
    singular: "mutatingadmissionpolicybinding",
    storage: "/registry/mutatingadmissionpolicybindings",
    columns: columns::POLICY_BINDING,
    cells: columns::policy_binding,
    defaults: defaults::policy_binding,
    validate: validate::mutating_policy_binding,
    ..ADMISSION
};
