//! The row of CustomResourceDefinitions, and what the rows of the kinds they describe begin as.

use super::super::{Kind, columns};
use super::BASE;
use crate::custom::definition;

pub(super) const CUSTOM_RESOURCE_DEFINITION: Kind = Kind {
    group: definition::GROUP,
    kind: "CustomResourceDefinition",
    plural: definition::PLURAL,
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    storage: "/registry/apiextensions.k8s.io/customresourcedefinitions",
    storage_version: "apiextensions.k8s.io/v1",
    status: true,
    generation: true,
    columns: columns::DEFINITION,
    cells: definition::cells,
    defaults: definition::defaults,
    prepare_create: definition::prepare_create,
    prepare_update: definition::prepare_update,
    validate: definition::validate,
    validate_update: definition::validate_update,
    ..BASE
};

/// A row with nothing of its own, for kinds that are made while the server runs.
pub(crate) fn custom_row() -> Kind {
    Kind {
        generation: true,
        ..BASE
    }
}
