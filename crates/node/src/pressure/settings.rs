//! What may be set about running short. The defaults are the kubelet's.

use std::time::Duration;

use super::reserve::Reserved;
use super::threshold::{Reclaims, Thresholds};

/// What may be set about running short.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Below what pods are evicted.
    pub eviction_hard: Thresholds,
    /// How much more than that has to be free before nothing more is reclaimed.
    pub eviction_minimum_reclaim: Reclaims,
    /// How long a condition of the node stays after it was seen last.
    pub eviction_transition: Duration,
    /// Images are collected when more of the disk than this is used, in percent; 100 switches it off.
    pub image_gc_high_percent: u8,
    /// Until no more than this is used.
    pub image_gc_low_percent: u8,
    /// Images that are younger, or were used less long ago, are left alone.
    pub image_gc_age_min: Duration,
    /// What is kept from pods; the default is described at [`Reserved`].
    pub reserved: Option<Reserved>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            eviction_hard: Thresholds::default(),
            eviction_minimum_reclaim: Reclaims::default(),
            eviction_transition: Duration::from_secs(300),
            image_gc_high_percent: 85,
            image_gc_low_percent: 80,
            image_gc_age_min: Duration::from_secs(120),
            reserved: None,
        }
    }
}
