//! The rows: every served kind. To add one, add its row, its columns, defaults and validation.

use super::fields::{EVENT, NEW_EVENT, POD, field};
use super::names::{dns1035_label, dns1123_label, dns1123_subdomain, path_segment};
use super::{Conversion, Kind, Subresource, columns, convert, defaults, strategy, validate};

mod admission;
mod apps;
mod batch;
mod certificates;
mod csi;
mod decisions;
mod extensions;
mod limits;
mod networking;
mod node;
mod placement;
mod rbac;
mod serving;
mod storage;

pub(crate) use extensions::custom_row;

/// Every kind; versions of a group in the order of preference.
pub fn all() -> &'static [Kind] {
    &KINDS
}

/// What most rows have in common.
const BASE: Kind = Kind {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    storage: "",
    storage_version: "v1",
    status: false,
    scale: false,
    generation: false,
    subresources: &[],
    names: dns1123_subdomain,
    fields: &[],
    columns: columns::PLAIN,
    cells: columns::plain,
    defaults: defaults::nothing,
    prepare_create: strategy::keep,
    named: strategy::keep,
    prepare_update: strategy::keep_update,
    validate: validate::nothing,
    validate_create: validate::nothing,
    validate_update: validate::nothing_update,
    status_rules: validate::nothing_of_status,
    conversion: None,
    custom: None,
};

const fn connect(
    name: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource {
        name,
        kind,
        group: "",
        version: "v1",
        verbs,
    }
}

const STREAM: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

const HPA: Kind = Kind {
    group: "autoscaling",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    storage: "/registry/horizontalpodautoscalers",
    storage_version: "autoscaling/v2",
    status: true,
    generation: true,
    columns: columns::HPA,
    validate: validate::hpa,
    validate_update: validate::hpa_update,
    ..BASE
};

const REVIEW: Kind = Kind {
    namespaced: false,
    group: "authorization.k8s.io",
    ..BASE
};

/// How the scale subresource is shown; no resource of its own.
pub static SCALE: Kind = Kind {
    group: "autoscaling",
    kind: "Scale",
    columns: columns::SCALE,
    cells: columns::scale,
    ..BASE
};

