//! GET of one object and of lists: consistent, paged, selected; bytes are concatenated, not serialised again.

use std::sync::Arc;

use serde_json::{Value, json};

use super::continuation::{Continuation, expired_token, read_token, write_token};
use super::respond::{self, Response};
use super::{Context, table};
use crate::codec::protobuf;
use crate::negotiate::{Answer, Form, Media};
use crate::object::{self, Object};
use crate::query::{ListOptions, VersionMatch};
use crate::registry::Kind;
use crate::selector::{FieldSelector, LabelSelector};
use crate::status::ApiError;

/// What a list or watch selects.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub namespace: String,
    labels: LabelSelector,
    fields: Vec<(FieldKind, bool, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldKind {
    Name,
    Namespace,
    Nth(usize),
}

impl Selection {
    /// Reads both selectors; unknown fields are 400.
    pub fn new(context: &Context, options: &ListOptions) -> Result<Self, ApiError> {
        let labels = LabelSelector::parse(options.label_selector.as_deref().unwrap_or_default())?;
        let parsed = FieldSelector::parse(options.field_selector.as_deref().unwrap_or_default())?;
        let kind = &context.kind;
        let mut fields = Vec::new();
        for term in parsed.0 {
            let field = match term.field.as_str() {
                "metadata.name" => FieldKind::Name,
                "metadata.namespace" if kind.namespaced => FieldKind::Namespace,
                name => FieldKind::Nth(kind.field_position(name).ok_or_else(|| {
                    ApiError::bad_request(format!("field label not supported: {name}"))
                })?),
            };
            fields.push((field, term.equal, term.value));
        }
        if !context.info.name.is_empty() {
            fields.push((FieldKind::Name, true, context.info.name.clone()));
        }
        let namespace = if kind.namespaced {
            context.info.namespace.clone()
        } else {
            String::new()
        };
        Ok(Self {
            namespace,
            labels,
            fields,
        })
    }

    pub fn matches(&self, object: &Object) -> bool {
        (self.namespace.is_empty() || object.namespace == self.namespace)
            && self.labels.matches(&object.labels)
            && self.fields.iter().all(|(field, equal, value)| {
                let actual = match field {
                    FieldKind::Name => &object.name,
                    FieldKind::Namespace => &object.namespace,
                    FieldKind::Nth(n) => match object.fields.get(*n) {
                        Some(actual) => actual,
                        None => return false,
                    },
                };
                (actual == value) == *equal
            })
    }

    /// Whether everything (in the namespace) is selected.
    pub fn is_all(&self) -> bool {
        self.labels.0.is_empty() && self.fields.is_empty()
    }

    /// The one name that can match.
    fn name(&self) -> Option<&str> {
        self.fields
            .iter()
            .find(|(f, equal, _)| *f == FieldKind::Name && *equal)
            .map(|(_, _, v)| v.as_str())
    }
}

/// One object.
pub(super) async fn get(context: &Context) -> Result<Response, ApiError> {
    let answer = respond::answer(context, false)?;
    if let Some(version) = context.query.get("resourceVersion") {
        let version: u64 = version.parse().map_err(|_| {
            ApiError::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: {version:?}: strconv.ParseUint: parsing {version:?}: invalid syntax"
            ))
        })?;
        check_reached(&*context.state.store, version).await?;
    }
    let key = context
        .kind
        .key(&context.info.namespace, &context.info.name);
    let (found, _) = context
        .state
        .store
        .get(&key)
        .await
        .map_err(|e| store_error(context, e))?;
    let kv = found.ok_or_else(|| context.not_found(&context.info.name))?;
    check_readable(&kv)?;
    if answer.form == Form::Object && context.kind.is_stored_form() {
        let cached = context
            .state
            .cache(&context.kind)
            .and_then(|cache| cache.object(&kv));
        if let Some(object) = cached {
            return Ok(respond::json(200, object.json()));
        }
    }
    let mut value = object::parse(&kv.value, kv.mod_revision);
    context.kind.from_stored(&mut value);
    respond::object(context, 200, &value, &[])
}

/// 500 for an object that is there and cannot be read.
pub(super) fn check_readable(kv: &store::KeyValue) -> Result<(), ApiError> {
    if object::is_readable(&kv.value) {
        return Ok(());
    }
    let key = &kv.key;
    Err(ApiError::internal(format!(
        "the object at {key} was written by another API server, in a form that this one cannot read"
    )))
}

/// The objects of a page and how the list goes on.
pub(super) struct Found {
    pub objects: Vec<Arc<Object>>,
    pub revision: u64,
    continue_token: Option<String>,
    remaining: Option<u64>,
}

