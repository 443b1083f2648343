//! Columns of CustomResourceDefinitions.

use super::{Column, NAME};

pub const DEFINITION: &[Column] = &[
    NAME,
    Column {
        name: "Created At",
        kind: "date",
        format: "",
        priority: 0,
    },
];
