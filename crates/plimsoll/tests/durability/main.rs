//! What outlives what: power cuts, reboots, full disks, jumps of the clock, backups, other versions. Each test has a machine
//! of its own: a data directory on a small file system in a file, mounted by a loop device, with a real daemon, real kubectl
//! and docker, and real containers.
//!
//! Needs root, mkfs.ext4, perl, kubectl in `target/clients`, docker, busybox-static.
#![forbid(unsafe_code)]

mod backups;
mod chaos;
mod clock;
mod disk;
mod full;
mod hostile;
mod machine;
mod pressure;
mod reboot;
mod run;
mod stamps;
