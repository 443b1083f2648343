//! The rows of StatefulSets, DaemonSets, ControllerRevisions, ReplicationControllers and PodTemplates.

use super::super::{Kind, columns, defaults, strategy, validate};
use super::{BASE, dns1123_label, field};

pub(super) const STATEFUL_SET: Kind = Kind {
    group: "apps",
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    categories: &["all"],
    storage: "/registry/statefulsets",
    storage_version: "apps/v1",
    status: true,
    scale: true,
    generation: true,
    // its pods' names are host names
    names: dns1123_label,
    columns: columns::STATEFUL_SET,
    cells: columns::stateful_set,
    defaults: defaults::stateful_set,
    prepare_create: strategy::stateful_set_create,
    validate: validate::stateful_set,
    validate_update: validate::stateful_set_update,
    ..BASE
};

pub(super) const DAEMON_SET: Kind = Kind {
    group: "apps",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    storage: "/registry/daemonsets",
    storage_version: "apps/v1",
    status: true,
    generation: true,
    columns: columns::DAEMON_SET,
    cells: columns::daemon_set,
    defaults: defaults::daemon_set,
    prepare_create: strategy::daemon_set_create,
    prepare_update: strategy::daemon_set_update,
    validate: validate::daemon_set,
    validate_update: validate::selector_update,
    ..BASE
};

pub(super) const CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    storage: "/registry/controllerrevisions",
    storage_version: "apps/v1",
    columns: columns::CONTROLLER_REVISION,
    cells: columns::controller_revision,
    validate: validate::controller_revision,
    validate_update: validate::controller_revision_update,
    ..BASE
};

pub(super) const REPLICATION_CONTROLLER: Kind = Kind {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short_names: &["rc"],
    categories: &["all"],
    storage: "/registry/controllers",
    status: true,
    scale: true,
    generation: true,
    fields: &[field("status.replicas", &["status", "replicas"])],
    columns: columns::REPLICATION_CONTROLLER,
    cells: columns::replication_controller,
    defaults: defaults::replication_controller,
    prepare_create: strategy::replication_controller_create,
    validate: validate::replication_controller,
    ..BASE
};

pub(super) const POD_TEMPLATE: Kind = Kind {
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    storage: "/registry/podtemplates",
    generation: true,
    columns: columns::POD_TEMPLATE,
    cells: columns::pod_template,
    defaults: defaults::pod_template,
    prepare_update: strategy::pod_template_update,
    validate: validate::pod_template,
    ..BASE
};
