//! Watches: a cursor into the watch cache, turned into a stream of JSON lines.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::list::{self, Selection};
use super::respond::{self, IncludeObject, Response};
use super::{Context, table};
use crate::BoxError;
use crate::cache::{Cache, Cursor, Event, Next, frame, object_frame};
use crate::codec::protobuf;
use crate::meter::Lasting;
use crate::negotiate::{Answer, Form, Media};
use crate::object::Object;
use crate::query::ListOptions;
use crate::registry::{Kind, KindRef};
use crate::status::ApiError;

/// How long a watch lasts when the client does not say (upstream: between 30 and 60 minutes).
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(45 * 60);
/// How many events a watcher holds at a time; the rest waits in the window that all share.
const EVENTS_MAX: usize = 64;
/// How often an idle watch that wants bookmarks gets one.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

struct Watcher {
    kind: KindRef,
    cache: Arc<Cache>,
    selection: Selection,
    cursor: Cursor,
    writer: Writer,
    /// The objects that were there when the watch began. They, and events, become bytes one at a time, when the
    /// client takes them.
    initial: std::vec::IntoIter<Arc<Object>>,
    pending: VecDeque<Pending>,
    changed: tokio::sync::watch::Receiver<u64>,
    deadline: Instant,
    /// `None` when the client wants none.
    next_bookmark: Option<Instant>,
    /// A bookmark is to follow what there is to be sent.
    bookmark_due: bool,
    shutdown: CancellationToken,
    ending: CancellationToken,
    ended: bool,
    /// The kind goes: what has happened to its objects is told yet.
    draining: bool,
    /// One of the server's places for watches.
    _slot: crate::flow::places::Place,
    /// Counts the events that are sent.
    counter: Option<Lasting>,
}

enum Pending {
    Line(Bytes),
    Event(Arc<Event>),
}

/// Answers a watch. A resource version that is too old gives one event, ERROR with code 410.
pub(super) async fn watch(context: Context, options: &ListOptions) -> Result<Response, ApiError> {
    let Answer { media, form } = respond::answer(&context, true)?;
    let selection = Selection::new(&context, options)?;
    let cache = context
        .state
        .cache(&context.kind)
        .ok_or_else(ApiError::no_such_path)?
        .clone();
    let slot = context
        .state
        .watches
        .take(&context.identity.user, context.role)?
        .held_with(context.lasting.clone());
    let writer = Writer {
        media,
        form,
        include: respond::include_object(&context),
        first: true,
    };
    let changed = cache.subscribe();
    let timeout = match options.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(24 * 3600)),
        _ => TIMEOUT_DEFAULT,
    };
    let now = Instant::now();
    let version = options
        .resource_version
        .as_deref()
        .and_then(|v| v.parse::<u64>().ok())
        .unwrap_or(0);
    let mut watcher = Watcher {
        kind: context.kind.clone(),
        selection,
        cursor: cache
            .cursor(u64::MAX)
            .map_err(|_| ApiError::expired("no such revision"))?,
        writer,
        initial: Vec::new().into_iter(),
        pending: VecDeque::new(),
        changed,
        deadline: now + timeout,
        next_bookmark: options.bookmarks.then(|| now + BOOKMARK_INTERVAL),
        bookmark_due: false,
        shutdown: match &context.kind.custom {
            Some(custom) => custom.ending.clone(),
            None => context.state.shutdown.clone(),
        },
        draining: false,
        ending: context.ending.clone(),
        ended: false,
        _slot: slot,
        counter: context.lasting.clone(),
        cache,
    };
    let initial = options.send_initial_events.unwrap_or(version == 0);
    if initial {
        list::check_reached(&*context.state.store, version).await?;
        watcher.send_initial(&context, options).await?;
    } else {
        let from = if version == 0 {
            watcher.cache.revision()
        } else {
            version
        };
        let store = context.state.store.as_ref();
        match watcher.cache.resume(store, from).await {
            Ok(cursor) => watcher.cursor = cursor,
            // As upstream: what is wrong with a watch that could be begun is said in the stream.
            Err(oldest) => {
                let error = too_old(from, oldest).to_value();
                let line = watcher.writer.frame("ERROR", &error);
                watcher.pending.push_back(Pending::Line(line));
                watcher.ended = true;
            }
        }
    }
    let stream = futures::stream::unfold(watcher, |mut watcher| async move {
        let chunk = watcher.next().await?;
        Some((Ok::<_, BoxError>(Frame::data(chunk)), watcher))
    });
    let content_type = match media {
        Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        _ => "application/json",
    };
    let mut response = respond::typed(200, content_type, Bytes::new());
    *response.body_mut() = StreamBody::new(stream).boxed_unsync();
    Ok(response)
}

