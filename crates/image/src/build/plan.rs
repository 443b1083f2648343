//! Which stages are needed for the target, and how many steps that makes.

use super::BuildError;
use super::run_flags::from_of;
use crate::dockerfile::step::{Dockerfile, Kind, Step};

/// Index of the wanted stage.
///
/// # Errors
/// When there is none of that name or number.
pub(super) fn target(file: &Dockerfile, wanted: Option<&str>) -> Result<usize, BuildError> {
    let last = file.stages.len() - 1;
    let Some(wanted) = wanted.filter(|w| !w.is_empty()) else {
        return Ok(last);
    };
    let named = file
        .stages
        .iter()
        .position(|s| s.name.as_deref() == Some(&wanted.to_lowercase()));
    let numbered = wanted.parse().ok().filter(|n| *n <= last);
    named.or(numbered).ok_or_else(|| {
        let names: Vec<&str> = file
            .stages
            .iter()
            .filter_map(|s| s.name.as_deref())
            .collect();
        let hint = if names.is_empty() {
            String::new()
        } else {
            format!(" (stages: {})", names.join(", "))
        };
        BuildError::Request(format!("target stage {wanted:?} could not be found{hint}"))
    })
}

/// The stage before `index` that a name means in FROM.
pub(super) fn named_before(file: &Dockerfile, index: usize, name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    file.stages[..index]
        .iter()
        .rposition(|s| s.name.as_deref() == Some(&name))
}

/// The stage before `index` that a name or number means in `--from`.
pub(super) fn source_stage(file: &Dockerfile, index: usize, name: &str) -> Option<usize> {
    named_before(file, index, name).or_else(|| name.parse().ok().filter(|n| *n < index))
}

/// Indices of stages to build, in order, the target last. `bases[i]` is stage i's FROM with variables replaced. What triggers of a
/// base need is not known before the base is there: see [`references`].
pub(super) fn needed(file: &Dockerfile, bases: &[String], target: usize) -> Vec<usize> {
    let mut needed = vec![false; file.stages.len()];
    needed[target] = true;
    for index in (0..=target).rev() {
        if !needed[index] {
            continue;
        }
        let references = references(file, index, &file.stages[index].steps);
        let base = named_before(file, index, &bases[index]);
        for reference in references.into_iter().chain(base) {
            needed[reference] = true;
        }
    }
    (0..=target).filter(|i| needed[*i]).collect()
}

/// Stages that steps of stage `index` take files from.
pub(super) fn references(file: &Dockerfile, index: usize, steps: &[Step]) -> Vec<usize> {
    froms(steps)
        .filter_map(|name| source_stage(file, index, name))
        .collect()
}

fn froms(steps: &[Step]) -> impl Iterator<Item = &str> {
    steps.iter().flat_map(|step| {
        let (flags, wanted) = match &step.kind {
            Kind::Copy(copy) => (copy.flags.as_slice(), "from"),
            Kind::Run { flags, .. } => (flags.as_slice(), "mount"),
            _ => (&[][..], ""),
        };
        flags
            .iter()
            .filter(move |f| f.name == wanted)
            .filter_map(|f| {
                let value = f.value.as_deref()?;
                if f.name == "from" {
                    Some(value)
                } else {
                    from_of(value)
                }
            })
    })
}
