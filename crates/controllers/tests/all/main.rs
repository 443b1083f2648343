//! Controllers against the real API server in this process. (One program: each links all of it.)

mod certificates;
mod cluster;
mod collection;
mod cronjobs;
mod daemon_sets;
mod deployments;
mod endpoints;
mod jobs;
mod placement;
mod quotas;
mod rights;
mod stateful_sets;
mod storage;