fn too_old(asked: u64, oldest: u64) -> ApiError {
    ApiError::expired(format!("too old resource version: {asked} ({oldest})"))
}

impl Watcher {
    /// Queues the current objects, and the bookmark that ends them when the client asked for it.
    async fn send_initial(
        &mut self,
        context: &Context,
        options: &ListOptions,
    ) -> Result<(), ApiError> {
        let everything = ListOptions {
            limit: 0,
            continue_token: None,
            resource_version: None,
            ..options.clone()
        };
        // The cache's window can move on while the store is read; then the store is read again.
        for _ in 0..8 {
            let found = list::find(context, &everything, &self.selection).await?;
            let Ok(cursor) = self.cache.cursor(found.revision) else {
                continue;
            };
            self.cursor = cursor;
            self.initial = found.objects.into_iter();
            if options.send_initial_events == Some(true) && options.bookmarks {
                let line = self.writer.bookmark(&self.kind, found.revision, true);
                self.pending.push_back(Pending::Line(line));
            }
            return Ok(());
        }
        Err(ApiError::unavailable(
            "the resource changes too fast to be listed; try again",
        ))
    }

    /// How far everything was sent, for who wants to know.
    fn bookmark_before_backlog(&mut self) -> Option<Bytes> {
        self.next_bookmark?;
        if self.initial.len() > 0 {
            return None;
        }
        match self.pending.front()? {
            Pending::Event(event) => {
                let revision = event.revision - 1;
                Some(self.writer.bookmark(&self.kind, revision, false))
            }
            Pending::Line(_) => None,
        }
    }

    fn has_backlog(&self) -> bool {
        self.initial.len() > 0 || !self.pending.is_empty()
    }

