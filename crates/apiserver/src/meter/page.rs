//! The page that `/metrics` answers with, in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{BOUNDS_S, Labels, Meter, Series, process};
use crate::registry::{self, Kind};
use crate::server::State;

/// The type of such a page.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is known now.
pub(crate) async fn page(state: &State) -> String {
    let mut out = state.meter.text();
    objects(state, &mut out).await;
    process::write(&mut out);
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

impl Meter {
    fn text(&self) -> String {
        let mut all: Vec<(Labels, Arc<Series>)> = {
            let series = self.series.read();
            series
                .iter()
                .map(|(labels, one)| (*labels, one.clone()))
                .collect()
        };
        all.sort_by_key(|(labels, _)| *labels);
        let mut out = String::with_capacity(64 * 1024);
        let to = &mut out;
        let name = "apiserver_request_total";
        head(
            to,
            name,
            "counter",
            "Requests that were answered, by verb, resource and HTTP status.",
        );
        for (labels, series) in &all {
            let codes = series.codes.read();
            let mut codes: Vec<_> = codes
                .iter()
                .map(|(code, n)| (*code, n.load(Relaxed)))
                .collect();
            codes.sort_unstable();
            for (code, count) in codes {
                let _ = writeln!(to, "{name}{{{},code=\"{code}\"}} {count}", labels.text());
            }
        }
        // without webhooks and waiting in queues, the second is the first: rules about service levels ask for it
        for name in [
            "apiserver_request_duration_seconds",
            "apiserver_request_sli_duration_seconds",
        ] {
            durations(to, name, &all);
        }
        let name = "apiserver_longrunning_requests";
        head(
            to,
            name,
            "gauge",
            "Open watches, logs, exec, attach, port-forward and proxied requests.",
        );
        for (labels, series) in all.iter().filter(|(labels, _)| labels.lasts()) {
            let open = series.open.load(Relaxed);
            let _ = writeln!(to, "{name}{{{}}} {open}", labels.text());
        }
        let name = "apiserver_watch_events_total";
        head(
            to,
            name,
            "counter",
            "Events that watches have sent, by resource.",
        );
        for (labels, series) in all.iter().filter(|(labels, _)| labels.verb == "WATCH") {
            let events = series.events.load(Relaxed);
            let _ = writeln!(to, "{name}{{{}}} {events}", labels.text());
        }
        let name = "apiserver_current_inflight_requests";
        head(
            to,
            name,
            "gauge",
            "Requests that are being worked on; those that last are not among them.",
        );
        for (kind, gauge) in [("mutating", &self.writing), ("readOnly", &self.reading)] {
            let count = gauge.load(Relaxed);
            let _ = writeln!(to, "{name}{{request_kind=\"{kind}\"}} {count}");
        }
        out
    }
}

/// A histogram of how long requests took.
fn durations(to: &mut String, name: &str, all: &[(Labels, Arc<Series>)]) {
    head(
        to,
        name,
        "histogram",
        "Time until requests were answered; of those that last there is none.",
    );
    for (labels, series) in all {
        let text = labels.text();
        let counts = series
            .durations
            .counts
            .iter()
            .map(|count| count.load(Relaxed));
        let counts: Vec<u64> = counts.collect();
        if counts.iter().all(|count| *count == 0) {
            continue;
        }
        let mut up_to = 0;
        for (bound, count) in BOUNDS_S.iter().zip(&counts) {
            up_to += count;
            let _ = writeln!(to, "{name}_bucket{{{text},le=\"{bound}\"}} {up_to}");
        }
        let all: u64 = counts.iter().sum();
        let sum_s = series.durations.sum_us.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(to, "{name}_bucket{{{text},le=\"+Inf\"}} {all}");
        let _ = writeln!(
            to,
            "{name}_sum{{{text}}} {sum_s}\n{name}_count{{{text}}} {all}"
        );
    }
}

impl Labels {
    fn lasts(&self) -> bool {
        matches!(self.verb, "WATCH" | "CONNECT")
    }

    fn text(&self) -> String {
        let Self {
            verb,
            group,
            version,
            resource,
            subresource,
            scope,
        } = self;
        format!(
            "verb=\"{verb}\",group=\"{group}\",version=\"{version}\",resource=\"{resource}\",subresource=\"{subresource}\",scope=\"{scope}\",component=\"apiserver\""
        )
    }
}

async fn objects(state: &State, out: &mut String) {
    let mut seen: Vec<String> = Vec::new();
    let mut counts: Vec<(&str, &str, u64)> = Vec::new();
    let custom = state.custom.set();
    let custom: Vec<Arc<Kind>> = custom
        .groups()
        .flat_map(|group| custom.of_group(group).to_vec())
        .collect();
    for kind in registry::all()
        .iter()
        .chain(custom.iter().map(AsRef::as_ref))
    {
        let prefix = kind.prefix("");
        if kind.storage.is_empty() || seen.contains(&prefix) {
            continue;
        }
        if let Some(count) = count(state, &prefix).await {
            counts.push((kind.group, kind.plural, count));
        }
        seen.push(prefix);
    }
    let name = "apiserver_resource_objects";
    head(
        out,
        name,
        "gauge",
        "Objects that are stored, by group and resource.",
    );
    for (group, resource, count) in &counts {
        let _ = writeln!(
            out,
            "{name}{{group=\"{group}\",resource=\"{resource}\"}} {count}"
        );
    }
    let name = "apiserver_storage_objects";
    let help = "The same by one name; upstream has deprecated it.";
    head(out, name, "gauge", help);
    for (group, resource, count) in &counts {
        let resource = crate::status::qualified(resource, group);
        let _ = writeln!(out, "{name}{{resource=\"{resource}\"}} {count}");
    }
}

async fn count(state: &State, prefix: &str) -> Option<u64> {
    let page = state.store.range(prefix, None, 1, None).await.ok()?;
    Some(page.items.len() as u64 + page.remaining.unwrap_or_default())
}
