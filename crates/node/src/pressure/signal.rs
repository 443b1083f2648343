//! What is watched, and what running short of it is called.

use std::collections::BTreeMap;
use std::fmt;

/// Something that can run short. The order is that in which it is dealt with: memory before everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Memory of the machine.
    Memory,
    /// What the pods' cgroup may still take of memory. Not to be set: it follows the threshold of [`Signal::Memory`].
    PodsMemory,
    /// Space where volumes and logs lie.
    NodeFs,
    /// Inodes there.
    NodeFsInodes,
    /// Space where images and containers' own files lie; often the same file system.
    ImageFs,
    /// Inodes there.
    ImageFsInodes,
    /// Tasks that the kernel may still make.
    Pids,
}

/// Signals by the names that the kubelet's settings have for them.
const NAMES: [(Signal, &str); 7] = [
    (Signal::Memory, "memory.available"),
    (Signal::PodsMemory, "allocatableMemory.available"),
    (Signal::NodeFs, "nodefs.available"),
    (Signal::NodeFsInodes, "nodefs.inodesFree"),
    (Signal::ImageFs, "imagefs.available"),
    (Signal::ImageFsInodes, "imagefs.inodesFree"),
    (Signal::Pids, "pid.available"),
];

impl Signal {
    /// The signal of this name, if it may be set.
    pub fn named(name: &str) -> Option<Self> {
        let found = NAMES.iter().find(|(_, known)| *known == name)?.0;
        (found != Self::PodsMemory).then_some(found)
    }

    /// The condition of a node that is short of it.
    pub fn condition(self) -> Pressure {
        match self {
            Self::Memory | Self::PodsMemory => Pressure::Memory,
            Self::Pids => Pressure::Pids,
            _ => Pressure::Disk,
        }
    }

    /// What is reclaimed when it runs short, in upstream's words.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Memory | Self::PodsMemory => "memory",
            Self::NodeFs | Self::ImageFs => "ephemeral-storage",
            Self::NodeFsInodes | Self::ImageFsInodes => "inodes",
            Self::Pids => "pids",
        }
    }

    /// Whether it is counted in bytes.
    pub fn is_bytes(self) -> bool {
        matches!(self.resource(), "memory" | "ephemeral-storage")
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(known, _)| known == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// A node's condition that keeps pods away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    Disk,
    Memory,
    Pids,
}

impl Pressure {
    /// Type of the node's condition.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Disk => "DiskPressure",
            Self::Memory => "MemoryPressure",
            Self::Pids => "PIDPressure",
        }
    }
}

/// How much there is of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Negative when more is taken than there should be.
    pub available: i64,
    pub capacity: i64,
}

/// What could be observed; what is missing decides nothing.
pub type Observations = BTreeMap<Signal, Observation>;
