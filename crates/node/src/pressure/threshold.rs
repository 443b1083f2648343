//! Below what it counts as short: the kubelet's notation, `memory.available<100Mi,nodefs.available<10%`.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize;

use super::signal::{Observation, Signal};
use crate::resources;

/// An amount, or a share of what there is.
#[derive(Clone, Debug, PartialEq)]
pub enum Amount {
    /// In bytes or pieces, and as it was written.
    Absolute(i64, String),
    Percent(f64),
}

impl Amount {
    /// In bytes or pieces.
    pub fn of(&self, capacity: i64) -> i64 {
        match self {
            Self::Absolute(amount, _) => *amount,
            Self::Percent(percent) => (capacity as f64 * percent / 100.0) as i64,
        }
    }
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent
                .parse()
                .map_err(|_| format!("{text:?} is no percentage"))?;
            return if (0.0..=100.0).contains(&percent) {
                Ok(Self::Percent(percent))
            } else {
                Err(format!("{text} is not between 0% and 100%"))
            };
        }
        let amount = resources::value(&Quantity(text.to_owned()))
            .filter(|amount| *amount >= 0)
            .ok_or_else(|| format!("{text:?} is no amount such as 100Mi, 1G, 500 or 10%"))?;
        Ok(Self::Absolute(amount, text.to_owned()))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(_, text) => f.write_str(text),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Short when less than this is available.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    pub signal: Signal,
    pub amount: Amount,
    /// Once short it stays so until so much more than the amount is available.
    pub reclaim: Option<Amount>,
}

impl Threshold {
    /// Whether less is available. `reclaiming`: whether it is still short after it was once.
    pub fn is_met(&self, observed: Observation, reclaiming: bool) -> bool {
        let mut least = self.amount.of(observed.capacity);
        if let Some(more) = self.reclaim.as_ref().filter(|_| reclaiming) {
            least = least.saturating_add(more.of(observed.capacity));
        }
        observed.available < least
    }
}

/// Thresholds as a text: `SIGNAL<AMOUNT` with commas between; one for a signal.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "String")]
pub struct Thresholds(Vec<(Signal, Amount)>);

/// Amounts by signal as a text: `SIGNAL=AMOUNT` with commas between.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(try_from = "String")]
pub struct Reclaims(Vec<(Signal, Amount)>);

impl Default for Thresholds {
    /// The kubelet's defaults on Linux, but 5 % of the disk in place of 10 and 15 (as k3s has it): a large disk that is well
    /// used is not short of anything.
    fn default() -> Self {
        Self(vec![
            (Signal::Memory, Amount::Absolute(100 << 20, "100Mi".into())),
            (Signal::NodeFs, Amount::Percent(5.0)),
            (Signal::NodeFsInodes, Amount::Percent(5.0)),
            (Signal::ImageFs, Amount::Percent(5.0)),
            (Signal::ImageFsInodes, Amount::Percent(5.0)),
        ])
    }
}

impl Thresholds {
    /// Of this signal.
    pub fn get(&self, signal: Signal) -> Option<&Amount> {
        let found = self.0.iter().find(|(known, _)| *known == signal);
        found.map(|(_, amount)| amount)
    }

    /// Bytes that have to be free on a disk of this size on which everything lies.
    pub fn disk_bytes(&self, size: u64) -> u64 {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let amounts = [Signal::NodeFs, Signal::ImageFs].map(|signal| self.get(signal));
        let most = amounts
            .into_iter()
            .flatten()
            .map(|amount| amount.of(size))
            .max();
        u64::try_from(most.unwrap_or(0)).unwrap_or(0)
    }

    /// All of them with what has to be reclaimed; the pods' own memory is watched like the machine's.
    pub fn with(&self, reclaims: &Reclaims) -> Vec<Threshold> {
        let mut all = Vec::new();
        for (signal, amount) in &self.0 {
            let more = reclaims.0.iter().find(|(known, _)| known == signal);
            let threshold = Threshold {
                signal: *signal,
                amount: amount.clone(),
                reclaim: more.map(|(_, amount)| amount.clone()),
            };
            if *signal == Signal::Memory {
                all.push(Threshold {
                    signal: Signal::PodsMemory,
                    ..threshold.clone()
                });
            }
            all.push(threshold);
        }
        all.sort_by_key(|threshold| threshold.signal);
        all
    }
}

