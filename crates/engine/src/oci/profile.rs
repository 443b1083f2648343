//! Seccomp profiles of one's own, as Docker and the OCI runtime specification write them: read strictly, and resolved for these
//! capabilities, this architecture and this kernel to what [`super::filter`] compiles.
//!
//! Sources: the runtime specification's `linux.seccomp`; Docker's `includes`, `excludes`, `archMap` and `name` beyond it.

use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Longest text of a profile, and what one may hold: more is no profile but an attempt to keep the compiler busy.
pub const LENGTH_MAX: usize = 1 << 20;
const RULES_MAX: usize = 2048;
const NAMES_MAX: usize = 16 << 10;
/// Rules with conditions in all, and of one call: the library's tree of them grows much faster than their number.
const CONDITIONS_MAX: usize = 256;
const CONDITIONS_OF_CALL_MAX: usize = 12;
/// Arguments of a system call.
const ARGUMENTS_MAX: usize = 6;
/// The highest error number that the kernel returns (MAX_ERRNO).
const ERRNO_MAX: u32 = 4095;

const ACTIONS: [&str; 8] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];
/// Flags that are taken; the first two change nothing for a process that loads its filter alone.
const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
];

/// What a profile is resolved for.
pub struct Circumstances<'a> {
    /// With `CAP_`.
    pub capabilities: &'a [String],
    /// As `std::env::consts::ARCH` names it.
    pub architecture: &'a str,
    /// Version and major revision.
    pub kernel: (u32, u32),
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(deserialize_with = "nullable")]
    architectures: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    arch_map: Vec<ArchMap>,
    #[serde(deserialize_with = "nullable")]
    flags: Vec<String>,
    listener_path: String,
    #[serde(deserialize_with = "nullable")]
    syscalls: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(deserialize_with = "nullable")]
    sub_architectures: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rule {
    name: String,
    #[serde(deserialize_with = "nullable")]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(deserialize_with = "nullable")]
    args: Vec<Argument>,
    #[serde(deserialize_with = "nullable")]
    includes: Filter,
    #[serde(deserialize_with = "nullable")]
    excludes: Filter,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Argument {
    index: u64,
    value: u64,
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Filter {
    #[serde(deserialize_with = "nullable")]
    arches: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    caps: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    min_kernel: String,
}

/// The rules that hold under these circumstances; `None` when the profile switches seccomp off (neither a default nor a rule).
///
/// Errors: what is wrong with the text, and in which rule.
pub fn resolve(text: &str, here: &Circumstances) -> Result<Option<Value>, String> {
    if text.len() > LENGTH_MAX {
        return Err(format!("it is longer than {LENGTH_MAX} bytes"));
    }
    // A list would be taken for fields in order, and an empty one for a profile that switches everything off.
    if !text.trim_start().starts_with('{') {
        return Err("it is no JSON object".into());
    }
    let profile: Profile = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if profile.default_action.is_empty() && profile.syscalls.is_empty() {
        return Ok(None);
    }
    one_of("defaultAction", &profile.default_action, &ACTIONS)?;
    errno(profile.default_errno_ret)?;
    if !profile.listener_path.is_empty() {
        return Err("listenerPath is not supported".into());
    }
    for flag in &profile.flags {
        one_of("flag", flag, &FLAGS)?;
    }
    if profile.syscalls.len() > RULES_MAX {
        return Err(format!("it has more than {RULES_MAX} rules"));
    }
    let architectures = architectures(&profile, here)?;
    let mut names = 0;
    let mut rules = Vec::new();
    for (index, rule) in profile.syscalls.iter().enumerate() {
        let placed = |reason: String| format!("syscalls[{index}]: {reason}");
        // Looked at first: a profile is right or wrong as a whole, whatever runs under it.
        let resolved = resolve_rule(rule).map_err(placed)?;
        if holds(rule, here).map_err(placed)? {
            names += resolved["names"].as_array().map_or(0, Vec::len);
            rules.push(resolved);
        }
    }
    if names > NAMES_MAX {
        return Err(format!("it names more than {NAMES_MAX} calls"));
    }
    few_conditions(&rules)?;
    Ok(Some(json!({
        "defaultAction": profile.default_action,
        "defaultErrnoRet": profile.default_errno_ret.unwrap_or(libc::EPERM as u32),
        "architectures": architectures,
        "flags": profile.flags,
        "syscalls": rules,
        "own": true,
    })))
}

/// Of a running kernel's release, as `6.1.0-13-amd64`; (0, 0) for what is no version.
pub fn kernel_version(release: &str) -> (u32, u32) {
    version(release).unwrap_or((0, 0))
}

fn resolve_rule(rule: &Rule) -> Result<Value, String> {
    let names = match (rule.name.as_str(), rule.names.as_slice()) {
        ("", names) => names.to_vec(),
        (name, []) => vec![name.to_owned()],
        _ => {
            return Err(
                "'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'"
                    .into(),
            );
        }
    };
    if names.is_empty() {
        return Err("it names no call".into());
    }
    if let Some(name) = names.iter().find(|name| name.contains('\0')) {
        return Err(format!("{name:?} is no name of a call"));
    }
    one_of("action", &rule.action, &ACTIONS)?;
    errno(rule.errno_ret)?;
    if rule.args.len() > ARGUMENTS_MAX {
        return Err(format!("it has more than {ARGUMENTS_MAX} args"));
    }
    let mut arguments = Vec::new();
    for argument in &rule.args {
        one_of("op", &argument.op, &OPERATORS)?;
        if argument.index >= ARGUMENTS_MAX as u64 {
            return Err(format!("there is no argument {}", argument.index));
        }
        arguments.push(json!({
            "index": argument.index, "value": argument.value, "valueTwo": argument.value_two, "op": argument.op,
        }));
    }
    Ok(json!({
        "names": names,
        "action": rule.action,
        "errnoRet": rule.errno_ret.unwrap_or(libc::EPERM as u32),
        "args": arguments,
    }))
}

fn few_conditions(rules: &[Value]) -> Result<(), String> {
    let mut by_call = BTreeMap::<&str, usize>::new();
    let conditional = rules.iter().filter(|rule| rule["args"] != json!([]));
    for name in conditional.flat_map(|rule| rule["names"].as_array().into_iter().flatten()) {
        let name = name.as_str().unwrap_or_default();
        let count = by_call.entry(name).or_default();
        *count += 1;
        if *count > CONDITIONS_OF_CALL_MAX {
            return Err(format!(
                "{name} has more than {CONDITIONS_OF_CALL_MAX} rules with args"
            ));
        }
    }
    match by_call.values().sum::<usize>() {
        count if count > CONDITIONS_MAX => {
            Err(format!("it has more than {CONDITIONS_MAX} rules with args"))
        }
        _ => Ok(()),
    }
}

/// Whether a rule is meant for these circumstances: nothing that it excludes, all that it includes.
fn holds(rule: &Rule, here: &Circumstances) -> Result<bool, String> {
    let has = |name: &String| here.capabilities.contains(name);
    let architecture = |names: &[String]| {
        names
            .iter()
            .any(|name| name == docker_name(here.architecture))
    };
    let at_least = |least: &str| -> Result<bool, String> {
        let least = version(least).ok_or_else(|| format!("minKernel {least:?} is no version"))?;
        Ok(here.kernel >= least)
    };
    let (out, within) = (&rule.excludes, &rule.includes);
    // Both are read, so that a wrong one is told everywhere.
    let too_new = !out.min_kernel.is_empty() && at_least(&out.min_kernel)?;
    let too_old = !within.min_kernel.is_empty() && !at_least(&within.min_kernel)?;
    let excluded = architecture(&out.arches) || out.caps.iter().any(has) || too_new;
    let included = (within.arches.is_empty() || architecture(&within.arches))
        && within.caps.iter().all(has)
        && !too_old;
    Ok(included && !excluded)
}

fn architectures(profile: &Profile, here: &Circumstances) -> Result<Vec<String>, String> {
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err("'architectures' and 'archMap' were specified in the seccomp profile, use either 'architectures' or 'archMap'".into());
    }
    let ours = seccomp_name(here.architecture);
    let mapped = profile
        .arch_map
        .iter()
        .find(|entry| entry.architecture == ours);
    Ok(match mapped {
        Some(entry) => [ours.to_owned()]
            .into_iter()
            .chain(entry.sub_architectures.iter().cloned())
            .collect(),
        None => profile.architectures.clone(),
    })
}

/// As Docker's profiles name this architecture in `arches`.
fn docker_name(architecture: &str) -> &str {
    match architecture {
        "x86_64" => "amd64",
        "x86" => "x86",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn seccomp_name(architecture: &str) -> &str {
    match architecture {
        "x86_64" => "SCMP_ARCH_X86_64",
        "x86" => "SCMP_ARCH_X86",
        "aarch64" => "SCMP_ARCH_AARCH64",
        "arm" => "SCMP_ARCH_ARM",
        "s390x" => "SCMP_ARCH_S390X",
        "powerpc64" => "SCMP_ARCH_PPC64LE",
        "riscv64" => "SCMP_ARCH_RISCV64",
        other => other,
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit());
        text[..end.unwrap_or(text.len())].parse().ok()
    };
    let (version, rest) = text.split_once('.')?;
    Some((version.parse().ok()?, number(rest)?))
}

fn one_of(what: &str, word: &str, known: &[&str]) -> Result<(), String> {
    if known.contains(&word) {
        Ok(())
    } else if word == "SCMP_ACT_NOTIFY" {
        Err("SCMP_ACT_NOTIFY is not supported: nobody would answer".into())
    } else {
        Err(format!("unknown {what} {word:?}"))
    }
}

fn errno(number: Option<u32>) -> Result<(), String> {
    match number {
        Some(number) if number > ERRNO_MAX => Err(format!("{number} is no error number")),
        _ => Ok(()),
    }
}

/// Go's programs write `null` for what is empty.
fn nullable<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    input: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(input)?.unwrap_or_default())
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
