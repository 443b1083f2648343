//! The rows of roles and their bindings.

use super::super::names::path_segment;
use super::super::{Kind, columns, defaults, validate};
use super::BASE;

const RBAC: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    storage_version: "rbac.authorization.k8s.io/v1",
    // `system:discovery` is a name
    names: path_segment,
    ..BASE
};

pub(super) const ROLE: Kind = Kind {
    kind: "Role",
    plural: "roles",
    singular: "role",
    storage: "/registry/roles",
    columns: columns::ROLE,
    cells: columns::role,
    validate: validate::role,
    ..RBAC
};

pub(super) const CLUSTER_ROLE: Kind = Kind {
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    storage: "/registry/clusterroles",
    validate: validate::cluster_role,
    columns: columns::ROLE,
    cells: columns::role,
    ..RBAC
};

pub(super) const ROLE_BINDING: Kind = Kind {
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    storage: "/registry/rolebindings",
    columns: columns::BINDING,
    cells: columns::binding,
    defaults: defaults::role_binding,
    validate: validate::role_binding,
    validate_update: validate::role_binding_update,
    ..RBAC
};

pub(super) const CLUSTER_ROLE_BINDING: Kind = Kind {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    namespaced: false,
    storage: "/registry/clusterrolebindings",
    columns: columns::BINDING,
    cells: columns::binding,
    defaults: defaults::role_binding,
    validate: validate::cluster_role_binding,
    validate_update: validate::role_binding_update,
    ..RBAC
};