/// Reads `NAME MARK AMOUNT` with commas between.
fn parse(text: &str, mark: char) -> Result<Vec<(Signal, Amount)>, String> {
    let mut found: Vec<(Signal, Amount)> = Vec::new();
    let parts = text.split(',').map(str::trim);
    for part in parts.filter(|part| !part.is_empty()) {
        let (name, amount) = part.split_once(mark).ok_or_else(|| {
            format!("{part:?} is not of the form SIGNAL{mark}AMOUNT, for example memory.available{mark}100Mi")
        })?;
        let signal = Signal::named(name.trim()).ok_or_else(|| {
            format!(
                "{:?} is no signal; memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree and pid.available are",
                name.trim()
            )
        })?;
        if found.iter().any(|(known, _)| *known == signal) {
            return Err(format!("{signal} is there twice"));
        }
        let amount = amount.trim().parse();
        found.push((
            signal,
            amount.map_err(|error| format!("{signal}: {error}"))?,
        ));
    }
    Ok(found)
}

fn text(
    f: &mut fmt::Formatter<'_>,
    amounts: &[(Signal, Amount)],
    mark: char,
) -> Result<(), fmt::Error> {
    for (number, (signal, amount)) in amounts.iter().enumerate() {
        let comma = if number > 0 { "," } else { "" };
        write!(f, "{comma}{signal}{mark}{amount}")?;
    }
    Ok(())
}

impl FromStr for Thresholds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, '<').map(Self)
    }
}

impl FromStr for Reclaims {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, '=').map(Self)
    }
}

impl TryFrom<String> for Thresholds {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for Reclaims {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Thresholds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text(f, &self.0, '<')
    }
}

impl fmt::Display for Reclaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text(f, &self.0, '=')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_is_the_kubelets() {
        let text = "memory.available<100Mi,nodefs.available<10%,pid.available<1k";
        let thresholds: Thresholds = text.parse().expect("valid");
        assert_eq!(thresholds.to_string(), text);
        assert_eq!(
            thresholds.get(Signal::Memory).map(|amount| amount.of(0)),
            Some(100 << 20)
        );
        assert_eq!(
            thresholds.get(Signal::NodeFs).map(|amount| amount.of(2005)),
            Some(200)
        );
        assert_eq!(thresholds.get(Signal::ImageFs), None);
        assert_eq!(thresholds.disk_bytes(1000), 100);
        assert_eq!(Thresholds::default().disk_bytes(1000), 50);
        assert_eq!("".parse(), Ok(Thresholds(Vec::new())), "nothing is watched");
        assert_eq!(
            Thresholds::default().to_string(),
            "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,imagefs.available<5%,imagefs.inodesFree<5%"
        );
        for (wrong, part) in [
            ("memory.available=100Mi", "SIGNAL<AMOUNT"),
            ("memory<100Mi", "no signal"),
            ("allocatableMemory.available<100Mi", "no signal"),
            ("memory.available<-1", "no amount"),
            ("memory.available<lots", "no amount"),
            ("nodefs.available<101%", "0% and 100%"),
            ("nodefs.available<x%", "no percentage"),
            ("nodefs.available<NaN%", "0% and 100%"),
            ("nodefs.available<1%,nodefs.available<2%", "twice"),
        ] {
            let said = wrong.parse::<Thresholds>().expect_err(wrong);
            assert!(said.contains(part), "{wrong}: {said}");
        }
        let reclaims: Reclaims = "nodefs.available=500Mi".parse().expect("valid");
        assert_eq!(reclaims.to_string(), "nodefs.available=500Mi");
    }

    #[test]
    fn the_pods_memory_follows_the_machines() {
        let all = "nodefs.available<10%,memory.available<1Gi"
            .parse::<Thresholds>()
            .expect("valid")
            .with(&"memory.available=1Mi".parse().expect("valid"));
        let told: Vec<(Signal, bool)> = all
            .iter()
            .map(|threshold| (threshold.signal, threshold.reclaim.is_some()))
            .collect();
        assert_eq!(
            told,
            [
                (Signal::Memory, true),
                (Signal::PodsMemory, true),
                (Signal::NodeFs, false)
            ]
        );
    }

    #[test]
    fn short_is_less_than() {
        let threshold = Threshold {
            signal: Signal::NodeFs,
            amount: Amount::Percent(10.0),
            reclaim: Some(Amount::Absolute(5, "5".into())),
        };
        let met = |available, reclaiming| {
            let observed = Observation {
                available,
                capacity: 100,
            };
            threshold.is_met(observed, reclaiming)
        };
        assert!(met(9, false) && !met(10, false));
        assert!(met(14, true) && !met(15, true));
        assert!(met(-1, false), "more is taken than there is");
    }
}
