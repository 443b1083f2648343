//! What a change left as it was may stay, whatever a rule that came since says of it (upstream's ratcheting, KEP-4008).

use kube_cel::{CompiledSchema, ValidationError};
use serde_json::Value;

/// Whether the value that a broken rule is about is as it was before the change, or something around it (`same`). Never so for
/// rules that compare both.
pub(super) fn unchanged(
    compiled: &CompiledSchema,
    error: &ValidationError,
    values: (&Value, Option<&Value>),
    same: bool,
) -> bool {
    find(compiled, error, "", values, same).unwrap_or(false)
}

/// The deepest place on the way to the error that has its rule. `within`: something around is as it was.
fn find(
    compiled: &CompiledSchema,
    error: &ValidationError,
    path: &str,
    (new, old): (&Value, Option<&Value>),
    within: bool,
) -> Option<bool> {
    let same = within || old == Some(new);
    let rest = error.field_path.strip_prefix(path)?;
    if let (Some(items), Some(position)) = (compiled.items.as_deref(), position(rest)) {
        let pair = (new.get(position)?, old.and_then(|list| list.get(position)));
        let here = format!("{path}[{position}]");
        if let Some(found) = find(items, error, &here, pair, same) {
            return Some(found);
        }
    }
    for (name, member) in new.as_object().into_iter().flatten() {
        let here = match path {
            "" => name.clone(),
            _ => format!("{path}.{name}"),
        };
        let below = match compiled.properties.get(name) {
            Some(property) => Some(property),
            None => compiled.additional_properties.as_deref(),
        };
        if let Some(below) = below.filter(|_| leads(&here, &error.field_path)) {
            let pair = (member, old.and_then(|map| map.get(name)));
            if let Some(found) = find(below, error, &here, pair, same) {
                return Some(found);
            }
        }
    }
    let branches = [&compiled.all_of, &compiled.any_of, &compiled.one_of];
    let branches = branches.into_iter().flatten().chain([compiled]);
    let mut rules = branches.flat_map(|branch| branch.validations.iter().flatten());
    let rule = rules.find(|rule| rule.rule.rule == error.rule)?;
    Some(same && !rule.is_transition_rule)
}

/// The 3 of `[3].name`.
fn position(rest: &str) -> Option<usize> {
    rest.strip_prefix('[')?.split(']').next()?.parse().ok()
}

/// Whether a path ends at `here` or goes on from it.
fn leads(here: &str, path: &str) -> bool {
    path.strip_prefix(here)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
