//! What is set about memory, disk and process ids that run short.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Result, bail};
use jiff::SignedDuration;
use node::pressure::{Reclaims, Reserved, Thresholds};
use serde::Deserialize;

/// The key `pressure` of the file; as flags and variables they stand beside the others.
#[derive(clap::Args, Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pressure {
    /// Below what pods are evicted: of memory.available, nodefs.available, nodefs.inodesFree, imagefs.available,
    /// imagefs.inodesFree and pid.available; nothing is watched that is not named
    /// (default: memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,imagefs.available<5%,imagefs.inodesFree<5%)
    #[arg(long, env = "PLIMSOLL_EVICTION_HARD", value_name = "SIGNAL<AMOUNT,...")]
    pub eviction_hard: Option<Thresholds>,
    /// How much more than that has to be free again before nothing more is evicted (default: nothing)
    #[arg(
        long,
        env = "PLIMSOLL_EVICTION_MINIMUM_RECLAIM",
        value_name = "SIGNAL=AMOUNT,..."
    )]
    pub eviction_minimum_reclaim: Option<Reclaims>,
    /// How long the node takes no pods after it was short of something (default 5m)
    #[arg(long, env = "PLIMSOLL_EVICTION_TRANSITION", value_name = "TIME")]
    pub eviction_transition: Option<SignedDuration>,
    /// Unused images are deleted when more of the disk than this is used, in percent; 100 switches it off (default 85)
    #[arg(long, env = "PLIMSOLL_IMAGE_GC_HIGH", value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_high: Option<u8>,
    /// ... until no more than this is used (default 80)
    #[arg(long, env = "PLIMSOLL_IMAGE_GC_LOW", value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_low: Option<u8>,
    /// ... but none that was pulled or used less long ago (default 2m)
    #[arg(long, env = "PLIMSOLL_IMAGE_GC_AGE", value_name = "TIME")]
    pub image_gc_age: Option<SignedDuration>,
    /// What of cpu, memory and ephemeral-storage is kept from pods (default: a twentieth of the memory, 128Mi to 1Gi)
    #[arg(long, env = "PLIMSOLL_RESERVED", value_name = "NAME=AMOUNT,...")]
    pub reserved: Option<Reserved>,
}

impl Pressure {
    /// These, and where they say nothing, `below`.
    pub fn over(self, below: Self) -> Self {
        Self {
            eviction_hard: self.eviction_hard.or(below.eviction_hard),
            eviction_minimum_reclaim: self
                .eviction_minimum_reclaim
                .or(below.eviction_minimum_reclaim),
            eviction_transition: self.eviction_transition.or(below.eviction_transition),
            image_gc_high: self.image_gc_high.or(below.image_gc_high),
            image_gc_low: self.image_gc_low.or(below.image_gc_low),
            image_gc_age: self.image_gc_age.or(below.image_gc_age),
            reserved: self.reserved.or(below.reserved),
        }
    }

    /// The flags that say the same, for a process that this one starts.
    pub fn flags(&self) -> Vec<OsString> {
        let text = |value: &dyn ToString| value.to_string();
        let seconds = |time: &SignedDuration| format!("{}s", time.as_secs());
        [
            (
                "eviction-hard",
                self.eviction_hard.as_ref().map(|v| text(v)),
            ),
            (
                "eviction-minimum-reclaim",
                self.eviction_minimum_reclaim.as_ref().map(|v| text(v)),
            ),
            (
                "eviction-transition",
                self.eviction_transition.as_ref().map(seconds),
            ),
            (
                "image-gc-high",
                self.image_gc_high.as_ref().map(|v| text(v)),
            ),
            ("image-gc-low", self.image_gc_low.as_ref().map(|v| text(v))),
            ("image-gc-age", self.image_gc_age.as_ref().map(seconds)),
            ("reserved", self.reserved.as_ref().map(|v| text(v))),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("--{name}={}", value?).into()))
        .collect()
    }

    /// What the node is given.
    ///
    /// # Errors
    /// Shares of the disk that contradict each other, or a time that is negative.
    pub fn resolve(&self) -> Result<node::pressure::Settings> {
        let usual = node::pressure::Settings::default();
        let time = |name: &str, value: Option<SignedDuration>, usual: Duration| match value {
            None => Ok(usual),
            Some(time) => match Duration::try_from(time) {
                Ok(time) => Ok(time),
                Err(_) => bail!("{name}: {time:#} is negative"),
            },
        };
        let high = self.image_gc_high.unwrap_or(usual.image_gc_high_percent);
        // who lowers the one without a word about the other means this
        let low = self
            .image_gc_low
            .unwrap_or(usual.image_gc_low_percent.min(high));
        if high > 100 || low > high {
            bail!(
                "imageGcLow ({low}) must not be above imageGcHigh ({high}), and that not above 100"
            );
        }
        Ok(node::pressure::Settings {
            eviction_hard: self.eviction_hard.clone().unwrap_or(usual.eviction_hard),
            eviction_minimum_reclaim: self.eviction_minimum_reclaim.clone().unwrap_or_default(),
            eviction_transition: time(
                "evictionTransition",
                self.eviction_transition,
                usual.eviction_transition,
            )?,
            image_gc_high_percent: high,
            image_gc_low_percent: low,
            image_gc_age_min: time("imageGcAge", self.image_gc_age, usual.image_gc_age_min)?,
            reserved: self.reserved.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Pressure {
        serde_saphyr::from_str(text).expect("valid")
    }

    #[test]
    fn what_is_said_is_meant_and_the_rest_is_usual() {
        let usual = node::pressure::Settings::default();
        assert_eq!(Pressure::default().resolve().expect("valid"), usual);
        let settings = parsed("evictionTransition: 90s\nimageGcHigh: 60\nimageGcAge: 1m30s");
        let resolved = settings.resolve().expect("valid");
        assert_eq!(resolved.eviction_transition, Duration::from_secs(90));
        assert_eq!(resolved.image_gc_age_min, Duration::from_secs(90));
        assert_eq!(
            (
                resolved.image_gc_high_percent,
                resolved.image_gc_low_percent
            ),
            (60, 60)
        );
        assert_eq!(resolved.eviction_hard, usual.eviction_hard);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, part) in [
            ("imageGcHigh: 50\nimageGcLow: 60", "must not be above"),
            ("imageGcHigh: 101", "above 100"),
            ("evictionTransition: -1s", "negative"),
        ] {
            let said = parsed(text).resolve().expect_err(text).to_string();
            assert!(said.contains(part), "{said}");
        }
        for (text, part) in [
            ("evictionHard: memory.available", "SIGNAL<AMOUNT"),
            ("reserved: gpu=1", "cannot be reserved"),
            ("evictionTransition: soon", "line 1"),
            ("evictionsoft: x", "evictionsoft"),
        ] {
            let said = serde_saphyr::from_str::<Pressure>(text).expect_err(text);
            assert!(said.to_string().contains(part), "{text}: {said}");
        }
    }
}
