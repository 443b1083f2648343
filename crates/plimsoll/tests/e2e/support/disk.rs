//! Tests run on disks of others: one that is nearly full is no failure of theirs.

/// What `up` finds in its environment: pods stay, and unused images too, as long as a little space is left. (By default a twentieth
/// of the disk has to be free, and images go at 85 %; `durability` tests that on disks of its own.)
pub const ANY_DISK: [(&str, &str); 2] = [
    (
        "PLIMSOLL_EVICTION_HARD",
        "memory.available<100Mi,nodefs.available<200Mi,imagefs.available<200Mi",
    ),
    ("PLIMSOLL_IMAGE_GC_HIGH", "100"),
];
