//! The tests of the store: one suite for every backend, and what only the embedded one promises.

mod campaign;
mod crash;
mod embedded;
mod failing_disk;
mod faults;
mod growth;
mod hostile;
mod model;
mod snapshots;
mod suite;
