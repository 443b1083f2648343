//! The rows of what is about the API server itself: APIServices, flow control and, without storage, ComponentStatuses.

use super::super::names::path_segment;
use super::super::{Kind, columns, defaults, strategy, validate};
use super::BASE;

pub(super) const API_SERVICE: Kind = Kind {
    group: "apiregistration.k8s.io",
    kind: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    categories: &["api-extensions"],
    namespaced: false,
    storage: "/registry/apiregistration.k8s.io/apiservices",
    storage_version: "apiregistration.k8s.io/v1",
    status: true,
    // `v1.` is a name
    names: path_segment,
    columns: columns::API_SERVICE,
    cells: columns::api_service,
    defaults: defaults::api_service,
    prepare_create: strategy::api_service_create,
    prepare_update: strategy::api_service_update,
    validate: validate::api_service,
    ..BASE
};

/// Answered, not kept; see `handlers::components`.
pub(super) const COMPONENT_STATUS: Kind = Kind {
    kind: "ComponentStatus",
    plural: "componentstatuses",
    singular: "componentstatus",
    short_names: &["cs"],
    namespaced: false,
    columns: columns::COMPONENT_STATUS,
    cells: columns::component_status,
    ..BASE
};

const FLOW: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    storage_version: "flowcontrol.apiserver.k8s.io/v1",
    namespaced: false,
    status: true,
    generation: true,
    prepare_create: strategy::drop_status,
    ..BASE
};

pub(super) const FLOW_SCHEMA: Kind = Kind {
    kind: "FlowSchema",
    plural: "flowschemas",
    singular: "flowschema",
    storage: "/registry/flowschemas",
    columns: columns::FLOW_SCHEMA,
    cells: columns::flow_schema,
    defaults: defaults::flow_schema,
    validate: validate::flow_schema,
    ..FLOW
};

pub(super) const PRIORITY_LEVEL: Kind = Kind {
    kind: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    storage: "/registry/prioritylevelconfigurations",
    columns: columns::PRIORITY_LEVEL,
    cells: columns::priority_level,
    defaults: defaults::priority_level,
    validate: validate::priority_level,
    ..FLOW
};
