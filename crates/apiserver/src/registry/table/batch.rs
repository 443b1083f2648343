//! The rows of Jobs and CronJobs.

use super::super::{Kind, columns, defaults, strategy, validate};
use super::{BASE, field};

pub(super) const JOB: Kind = Kind {
    group: "batch",
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &["all"],
    storage: "/registry/jobs",
    storage_version: "batch/v1",
    status: true,
    generation: true,
    fields: &[field("status.successful", &["status", "succeeded"])],
    columns: columns::JOB,
    cells: columns::job,
    defaults: defaults::job,
    prepare_create: strategy::job_create,
    named: strategy::job_named,
    prepare_update: strategy::job_update,
    validate: validate::job,
    validate_update: validate::job_update,
    ..BASE
};

pub(super) const CRON_JOB: Kind = Kind {
    group: "batch",
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    categories: &["all"],
    storage: "/registry/cronjobs",
    storage_version: "batch/v1",
    status: true,
    generation: true,
    columns: columns::CRON_JOB,
    cells: columns::cron_job,
    defaults: defaults::cron_job,
    prepare_create: strategy::cron_job_create,
    validate: validate::cron_job,
    ..BASE
};
