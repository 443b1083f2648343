//! `plimsoll why hpa/NAME`: why an autoscaler decided as it did, in sentences with the numbers.
//!
//! What it tells are the ScalingDecisions that the API serves; `kubectl get scalingdecisions` shows the same objects.

mod time;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use autoscale::record::{Followed, GROUP, KIND, PLURAL, Record, VERSION};
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::Output;
use crate::cluster;
use crate::instance::Instance;

/// Without a time, decisions of the last hour are told ...
const RECENT_SECONDS: i64 = 3600;
/// ... but not more than this.
const RECENT_MAX: usize = 10;

#[derive(Args)]
pub struct Options {
    /// hpa/NAME
    autoscaler: String,
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The decision that held at this time: 2026-01-31T12:00:00Z, 12:00, 12:00:30, or 5m for five minutes ago
    #[arg(long, value_name = "TIME", conflicts_with = "since")]
    at: Option<String>,
    /// All decisions since this long ago: 90s, 5m, 1h, 2d
    #[arg(long, value_name = "DURATION")]
    since: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Tells; exit code 1 when there is no such autoscaler, or no decision at that time.
pub fn run(instance: &Instance, options: &Options) -> Result<ExitCode> {
    let name = autoscaler_of(&options.autoscaler)?;
    let (now, zone) = (Timestamp::now(), TimeZone::system());
    let choice = match (&options.at, &options.since) {
        (Some(text), _) => Choice::At(time::moment(text, now, &zone)?),
        (None, Some(text)) => Choice::Since(time::ago(text, now)?),
        (None, None) => Choice::Recent,
    };
    cluster::block_on(async {
        let client = cluster::client(instance).await?;
        let autoscaler = find(&client, &options.namespace, name)
            .await
            .with_context(|| format!("cannot tell why hpa/{name} decided as it did"))?;
        let objects = decisions(&client, &options.namespace, name).await?;
        let (told, left_out) = choose(objects, &choice, now);
        match options.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&list(&told))?),
            Output::Yaml => print!("{}", serde_saphyr::to_string(&list(&told))?),
            Output::Text => {
                print!("{}", introduction(&autoscaler));
                print!("{}", text(&told, left_out, &choice, &zone));
            }
        }
        let missed = told.is_empty() && matches!(choice, Choice::At(_));
        Ok(if missed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    })?
}

enum Choice {
    At(Timestamp),
    Since(Timestamp),
    Recent,
}

/// A kept decision.
struct Kept {
    object: Value,
    record: Record,
    followed: Followed,
}

fn autoscaler_of(text: &str) -> Result<&str> {
    let (kind, name) = text.split_once('/').unwrap_or(("hpa", text));
    let kind = kind.to_lowercase();
    let kind = kind.strip_suffix(".autoscaling").unwrap_or(&kind);
    let known = ["hpa", "horizontalpodautoscaler", "horizontalpodautoscalers"];
    if !known.contains(&kind) || name.is_empty() || name.contains('/') {
        bail!("`plimsoll why` tells about autoscalers: name one as hpa/NAME, not {text:?}");
    }
    Ok(name)
}

async fn find(client: &Client, namespace: &str, name: &str) -> Result<HorizontalPodAutoscaler> {
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), namespace);
    if let Some(found) = api
        .get_opt(name)
        .await
        .context("the Kubernetes API does not answer; `plimsoll status` tells more")?
    {
        return Ok(found);
    }
    let there = api.list(&ListParams::default()).await?;
    let names: Vec<String> = there.iter().map(ResourceExt::name_any).collect();
    match names.as_slice() {
        [] => bail!(
            "there is no autoscaler in namespace {namespace}; `kubectl get hpa -A` lists those of all"
        ),
        names => bail!(
            "no autoscaler {name:?} in namespace {namespace}; there is: {}",
            names.join(", ")
        ),
    }
}

