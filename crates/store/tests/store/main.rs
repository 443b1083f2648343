//! The tests of the store: one suite for every backend, and what only the embedded one promises.

mod crash;
mod embedded;
mod failing_disk;
mod faults;
mod hostile;
mod model;
mod suite;
