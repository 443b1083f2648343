//! The rows of Ingresses and their classes, and of IPAddresses and ServiceCIDRs, which are only kept.

use super::super::names::path_segment;
use super::super::{Kind, columns, defaults, strategy, validate};
use super::BASE;

const NETWORKING: Kind = Kind {
    group: "networking.k8s.io",
    storage_version: "networking.k8s.io/v1",
    ..BASE
};

pub(super) const INGRESS: Kind = Kind {
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    storage: "/registry/ingress",
    status: true,
    generation: true,
    columns: columns::INGRESS,
    cells: columns::ingress,
    prepare_create: strategy::ingress_create,
    validate: validate::ingress,
    status_rules: validate::ingress_status,
    ..NETWORKING
};

pub(super) const INGRESS_CLASS: Kind = Kind {
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    namespaced: false,
    storage: "/registry/ingressclasses",
    generation: true,
    columns: columns::INGRESS_CLASS,
    cells: columns::ingress_class,
    defaults: defaults::ingress_class,
    validate: validate::ingress_class,
    validate_update: validate::ingress_class_update,
    ..NETWORKING
};

pub(super) const IP_ADDRESS: Kind = Kind {
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    namespaced: false,
    storage: "/registry/ipaddresses",
    // validation says what is wrong with an address
    names: path_segment,
    columns: columns::IP_ADDRESS,
    cells: columns::ip_address,
    validate: validate::ip_address,
    validate_update: validate::ip_address_update,
    ..NETWORKING
};

pub(super) const SERVICE_CIDR: Kind = Kind {
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    namespaced: false,
    storage: "/registry/servicecidrs",
    status: true,
    columns: columns::SERVICE_CIDR,
    cells: columns::service_cidr,
    prepare_create: strategy::drop_status,
    validate: validate::service_cidr,
    validate_update: validate::service_cidr_update,
    ..NETWORKING
};