/// What the API keeps of this autoscaler, oldest first.
async fn decisions(client: &Client, namespace: &str, name: &str) -> Result<Vec<Kept>> {
    let resource = ApiResource {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        api_version: format!("{GROUP}/{VERSION}"),
        kind: KIND.to_owned(),
        plural: PLURAL.to_owned(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let selected = ListParams::default().fields(&format!("spec.autoscaler={name}"));
    let found = api
        .list(&selected)
        .await
        .context("the kept decisions cannot be read")?;
    let mut kept: Vec<Kept> = found.items.into_iter().filter_map(understood).collect();
    kept.sort_by_key(|one| one.record.time);
    Ok(kept)
}

fn understood(object: DynamicObject) -> Option<Kept> {
    let record = Record::deserialize(object.data.get("spec")?).ok()?;
    let status = object.data.get("status");
    let followed = status.and_then(|status| Followed::deserialize(status).ok());
    let mut object = json!(object);
    object["apiVersion"] = format!("{GROUP}/{VERSION}").into();
    object["kind"] = KIND.into();
    Some(Kept {
        object,
        record,
        followed: followed.unwrap_or_default(),
    })
}

/// What is to be told, and how many of the same sort are left out.
fn choose(mut kept: Vec<Kept>, choice: &Choice, now: Timestamp) -> (Vec<Kept>, usize) {
    match choice {
        Choice::At(time) => {
            kept.retain(|one| one.record.time <= *time);
            let last = kept.pop();
            (last.into_iter().collect(), 0)
        }
        Choice::Since(time) => {
            kept.retain(|one| one.record.time >= *time);
            (kept, 0)
        }
        Choice::Recent => {
            let recent =
                |one: &&Kept| now.duration_since(one.record.time).as_secs() <= RECENT_SECONDS;
            let count = kept.iter().filter(recent).count().clamp(1, RECENT_MAX);
            let left_out = kept.len().saturating_sub(count);
            (kept.split_off(left_out), left_out)
        }
    }
}

fn list(told: &[Kept]) -> Value {
    let items: Vec<&Value> = told.iter().map(|one| &one.object).collect();
    json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": format!("{KIND}List"), "metadata": {}, "items": items})
}

fn introduction(autoscaler: &HorizontalPodAutoscaler) -> String {
    let (spec, target) = (&autoscaler.spec, &autoscaler.spec.scale_target_ref);
    let has = autoscaler
        .status
        .as_ref()
        .and_then(|status| status.current_replicas)
        .map(|replicas| format!("; it has {replicas}"));
    format!(
        "hpa/{} in namespace {} keeps {}/{} at {} to {} replicas{}.\n",
        autoscaler.name_any(),
        autoscaler.namespace().unwrap_or_default(),
        target.kind,
        target.name,
        spec.min_replicas.unwrap_or(1),
        spec.max_replicas,
        has.unwrap_or_default(),
    )
}

fn text(told: &[Kept], left_out: usize, choice: &Choice, zone: &TimeZone) -> String {
    if told.is_empty() {
        return match choice {
            Choice::At(_) => "\nNo decision of that time is kept.\n".to_owned(),
            Choice::Since(_) => {
                "\nNothing was decided otherwise than before in this time.\n".to_owned()
            }
            Choice::Recent => "\nNothing was decided yet.\n".to_owned(),
        };
    }
    let mut text = String::new();
    for one in told {
        text.push('\n');
        text.push_str(&paragraph(one, zone));
    }
    match choice {
        Choice::At(_) => {}
        _ => text.push_str("\nSince then no decision was kept: the looks came to the same, or to what had just been told.\n"),
    }
    if left_out > 0 {
        text.push_str(&format!(
            "{left_out} older decisions are kept; --since 1d tells those of the last day.\n"
        ));
    }
    text
}

/// One decision: when, what, each metric, each rule, and what became of the new pods.
fn paragraph(one: &Kept, zone: &TimeZone) -> String {
    let Kept {
        record, followed, ..
    } = one;
    let time = record.time.to_zoned(zone.clone());
    let mut text = format!(
        "{}  {}\n",
        time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        headline(record)
    );
    let mut sentences: Vec<String> = record
        .metrics
        .iter()
        .chain(&record.rules)
        .cloned()
        .collect();
    sentences.extend(record.error.clone());
    sentences.extend(followed.sentence());
    for sentence in sentences {
        text.push_str(&format!("    {}\n", capital(&sentence)));
    }
    text
}

fn headline(record: &Record) -> String {
    let reason = match record.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    match (record.from, record.to) {
        (Some(from), Some(to)) if from != to => format!("{from} → {to} replicas{reason}"),
        (Some(size), _) => format!("stays at {size}{reason}"),
        (None, _) => format!("the size is not known and stays{reason}"),
    }
}

/// The sentence with a capital at its start and a full stop, unless it begins with a name of more than letters.
fn capital(sentence: &str) -> String {
    let mut letters = sentence.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    let end = if sentence.ends_with('.') { "" } else { "." };
    format!("{}{}{end}", first.unwrap_or_default(), letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(second: i64, from: i32, to: i32) -> Kept {
        let spec = json!({
            "autoscaler": "web", "target": "Deployment/web", "from": from, "to": to,
            "time": Timestamp::from_second(1_700_000_000 + second).expect("a time"),
            "reason": "cpu resource utilization (percentage of request) above target",
            "message": "short",
            "metrics": ["cpu resource utilization (percentage of request): 150 % of requests (300m of 200m) against 80 %"],
            "rules": ["growth from 2 is limited to 4 for now: 4 instead of 8"],
        });
        let status = json!({"phase": "Complete", "wantedPods": to - from, "readyPods": to - from, "scheduledMs": 20, "startedMs": 410, "readyMs": 1230});
        Kept {
            record: serde_json::from_value(spec.clone()).expect("a record"),
            followed: serde_json::from_value(status.clone()).expect("a status"),
            object: json!({"spec": spec, "status": status}),
        }
    }

    #[test]
    fn it_is_told_in_sentences() {
        let told = text(&[kept(0, 2, 4)], 3, &Choice::Recent, &TimeZone::UTC);
        let expected = "
2023-11-14 22:13:20 UTC  2 → 4 replicas: cpu resource utilization (percentage of request) above target
    Cpu resource utilization (percentage of request): 150 % of requests (300m of 200m) against 80 %.
    Growth from 2 is limited to 4 for now: 4 instead of 8.
    2 new pods, the slowest scheduled after 0.02 s, started after 0.41 s, ready after 1.23 s.

Since then no decision was kept: the looks came to the same, or to what had just been told.
3 older decisions are kept; --since 1d tells those of the last day.
";
        assert_eq!(told, expected);
        let mut failed = kept(0, 2, 2);
        failed.record.reason = "FailedGetResourceMetric".to_owned();
        assert_eq!(
            headline(&failed.record),
            "stays at 2: FailedGetResourceMetric"
        );
        (failed.record.from, failed.record.to) = (None, None);
        failed.record.reason = "FailedGetScale".to_owned();
        assert_eq!(
            headline(&failed.record),
            "the size is not known and stays: FailedGetScale"
        );
    }

    #[test]
    fn what_is_told_depends_on_the_time() {
        let now = Timestamp::from_second(1_700_010_000).expect("a time");
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).expect("a time");
        let sizes = |seconds: &[i64], choice: Choice| {
            let all = (0..)
                .zip(seconds)
                .map(|(index, second)| kept(*second, index, index + 1));
            let (told, left_out) = choose(all.collect(), &choice, now);
            let told: Vec<Option<i32>> = told.iter().map(|one| one.record.to).collect();
            (told.into_iter().flatten().collect::<Vec<_>>(), left_out)
        };
        assert_eq!(sizes(&[0, 100, 200], Choice::At(at(150))), (vec![2], 0));
        assert_eq!(sizes(&[0, 100, 200], Choice::At(at(200))), (vec![3], 0));
        assert_eq!(sizes(&[0, 100], Choice::At(at(-1))), (vec![], 0));
        assert_eq!(
            sizes(&[0, 100, 200], Choice::Since(at(100))),
            (vec![2, 3], 0)
        );
        assert_eq!(sizes(&[0, 100, 9000], Choice::Recent), (vec![3], 2));
        assert_eq!(
            sizes(&[0, 100], Choice::Recent),
            (vec![2], 1),
            "the last, however old"
        );
        let many: Vec<i64> = (0..30).map(|index| 9000 + index).collect();
        assert_eq!(sizes(&many, Choice::Recent).1, 30 - RECENT_MAX);
        assert_eq!(sizes(&[], Choice::Recent), (vec![], 0));
    }

    #[test]
    fn only_autoscalers_are_told_about() {
        for text in [
            "web",
            "hpa/web",
            "HPA/web",
            "horizontalpodautoscaler.autoscaling/web",
        ] {
            assert_eq!(autoscaler_of(text).expect(text), "web");
        }
        for text in ["deployment/web", "hpa/", "", "hpa/a/b"] {
            assert!(autoscaler_of(text).is_err(), "{text}");
        }
    }
}