static KINDS: [Kind; 65] = [
    Kind {
        kind: "Binding",
        plural: "bindings",
        singular: "binding",
        ..BASE
    },
    serving::COMPONENT_STATUS,
    Kind {
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        storage: "/registry/configmaps",
        columns: columns::CONFIG_MAP,
        cells: columns::config_map,
        validate: validate::config_map,
        validate_update: validate::config_map_update,
        ..BASE
    },
    Kind {
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        storage: "/registry/services/endpoints",
        columns: columns::ENDPOINTS,
        cells: columns::endpoints,
        defaults: defaults::endpoints,
        validate: validate::endpoints,
        ..BASE
    },
    Kind {
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        storage: "/registry/events",
        fields: EVENT,
        columns: columns::EVENT,
        cells: columns::event,
        validate: validate::event,
        ..BASE
    },
    limits::LIMIT_RANGE,
    Kind {
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        namespaced: false,
        storage: "/registry/namespaces",
        status: true,
        subresources: &[Subresource {
            name: "finalize",
            kind: "Namespace",
            group: "",
            version: "v1",
            verbs: &["update"],
        }],
        names: dns1123_label,
        fields: &[field("status.phase", &["status", "phase"])],
        columns: columns::NAMESPACE,
        cells: columns::namespace,
        defaults: defaults::namespace,
        prepare_create: strategy::namespace_create,
        named: strategy::namespace_named,
        prepare_update: strategy::namespace_update,
        ..BASE
    },
    Kind {
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        namespaced: false,
        storage: "/registry/minions",
        status: true,
        subresources: &[connect("proxy", "NodeProxyOptions", PROXY)],
        fields: &[field("spec.unschedulable", &["spec", "unschedulable"])],
        columns: columns::NODE,
        cells: columns::node,
        defaults: defaults::node,
        validate: validate::node,
        // A node registers itself with its status.
        prepare_create: strategy::keep,
        ..BASE
    },
    storage::CLAIM,
    storage::VOLUME,
    Kind {
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        storage: "/registry/pods",
        status: true,
        generation: true,
        subresources: &[
            connect("attach", "PodAttachOptions", STREAM),
            Subresource {
                name: "binding",
                kind: "Binding",
                group: "",
                version: "v1",
                verbs: &["create"],
            },
            Subresource {
                name: "eviction",
                kind: "Eviction",
                group: "policy",
                version: "v1",
                verbs: &["create"],
            },
            Subresource {
                name: "ephemeralcontainers",
                kind: "Pod",
                group: "",
                version: "v1",
                verbs: &["get", "patch", "update"],
            },
            connect("exec", "PodExecOptions", STREAM),
            connect("log", "PodLogOptions", &["get"]),
            connect("portforward", "PodPortForwardOptions", STREAM),
            connect("proxy", "PodProxyOptions", PROXY),
            Subresource {
                name: "resize",
                kind: "Pod",
                group: "",
                version: "v1",
                verbs: &["get", "patch", "update"],
            },
        ],
        fields: POD,
        columns: columns::POD,
        cells: columns::pod,
        defaults: defaults::pod,
        prepare_create: strategy::pod_create,
        prepare_update: strategy::pod_update,
        validate: validate::pod,
        validate_create: validate::pod_create,
        validate_update: validate::pod_update,
        ..BASE
    },
    apps::POD_TEMPLATE,
    apps::REPLICATION_CONTROLLER,
    limits::RESOURCE_QUOTA,
    Kind {
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        storage: "/registry/secrets",
        fields: &[field("type", &["type"])],
        columns: columns::SECRET,
        cells: columns::secret,
        defaults: defaults::secret,
        prepare_create: strategy::secret,
        prepare_update: strategy::secret_update,
        validate: validate::secret,
        validate_update: validate::secret_update,
        ..BASE
    },
    Kind {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        storage: "/registry/serviceaccounts",
        subresources: &[Subresource {
            name: "token",
            kind: "TokenRequest",
            group: "authentication.k8s.io",
            version: "v1",
            verbs: &["create"],
        }],
        columns: columns::SERVICE_ACCOUNT,
        cells: columns::service_account,
        ..BASE
    },
    Kind {
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        storage: "/registry/services/specs",
        status: true,
        subresources: &[connect("proxy", "ServiceProxyOptions", PROXY)],
        names: dns1035_label,
        fields: &[
            field("spec.clusterIP", &["spec", "clusterIP"]),
            field("spec.type", &["spec", "type"]),
        ],
        columns: columns::SERVICE,
        cells: columns::service,
        defaults: defaults::service,
        prepare_create: strategy::service_create,
        prepare_update: strategy::service_update,
        validate: validate::service,
        validate_update: validate::service_update,
        ..BASE
    },
    Kind {
        group: "apps",
        kind: "Deployment",
        plural: "deployments",
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        storage: "/registry/deployments",
        storage_version: "apps/v1",
        status: true,
        scale: true,
        generation: true,
        columns: columns::DEPLOYMENT,
        cells: columns::deployment,
        defaults: defaults::deployment,
        prepare_create: strategy::drop_status,
        validate: validate::deployment,
        validate_update: validate::selector_update,
        ..BASE
    },
    Kind {
        group: "apps",
        kind: "ReplicaSet",
        plural: "replicasets",
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        storage: "/registry/replicasets",
        storage_version: "apps/v1",
        status: true,
        scale: true,
        generation: true,
        columns: columns::REPLICA_SET,
        cells: columns::replica_set,
        fields: &[field("status.replicas", &["status", "replicas"])],
        defaults: defaults::replica_set,
        prepare_create: strategy::drop_status,
        validate: validate::replica_set,
        validate_update: validate::selector_update,
        ..BASE
    },
    apps::CONTROLLER_REVISION,
    apps::DAEMON_SET,
    apps::STATEFUL_SET,
    Kind {
        version: "v2",
        cells: columns::hpa,
        defaults: defaults::hpa,
        prepare_create: strategy::drop_status,
        ..HPA
    },
    Kind {
        version: "v1",
        cells: columns::hpa_v1,
        defaults: defaults::hpa_v1,
        prepare_create: strategy::drop_status,
        conversion: Some(Conversion {
            to_stored: convert::hpa_to_v2,
            from_stored: convert::hpa_to_v1,
        }),
        ..HPA
    },
    decisions::SCALING_DECISION,
    batch::CRON_JOB,
    batch::JOB,
    certificates::SIGNING_REQUEST,
    Kind {
        group: "coordination.k8s.io",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        storage: "/registry/leases",
        storage_version: "coordination.k8s.io/v1",
        columns: columns::LEASE,
        cells: columns::lease,
        validate: validate::lease,
        ..BASE
    },
    Kind {
        group: "discovery.k8s.io",
        kind: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        storage: "/registry/endpointslices",
        storage_version: "discovery.k8s.io/v1",
        generation: true,
        columns: columns::ENDPOINT_SLICE,
        cells: columns::endpoint_slice,
        defaults: defaults::endpoint_slice,
        prepare_update: strategy::slice_update,
        validate: validate::endpoint_slice,
        validate_update: validate::endpoint_slice_update,
        ..BASE
    },
    Kind {
        group: "events.k8s.io",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        storage: "/registry/events",
        fields: NEW_EVENT,
        columns: columns::EVENT,
        cells: columns::new_event,
        validate: validate::event,
        validate_create: validate::new_event,
        conversion: Some(Conversion {
            to_stored: convert::event_to_core,
            from_stored: convert::event_from_core,
        }),
        ..BASE
    },
    placement::DISRUPTION_BUDGET,
    placement::PRIORITY_CLASS,
    csi::DRIVER,
    csi::NODE,
    csi::CAPACITY,
    storage::CLASS,
    csi::ATTACHMENT,
    csi::ATTRIBUTES_CLASS,
    networking::INGRESS_CLASS,
    networking::INGRESS,
    networking::IP_ADDRESS,
    Kind {
        group: "networking.k8s.io",
        kind: "NetworkPolicy",
        plural: "networkpolicies",
        singular: "networkpolicy",
        short_names: &["netpol"],
        storage: "/registry/networkpolicies",
        storage_version: "networking.k8s.io/v1",
        generation: true,
        columns: columns::NETWORK_POLICY,
        cells: columns::network_policy,
        defaults: defaults::network_policy,
        validate: validate::network_policy,
        ..BASE
    },
    networking::SERVICE_CIDR,
    node::RUNTIME_CLASS,
    admission::MUTATING_POLICY,
    admission::MUTATING_POLICY_BINDING,
    admission::MUTATING_WEBHOOK,
    admission::VALIDATING_POLICY,
    admission::VALIDATING_POLICY_BINDING,
    admission::VALIDATING_WEBHOOK,
    serving::API_SERVICE,
    serving::FLOW_SCHEMA,
    serving::PRIORITY_LEVEL,
    Kind {
        group: "authentication.k8s.io",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        names: path_segment,
        ..REVIEW
    },
    Kind {
        group: "authentication.k8s.io",
        kind: "TokenReview",
        plural: "tokenreviews",
        singular: "tokenreview",
        names: path_segment,
        ..REVIEW
    },
    Kind {
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        ..REVIEW
    },
    Kind {
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        ..REVIEW
    },
    Kind {
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        ..REVIEW
    },
    Kind {
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        namespaced: true,
        ..REVIEW
    },
    rbac::CLUSTER_ROLE,
    rbac::CLUSTER_ROLE_BINDING,
    rbac::ROLE,
    rbac::ROLE_BINDING,
    extensions::CUSTOM_RESOURCE_DEFINITION,
];

#[cfg(test)]
mod tests;
