//! `GET /events`: what happens to containers, from now on. What has happened is not kept.
//!
//! Follows moby's `daemon/events`: attributes are a container's labels, its image and its name; filters look at them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use engine::Event;
use futures::StreamExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use tokio_stream::wrappers::BroadcastStream;

use crate::Docker;
use crate::containers::{self, Container};
use crate::filters::Filters;
use crate::query::Query;
use crate::record::Record;
use crate::reply::{Answer, line, stream};

/// So many containers that are gone are remembered: their last events come when nobody can be asked any more.
const GONE_MAX: usize = 256;

const KNOWN: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];
/// What happens to these is not told.
const OTHERS: [&str; 8] = [
    "config", "daemon", "network", "node", "plugin", "secret", "service", "volume",
];

/// What the last containers that were removed had been.
#[derive(Default)]
pub struct Gone(Mutex<VecDeque<(String, Told)>>);

/// What events tell of a container.
#[derive(Clone, Default)]
struct Told {
    name: String,
    image: String,
    labels: BTreeMap<String, String>,
}

impl From<&Record> for Told {
    fn from(record: &Record) -> Self {
        Self {
            name: record.name.clone(),
            image: record.image.clone(),
            labels: record.config.labels.clone(),
        }
    }
}

impl Gone {
    /// The container is about to be removed.
    pub fn remember(&self, container: &Container) {
        let mut all = self.0.lock();
        if all.len() >= GONE_MAX {
            all.pop_front();
        }
        all.push_back((container.id().to_owned(), Told::from(&container.record)));
    }

    fn of(&self, id: &str) -> Option<Told> {
        let all = self.0.lock();
        let found = all.iter().rev().find(|(known, _)| known == id);
        found.map(|(_, told)| told.clone())
    }
}

pub fn events(docker: &Docker, query: &Query) -> Answer {
    let filters = std::sync::Arc::new(Filters::of(query, &KNOWN)?);
    // a time of the past ends the stream at once
    let until = query.get("until").map(|text| {
        let seconds = text
            .split('.')
            .next()
            .and_then(|seconds| seconds.parse::<i64>().ok());
        let left = seconds.map_or(0, |at| at.saturating_sub(Timestamp::now().as_second()));
        Duration::from_secs(u64::try_from(left).unwrap_or(0))
    });
    let docker = docker.clone();
    let receiver = docker.inner.engine.events();
    let lines = BroadcastStream::new(receiver).filter_map(move |event| {
        let (docker, filters) = (docker.clone(), filters.clone());
        async move {
            let (id, action, code) = match event.ok()? {
                Event::ContainerCreated { id, .. } => (id, "create", None),
                Event::ContainerStarted { id, .. } => (id, "start", None),
                Event::ContainerPaused { id, .. } => (id, "pause", None),
                Event::ContainerUnpaused { id, .. } => (id, "unpause", None),
                Event::ContainerOomKilled { id, .. } => (id, "oom", None),
                Event::ContainerExited { id, status, .. } => (id, "die", Some(status.code)),
                Event::ContainerRemoved { id, .. } => (id, "destroy", None),
                _ => return None,
            };
            let told = match containers::find(&docker, &id).await {
                Ok(container) => Told::from(&container.record),
                // pods' containers and builds' steps are nobody's here
                Err(_) => docker.inner.gone.of(&id)?,
            };
            if !fits(&filters, &id, action, &told) {
                return None;
            }
            let mut attributes = told.labels.clone();
            attributes.insert("image".into(), told.image.clone());
            attributes.insert("name".into(), told.name.clone());
            if let Some(code) = code {
                attributes.insert("exitCode".into(), code.to_string());
            }
            let now = Timestamp::now();
            Some(line(&json!({
                "status": action, "id": id, "from": told.image, "Type": "container", "Action": action, "scope": "local",
                "Actor": { "ID": id, "Attributes": attributes }, "time": now.as_second(), "timeNano": i64::try_from(now.as_nanosecond()).unwrap_or(0),
            })))
        }
    });
    match until {
        None => stream("application/json", lines),
        Some(wait) => stream(
            "application/json",
            lines.take_until(tokio::time::sleep(wait)),
        ),
    }
}

/// Whether somebody who filters so wants to hear of it. A container is meant by the beginning of its ID or of its name, an image
/// with or without its tag.
fn fits(filters: &Filters, id: &str, action: &str, told: &Told) -> bool {
    let image = told.image.as_str();
    let colon = image
        .rfind(':')
        .filter(|at| !image[*at..].contains('/'))
        .unwrap_or(image.len());
    filters.any("type", |value| value == "container")
        && filters.any("scope", |value| value == "local")
        && filters.any("event", |value| value == action)
        && filters.any("container", |value| {
            id.starts_with(value) || told.name.starts_with(value)
        })
        && filters.any("image", |value| value == image || value == &image[..colon])
        && filters.labels(&told.labels)
        && OTHERS.iter().all(|other| filters.values(other).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_events() {
        let told = Told {
            name: "web-1".into(),
            image: "localhost:5000/app:v1".into(),
            labels: [("com.docker.compose.service".to_owned(), "web".to_owned())].into(),
        };
        for (text, expected) in [
            ("{}", true),
            (r#"{"label":["com.docker.compose.service=web"]}"#, true),
            (r#"{"label":["com.docker.compose.service"]}"#, true),
            (r#"{"label":["com.docker.compose.service=db"]}"#, false),
            (r#"{"container":["0123"]}"#, true),
            (r#"{"container":["web"]}"#, true),
            (r#"{"container":["eb-1"]}"#, false),
            (r#"{"image":["localhost:5000/app"]}"#, true),
            (r#"{"image":["localhost:5000/app:v1"]}"#, true),
            (r#"{"image":["localhost:5000/app:v2","localhost"]}"#, false),
            (r#"{"event":["die","start"],"type":["container"]}"#, true),
            (r#"{"event":["start"]}"#, false),
            (r#"{"type":["network"]}"#, false),
            (r#"{"network":["bridge"]}"#, false),
        ] {
            let query = Query::parse(&format!("filters={text}"));
            let filters = Filters::of(&query, &KNOWN).expect("known");
            let found = fits(&filters, "0123456789", "die", &told);
            assert_eq!(found, expected, "{text}");
        }
        let unknown = Query::parse(r#"filters={"colour":["red"]}"#);
        assert!(Filters::of(&unknown, &KNOWN).is_err());
    }
}
