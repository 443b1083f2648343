//! The row of RuntimeClasses.

use super::super::{Kind, columns, validate};
use super::BASE;

pub(super) const RUNTIME_CLASS: Kind = Kind {
    group: "node.k8s.io",
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    namespaced: false,
    storage: "/registry/runtimeclasses",
    storage_version: "node.k8s.io/v1",
    columns: columns::RUNTIME_CLASS,
    cells: columns::runtime_class,
    validate: validate::runtime_class,
    validate_update: validate::runtime_class_update,
    ..BASE
};
