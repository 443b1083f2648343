//! A decision in sentences with its numbers.

use super::decision::{Arithmetic, Conclusion, Decision, MetricOutcome, Rule, Step, Target};
use crate::quantity::Quantity;

impl Decision {
    /// One sentence: the change and the numbers that led to it.
    pub fn summary(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        let decisive = self.steps.iter().find_map(|step| match &step.rule {
            Rule::HighestProposal { metric, .. } => {
                self.metrics.iter().find(|outcome| &outcome.name == metric)
            }
            _ => None,
        });
        parts.extend(decisive.map(MetricOutcome::sentence));
        parts.extend(
            self.steps
                .iter()
                .filter(|step| !matches!(step.rule, Rule::HighestProposal { .. }))
                .map(Step::sentence),
        );
        if parts.is_empty() {
            parts.extend(self.error.clone());
        }
        parts.join("; ")
    }

    /// Every metric and every rule, one sentence each, in order.
    pub fn sentences(&self) -> Vec<String> {
        let metrics = self.metrics.iter().map(MetricOutcome::sentence);
        let steps = self.steps.iter().map(Step::sentence);
        metrics.chain(steps).chain(self.error.clone()).collect()
    }
}

impl MetricOutcome {
    /// The metric's arithmetic in one sentence.
    pub fn sentence(&self) -> String {
        let name = if self.name.is_empty() {
            &self.source
        } else {
            &self.name
        };
        match &self.result {
            Err(failure) => format!("{name} could not be used: {}", failure.message),
            Ok(proposal) => format!(
                "{name}: {}",
                proposal.arithmetic.sentence(proposal.replicas)
            ),
        }
    }
}

impl Arithmetic {
    fn sentence(&self, replicas: i32) -> String {
        let quantity = |milli: i64| Quantity::from_milli(milli).decimal();
        let measured = match (self.utilization_percent, self.target) {
            (Some(percent), Some(Target::UtilizationPercent(target))) => format!(
                "{percent} % of requests ({} of {}) against {target} %",
                quantity(self.usage_milli),
                quantity(self.requests_milli.unwrap_or_default())
            ),
            (_, Some(Target::AverageMilli(target))) => format!(
                "average {} per pod against {}",
                quantity(self.average_milli.unwrap_or_default()),
                quantity(target)
            ),
            (_, Some(Target::ValueMilli(target))) => {
                format!(
                    "{} against {}",
                    quantity(self.usage_milli),
                    quantity(target)
                )
            }
            _ => quantity(self.usage_milli),
        };
        let mut text = format!("{measured} = ratio {:.2}", self.ratio);
        if let Some(pods) = &self.pods {
            let mut apart = Vec::new();
            for (count, what) in [
                (pods.unready.len(), "not ready"),
                (pods.missing.len(), "without a sample"),
                (pods.ignored.len(), "ending"),
            ] {
                if count > 0 {
                    apart.push(format!("{count} {what}"));
                }
            }
            if !apart.is_empty() {
                text.push_str(&format!(" over {} pods ({})", pods.ready, apart.join(", ")));
            }
        }
        if let Some(adjusted) = &self.adjusted {
            let mut assumed = Vec::new();
            if let Some(percent) = adjusted.missing_percent {
                assumed.push(format!("pods without a sample as {percent} %"));
            }
            if adjusted.unready_as_zero {
                assumed.push("pods not ready as 0".to_owned());
            }
            if !assumed.is_empty() {
                text.push_str(&format!(
                    ", counting {} = ratio {:.2}",
                    assumed.join(" and "),
                    adjusted.ratio
                ));
            }
        }
        let ratio = self
            .adjusted
            .as_ref()
            .map_or(self.ratio, |adjusted| adjusted.ratio);
        match self.conclusion {
            Conclusion::WithinTolerance => {
                text.push_str(&format!(
                    ", within the tolerance of {:.2} to {:.2}: stay at {replicas}",
                    1.0 - self.tolerance.scale_down,
                    1.0 + self.tolerance.scale_up
                ));
            }
            Conclusion::WouldReverse => {
                text.push_str(&format!(
                    ", which would turn the direction round: stay at {replicas}"
                ));
            }
            Conclusion::Divided => {
                text.push_str(&format!(", the whole divided by the target → {replicas}"))
            }
            Conclusion::Multiplied => match self.multiplied_with {
                Some(count) => text.push_str(&format!(", ⌈{ratio:.2} × {count}⌉ = {replicas}")),
                None => text.push_str(&format!(", rounded up → {replicas}")),
            },
        }
        text
    }
}

impl Step {
    /// The rule's effect in one sentence.
    pub fn sentence(&self) -> String {
        let Self {
            before,
            after,
            rule,
        } = self;
        match rule {
            Rule::Disabled => "the target has no replicas, which pauses its autoscaler".to_owned(),
            Rule::AboveMaximum { maximum } => {
                format!("{before} replicas are above the maximum of {maximum}")
            }
            Rule::BelowMinimum { minimum } => {
                format!("{before} replicas are below the minimum of {minimum}")
            }
            Rule::HighestProposal { metric, invalid: 0 } => {
                format!("highest proposal is {after}, from {metric}")
            }
            Rule::HighestProposal { metric, invalid } => {
                format!(
                    "highest proposal is {after}, from {metric} ({invalid} metrics could not be used)"
                )
            }
            Rule::MetricsInvalid { invalid, total } => {
                format!("{invalid} of {total} metrics could not be used: stay at {after}")
            }
            Rule::Stabilized {
                down: true,
                window_seconds,
            } => {
                format!(
                    "the highest recommendation of the last {window_seconds} s holds {after} instead of {before}"
                )
            }
            Rule::Stabilized {
                down: false,
                window_seconds,
            } => {
                format!(
                    "the lowest recommendation of the last {window_seconds} s holds {after} instead of {before}"
                )
            }
            Rule::ScaleUpLimit { limit, from } => {
                format!(
                    "growth from {from} is limited to {limit} for now: {after} instead of {before}"
                )
            }
            Rule::ScaleDownLimit { limit } => {
                format!("shrinking is limited to {limit} for now: {after} instead of {before}")
            }
            Rule::Maximum { maximum } => {
                format!("the maximum is {maximum}: {after} instead of {before}")
            }
            Rule::Minimum { minimum } => {
                format!("the minimum is {minimum}: {after} instead of {before}")
            }
            Rule::WriteFailed { error } => format!("the scale could not be written: {error}"),
        }
    }
}