    fn count(&self) {
        if let Some(counter) = &self.counter {
            counter.event();
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // also for one who is behind, and never comes to wait
            if self.ending.is_cancelled() {
                return None;
            }
            if !self.ended && self.has_backlog() && Instant::now() >= self.deadline {
                self.ended = true;
                let bookmark = self.bookmark_before_backlog();
                self.initial = Vec::new().into_iter();
                self.pending.clear();
                return bookmark;
            }
            if let Some(object) = self.initial.next() {
                self.count();
                let line = self
                    .writer
                    .line(&self.kind, "ADDED", &object, object.revision);
                return Some(line);
            }
            match self.pending.pop_front() {
                Some(Pending::Line(line)) => return Some(line),
                Some(Pending::Event(event)) => match self.line(&event) {
                    Some(line) => {
                        self.count();
                        return Some(line);
                    }
                    None => continue,
                },
                None => {}
            }
            if self.ended {
                return None;
            }
            // Marked as seen before the poll: a change in between wakes the wait below.
            self.changed.mark_unchanged();
            // Read before the poll as well, which shows everything up to it: a bookmark promises that it was sent.
            let reached = self.cache.revision();
            match self.cache.poll(&mut self.cursor, EVENTS_MAX) {
                Next::Events(events) if !events.is_empty() => {
                    self.pending.extend(events.into_iter().map(Pending::Event));
                    continue;
                }
                Next::Events(_) => {}
                Next::Gone => {
                    self.ended = true;
                    let error = ApiError::expired(format!(
                        "too old resource version: {}",
                        self.cursor.revision
                    ));
                    return Some(self.writer.frame("ERROR", &error.to_value()));
                }
            }
            if std::mem::take(&mut self.bookmark_due) {
                let revision = reached.max(self.cursor.revision);
                self.ended = Instant::now() >= self.deadline;
                return Some(self.writer.bookmark(&self.kind, revision, false));
            }
            let wake = self
                .next_bookmark
                .map_or(self.deadline, |at| at.min(self.deadline));
            tokio::select! {
                changed = self.changed.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                }
                () = self.shutdown.cancelled() => {
                    if self.kind.custom.is_none() || self.draining {
                        return None;
                    }
                    self.draining = true;
                }
                () = self.ending.cancelled() => return None,
                () = tokio::time::sleep_until(wake) => {
                    let now = Instant::now();
                    match &mut self.next_bookmark {
                        Some(at) => {
                            *at = now + BOOKMARK_INTERVAL;
                            self.bookmark_due = true;
                        }
                        None => self.ended = now >= self.deadline,
                    }
                }
            }
        }
    }

    /// What an event means to this watcher: an object that begins to match is added, one that ceases to match is
    /// deleted.
    fn line(&mut self, event: &Event) -> Option<Bytes> {
        let matches = |object: &Option<Arc<Object>>| {
            object
                .as_ref()
                .filter(|o| self.selection.matches(o))
                .cloned()
        };
        let (kind, object) = match (matches(&event.current), matches(&event.previous)) {
            (Some(now), Some(_)) => ("MODIFIED", now),
            (Some(now), None) => ("ADDED", now),
            (None, Some(before)) => ("DELETED", before),
            (None, None) => return None,
        };
        let plain = self.writer.is_plain(&self.kind);
        Some(if plain && kind == event.kind() {
            event.frame()
        } else {
            self.writer.line(&self.kind, kind, &object, event.revision)
        })
    }
}

struct Writer {
    media: Media,
    form: Form,
    include: IncludeObject,
    /// The next table is the first, which carries the column definitions.
    first: bool,
}

impl Writer {
    /// Whether events are what the cache has of them, byte by byte.
    fn is_plain(&self, kind: &Kind) -> bool {
        self.media == Media::Json && self.form == Form::Object && kind.is_stored_form()
    }

    /// One event. Protobuf is made here for each watcher that wants it, at the cost of parsing and encoding the
    /// object once; the shared window keeps JSON alone.
    fn frame(&self, event: &str, object: &Value) -> Bytes {
        if self.media != Media::Protobuf {
            return frame(event, object.to_string().as_bytes());
        }
        let written = protobuf::encode_event(event, object).or_else(|error| {
            tracing::error!(%error, "an object of a watch has no protobuf form");
            protobuf::encode_event("ERROR", &ApiError::internal(error).to_value())
        });
        written.map(Bytes::from).unwrap_or_default()
    }

    fn line(&mut self, kind: &Kind, event: &str, object: &Object, revision: u64) -> Bytes {
        if self.is_plain(kind) {
            return object_frame(event, object, revision);
        }
        let mut value = list::served(kind, object);
        value["metadata"]["resourceVersion"] = revision.to_string().into();
        let body = match self.form {
            Form::Object => value,
            Form::Metadata | Form::MetadataList => respond::partial(&value),
            Form::Table => {
                let metadata = json!({"resourceVersion": revision.to_string()});
                let first = std::mem::take(&mut self.first);
                table::table(
                    kind,
                    metadata,
                    vec![table::row(kind, &value, self.include)],
                    first,
                )
            }
        };
        self.frame(event, &body)
    }

    fn bookmark(&mut self, kind: &Kind, revision: u64, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object =
            json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata});
        let body: Value = match self.form {
            Form::Object => object,
            Form::Metadata | Form::MetadataList => respond::partial(&object),
            Form::Table => {
                let row = json!({"cells": [], "object": respond::partial(&object)});
                table::table(
                    kind,
                    json!({"resourceVersion": revision.to_string()}),
                    vec![row],
                    false,
                )
            }
        };
        self.frame("BOOKMARK", &body)
    }
}
