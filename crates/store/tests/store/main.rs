//! The tests of the store: one suite for every backend, and what only one of them promises.

mod campaign;
mod crash;
mod embedded;
mod etcd;
mod failing_disk;
mod faults;
mod growth;
mod hostile;
mod model;
mod snapshots;
mod suite;
