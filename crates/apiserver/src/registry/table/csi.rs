//! The rows of what CSI drivers and their helpers keep in the API: kept and checked, and nobody acts on them here.

use super::super::{Kind, columns, defaults, strategy, validate};
use super::BASE;

const STORAGE: Kind = Kind {
    group: "storage.k8s.io",
    storage_version: "storage.k8s.io/v1",
    namespaced: false,
    ..BASE
};

pub(super) const DRIVER: Kind = Kind {
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    storage: "/registry/csidrivers",
    columns: columns::CSI_DRIVER,
    cells: columns::csi_driver,
    defaults: defaults::csi_driver,
    validate: validate::csi_driver,
    validate_update: validate::csi_driver_update,
    ..STORAGE
};

pub(super) const NODE: Kind = Kind {
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    storage: "/registry/csinodes",
    columns: columns::CSI_NODE,
    cells: columns::csi_node,
    validate: validate::csi_node,
    validate_update: validate::csi_node_update,
    ..STORAGE
};

pub(super) const ATTACHMENT: Kind = Kind {
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    storage: "/registry/volumeattachments",
    status: true,
    columns: columns::VOLUME_ATTACHMENT,
    cells: columns::volume_attachment,
    prepare_create: strategy::attachment_create,
    validate: validate::volume_attachment,
    validate_update: validate::volume_attachment_update,
    ..STORAGE
};

pub(super) const CAPACITY: Kind = Kind {
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    namespaced: true,
    storage: "/registry/csistoragecapacities",
    columns: columns::CSI_CAPACITY,
    cells: columns::csi_capacity,
    validate: validate::csi_capacity,
    validate_update: validate::csi_capacity_update,
    ..STORAGE
};

pub(super) const ATTRIBUTES_CLASS: Kind = Kind {
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short_names: &["vac"],
    storage: "/registry/volumeattributesclasses",
    columns: columns::ATTRIBUTES_CLASS,
    cells: columns::attributes_class_row,
    validate: validate::attributes_class,
    validate_update: validate::attributes_class_update,
    ..STORAGE
};
