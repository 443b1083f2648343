//! The rows of LimitRanges and ResourceQuotas.

use super::super::{Kind, columns, defaults, strategy, validate};
use super::BASE;

pub(super) const LIMIT_RANGE: Kind = Kind {
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    storage: "/registry/limitranges",
    // upstream has no columns of its own for it
    columns: columns::ROLE,
    cells: columns::role,
    defaults: defaults::limit_range,
    validate: validate::limit_range,
    ..BASE
};

pub(super) const RESOURCE_QUOTA: Kind = Kind {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    storage: "/registry/resourcequotas",
    status: true,
    columns: columns::RESOURCE_QUOTA,
    cells: columns::resource_quota,
    prepare_create: strategy::drop_status,
    validate: validate::resource_quota,
    validate_update: validate::resource_quota_update,
    status_rules: validate::resource_quota_status,
    ..BASE
};
