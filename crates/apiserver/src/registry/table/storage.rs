//! The rows of PersistentVolumes, PersistentVolumeClaims and StorageClasses.

use super::super::{Kind, columns, defaults, strategy, validate};
use super::BASE;

pub(super) const VOLUME: Kind = Kind {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    namespaced: false,
    storage: "/registry/persistentvolumes",
    status: true,
    columns: columns::VOLUME,
    cells: columns::volume,
    defaults: defaults::volume,
    prepare_create: strategy::volume_create,
    validate: validate::volume,
    validate_update: validate::volume_update,
    ..BASE
};

pub(super) const CLAIM: Kind = Kind {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    storage: "/registry/persistentvolumeclaims",
    status: true,
    columns: columns::CLAIM,
    cells: columns::claim,
    defaults: defaults::claim,
    prepare_create: strategy::claim_create,
    validate: validate::claim,
    validate_update: validate::claim_update,
    ..BASE
};

pub(super) const CLASS: Kind = Kind {
    group: "storage.k8s.io",
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    namespaced: false,
    storage: "/registry/storageclasses",
    storage_version: "storage.k8s.io/v1",
    columns: columns::CLASS,
    cells: columns::storage_class,
    defaults: defaults::class,
    validate: validate::class,
    validate_update: validate::class_update,
    ..BASE
};