/// A list.
pub(super) async fn list(context: &Context, options: &ListOptions) -> Result<Response, ApiError> {
    let Answer { media, form } = respond::answer(context, false)?;
    if form == Form::Metadata {
        return Err(respond::is_a_list(context));
    }
    let selection = Selection::new(context, options)?;
    let found = find(context, options, &selection).await?;
    let mut metadata = json!({"resourceVersion": found.revision.to_string()});
    if let Some(token) = &found.continue_token {
        metadata["continue"] = token.as_str().into();
        if let Some(remaining) = found.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    let kind = &context.kind;
    if media == Media::Protobuf {
        return as_protobuf(kind, form, &metadata, &found.objects).await;
    }
    Ok(match form {
        Form::Object => {
            let bytes = found.objects.iter().map(|o| o.json_bytes()).sum();
            let head = json!({"kind": kind.list_kind(), "apiVersion": kind.api_version(), "metadata": metadata});
            if kind.is_stored_form() {
                concatenate(
                    head,
                    &found.objects,
                    (COPIED_AT_ONCE, bytes),
                    |object, out| {
                        object.write_json(object.revision, out);
                    },
                )
                .await
            } else {
                concatenate(
                    head,
                    &found.objects,
                    (ENCODED_AT_ONCE, bytes),
                    |object, out| {
                        out.extend_from_slice(served(kind, object).to_string().as_bytes());
                    },
                )
                .await
            }
        }
        Form::Metadata | Form::MetadataList => {
            let head = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
            concatenate(head, &found.objects, (ENCODED_AT_ONCE, 0), |object, out| {
                let partial = respond::partial(&object.value());
                out.extend_from_slice(partial.to_string().as_bytes());
            })
            .await
        }
        Form::Table => {
            let include = respond::include_object(context);
            let mut rows = Vec::with_capacity(found.objects.len());
            for batch in found.objects.chunks(ENCODED_AT_ONCE) {
                rows.extend(
                    batch
                        .iter()
                        .map(|o| table::row(kind, &served(kind, o), include)),
                );
                tokio::task::yield_now().await;
            }
            respond::value(200, &table::table(kind, metadata, rows, true))
        }
    })
}

/// So many objects are looked at in one go for a page that selects (upstream's bound).
const LOOKED_AT_ONCE_MAX: usize = 10_000;
/// So many objects are encoded before others of this thread have their turn.
const ENCODED_AT_ONCE: usize = 64;
/// The same of objects that are copied as they are stored.
const COPIED_AT_ONCE: usize = 1024;

/// A list as protobuf. Objects are kept as JSON, so each is parsed and encoded for the answer, one at a time; none of
/// it is kept. Lists have protobuf as objects or as metadata, not as tables.
async fn as_protobuf(
    kind: &Kind,
    form: Form,
    metadata: &Value,
    objects: &[Arc<Object>],
) -> Result<Response, ApiError> {
    let mut gvk = kind.gvk();
    gvk.kind = format!("{}List", kind.kind);
    if form != Form::Object {
        gvk = crate::schema::Gvk::gvk("meta.k8s.io", "v1", "PartialObjectMetadataList");
    }
    let fail = |error| respond::cannot_encode(&error);
    let list = protobuf::List::new(gvk, metadata).map_err(fail)?;
    let mut list = list.ok_or_else(|| ApiError::not_acceptable(false))?;
    for batch in objects.chunks(ENCODED_AT_ONCE) {
        for object in batch {
            list.push(&served(kind, object)).map_err(fail)?;
        }
        tokio::task::yield_now().await;
    }
    Ok(respond::typed(200, protobuf::CONTENT_TYPE, list.finish()))
}

/// A list of what `write` appends for each object; so many at once, and so many bytes of them at a guess.
async fn concatenate(
    head: Value,
    objects: &[Arc<Object>],
    (at_once, bytes): (usize, usize),
    write: impl Fn(&Object, &mut Vec<u8>) + Send,
) -> Response {
    let head = head.to_string();
    let mut out = Vec::with_capacity(head.len() + bytes + objects.len() + 16);
    out.extend_from_slice(&head.as_bytes()[..head.len() - 1]);
    out.extend_from_slice(b",\"items\":[");
    for (index, object) in objects.iter().enumerate() {
        if index > 0 {
            out.push(b',');
            if index % at_once == 0 {
                tokio::task::yield_now().await;
            }
        }
        write(object, &mut out);
    }
    out.extend_from_slice(b"]}");
    respond::json(200, out)
}

/// An object parsed, in the served version.
pub(super) fn served(kind: &Kind, object: &Object) -> Value {
    let mut value = object.value();
    kind.from_stored(&mut value);
    value
}

/// Finds what a list selects.
pub(super) async fn find(
    context: &Context,
    options: &ListOptions,
    selection: &Selection,
) -> Result<Found, ApiError> {
    let store = &context.state.store;
    let kind = &context.kind;
    let fail = |error| store_error(context, error);
    let cache = context
        .state
        .cache(kind)
        .ok_or_else(ApiError::no_such_path)?;
    let mut after = None;
    let mut revision = None;
    let mut following: Option<u64> = None;
    if let Some(token) = &options.continue_token {
        if options
            .resource_version
            .as_deref()
            .is_some_and(|version| version != "0")
        {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let continuation = read_token(token, &kind.prefix(""))?;
        after = Some(continuation.after);
        revision = continuation.revision;
        following = continuation.remaining;
    } else if let Some(version) = options
        .resource_version
        .as_deref()
        .and_then(|v| v.parse::<u64>().ok())
    {
        check_reached(&**store, version).await?;
        // a page of a version is of that very version, if nothing else is said
        let page = options.version_match == VersionMatch::Unset && options.limit > 0 && version > 0;
        if options.version_match == VersionMatch::Exact || page {
            revision = Some(version);
        }
    }
    if let Some(name) = selection.name()
        && (!kind.namespaced || !selection.namespace.is_empty())
        && revision.is_none()
        && after.is_none()
    {
        let (found, at) = store
            .get(&kind.key(&selection.namespace, name))
            .await
            .map_err(fail)?;
        let found: Vec<_> = found.into_iter().collect();
        let objects = cache
            .objects(kind, &found)
            .into_iter()
            .filter(|o| selection.matches(o))
            .collect();
        return Ok(Found {
            objects,
            revision: at,
            continue_token: None,
            remaining: None,
        });
    }
    let prefix = kind.prefix(&selection.namespace);
    let mut objects: Vec<Arc<Object>> = Vec::new();
    let began = after.clone();
    let mut limit = options.limit;
    loop {
        let page = store
            .range(&prefix, after.as_deref(), limit, revision)
            .await
            .map_err(|error| match error {
                store::Error::Compacted { .. } if options.continue_token.is_some() => {
                    expired_token(began.as_deref().unwrap_or_default(), &kind.prefix(""))
                }
                other => fail(other),
            })?;
        revision = Some(page.revision);
        let listed = page.items.len() as u64;
        let batch = cache.objects(kind, &page.items);
        after = page.items.last().map(|kv| kv.key.clone());
        if selection.is_all() {
            objects.extend(batch);
        } else {
            objects.extend(batch.into_iter().filter(|o| selection.matches(o)));
        }
        let full = options.limit > 0 && objects.len() >= options.limit;
        if !page.more || full {
            let counted = following.map(|following| following.saturating_sub(listed));
            let mut remaining = page.remaining.or(counted).filter(|_| selection.is_all());
            let mut more = page.more;
            if options.limit > 0 && objects.len() > options.limit {
                objects.truncate(options.limit);
                after = objects.last().map(|o| o.key.clone());
                more = true;
                remaining = None;
            }
            let continue_token = after
                .filter(|_| more)
                .map(|after| Continuation {
                    revision: Some(page.revision),
                    after,
                    remaining,
                })
                .map(|continuation| write_token(&continuation, &kind.prefix("")));
            return Ok(Found {
                objects,
                revision: page.revision,
                continue_token,
                remaining,
            });
        }
        // few match: more are looked at in one go, and others have their turn in between
        limit = (limit * 2).min(LOOKED_AT_ONCE_MAX.max(options.limit));
        tokio::task::yield_now().await;
    }
}

pub(super) fn too_large_version(asked: u64, current: u64) -> ApiError {
    let mut error = ApiError::new(
        504,
        "Timeout",
        format!("Too large resource version: {asked}, current: {current}"),
    );
    error.details = Some(
        json!({"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}),
    );
    error.retry_after_seconds = Some(1);
    error
}

/// Whether the store has got to this version, perhaps by another server's write.
pub(super) async fn check_reached(store: &dyn store::Store, version: u64) -> Result<(), ApiError> {
    if version <= store.revision() {
        return Ok(());
    }
    let current = store.latest_revision().await.unwrap_or_default();
    if version > current.max(store.revision()) {
        return Err(too_large_version(version, store.revision()));
    }
    Ok(())
}

/// An error of the store as an answer.
pub(super) fn store_error(context: &Context, error: store::Error) -> ApiError {
    let (group, plural, name) = (
        context.kind.group,
        context.kind.plural,
        context.info.name.as_str(),
    );
    match error {
        store::Error::NotFound => ApiError::not_found(group, plural, name),
        store::Error::Conflict { .. } => ApiError::modified(group, plural, name),
        store::Error::Compacted { .. } => {
            ApiError::expired("The resourceVersion for the provided list is too old.")
        }
        store::Error::Future { requested, current } => too_large_version(requested, current),
        store::Error::TooLarge { .. } => ApiError::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: {error}"),
        ),
        store::Error::Unavailable { .. } | store::Error::NoSpace { .. } => {
            ApiError::unavailable(error.to_string())
        }
        // No word of trying again: the write may have happened.
        store::Error::Undecided { .. } => ApiError::new(504, "Timeout", error.to_string()),
        store::Error::Closed => ApiError::unavailable("the store is closed"),
        other => {
            tracing::error!(error = %other, "the store failed");
            ApiError::internal(other)
        }
    }
}
