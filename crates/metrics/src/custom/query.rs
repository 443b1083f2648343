//! What a metric's name says about some pods: which plan tells it, and the value.

use std::time::Duration;

use autoscale::selector::Selector;

use super::key::Key;
use super::names::{Plan, plans};
use super::points::{Points, Told};
use super::quantile::quantile;
use super::series::Scraped;
use crate::store::Labels;

/// Which series count, beside their name.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `metricLabelSelector`; none selects everything.
    pub labels: Option<Selector>,
    /// A label that must have this value: the resource that is described.
    pub object: Option<(String, String)>,
}

impl Filter {
    fn holds(&self, pod: &Scraped<'_>, key: &Key) -> bool {
        let is_object =
            |(label, value): &(String, String)| key.label(label) == Some(value.as_str());
        self.object.as_ref().is_none_or(is_object)
            && self
                .labels
                .as_ref()
                .is_none_or(|selector| selector.matches(&labels(pod, key)))
    }
}

/// A series' labels, with those of where it was scraped; the latter win, as in Prometheus.
pub fn labels(pod: &Scraped<'_>, key: &Key) -> Labels {
    let mut labels = key.label_map();
    labels.insert("namespace".to_owned(), pod.namespace.to_owned());
    labels.insert("pod".to_owned(), pod.name.to_owned());
    labels
}

/// How the metric is told of these pods; none if no pod has a series for it.
pub fn plan(metric: &str, pods: &[Scraped<'_>]) -> Option<Plan> {
    plans(metric).into_iter().find(|plan| {
        pods.iter()
            .any(|pod| pod.of(plan.series()).next().is_some())
    })
}

/// The metric of these pods together: sums of values and rates; quantiles and means of all that they observed. None without
/// a series that counts, or before there are two values of a counter.
pub fn together(plan: &Plan, pods: &[Scraped<'_>], filter: &Filter) -> Option<Told> {
    match plan {
        Plan::Latest(name) => sum(pods, filter, name, Points::latest),
        Plan::Rate(name) => sum(pods, filter, name, Points::rate),
        Plan::Average(name) => sum(pods, filter, name, Points::average),
        Plan::Mean(observed, count) => {
            let observed = sum(pods, filter, observed, Points::increase)?;
            let count = sum(pods, filter, count, Points::increase)?;
            // nothing observed is told as zero, as the adapter tells what is not a number
            let mean = observed.value / count.value;
            let value = if mean.is_finite() { mean } else { 0.0 };
            Some(Told { value, ..observed })
        }
        Plan::Quantile(name, q) => {
            let all = sum(pods, filter, name, Points::increase)?;
            let buckets = each(pods, filter, name).filter_map(|(_, key, points)| {
                let bound = key.label("le")?.parse::<f64>().ok()?;
                Some((bound, points.increase()?.value))
            });
            let value = quantile(*q, buckets.collect()).unwrap_or(0.0);
            Some(Told { value, ..all })
        }
    }
}

/// Each series by itself, with its labels; quantiles and means are of all series together.
pub fn apart(plan: &Plan, pods: &[Scraped<'_>], filter: &Filter) -> Vec<(Labels, Told)> {
    let (name, value): (_, fn(&Points) -> Option<Told>) = match plan {
        Plan::Latest(name) => (name, Points::latest),
        Plan::Rate(name) => (name, Points::rate),
        Plan::Average(name) => (name, Points::average),
        Plan::Quantile(..) | Plan::Mean(..) => {
            let told = together(plan, pods, filter);
            return told
                .map(|told| (Default::default(), told))
                .into_iter()
                .collect();
        }
    };
    each(pods, filter, name)
        .filter_map(|(pod, key, points)| Some((labels(&pod, key), value(points)?)))
        .collect()
}

/// The values that a label has in the series of a plan.
pub fn values_of(label: &str, plan: &Plan, pods: &[Scraped<'_>]) -> Vec<String> {
    let all = each(pods, &NONE, plan.series());
    let mut values: Vec<String> = all
        .filter_map(|(_, key, _)| key.label(label).map(str::to_owned))
        .collect();
    values.sort_unstable();
    values.dedup();
    values
}

static NONE: Filter = Filter {
    labels: None,
    object: None,
};

fn each<'a, 'b>(
    pods: &'b [Scraped<'a>],
    filter: &'b Filter,
    name: &'b str,
) -> impl Iterator<Item = (Scraped<'a>, &'a Key, &'a Points)> + use<'a, 'b> {
    pods.iter().flat_map(move |pod| {
        pod.of(name)
            .filter(move |(key, _)| filter.holds(pod, key))
            .map(move |(key, points)| (*pod, key, points))
    })
}

fn sum(
    pods: &[Scraped<'_>],
    filter: &Filter,
    name: &str,
    value: impl Fn(&Points) -> Option<Told>,
) -> Option<Told> {
    let told = each(pods, filter, name).filter_map(|(_, _, points)| value(points));
    let sum = told.reduce(|a, b| Told {
        value: a.value + b.value,
        at: a.at.min(b.at),
        window: a.window.max(b.window),
    })?;
    sum.value.is_finite().then_some(sum)
}

/// Whole seconds of a window, at least one; none for a value of one moment.
pub fn window_seconds(window: Duration) -> Option<u64> {
    (!window.is_zero()).then(|| (window.as_secs_f64().round() as u64).max(1))
}
