//! A seccomp profile as the kernel takes it. Compiling one takes longer than everything else that starts a container, so the
//! result is kept in the run directory, under a name made from all that it depends on.

use crate::sys;
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use serde_json::Value;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;

/// Bytes of one instruction, and the longest program that the kernel takes (BPF_MAXINSNS).
const INSTRUCTION_LENGTH: usize = 8;
const INSTRUCTIONS_MAX: usize = 4096;

/// Calls that are newer than the libseccomp that may be installed, with their numbers, which are the same on all architectures.
const NEW_CALLS: [(&str, u32); 16] = [
    ("cachestat", 451),
    ("fchmodat2", 452),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("statmount", 457),
    ("listmount", 458),
    ("lsm_get_self_attr", 459),
    ("lsm_set_self_attr", 460),
    ("lsm_list_modules", 461),
    ("mseal", 462),
    ("setxattrat", 463),
    ("getxattrat", 464),
    ("listxattrat", 465),
    ("removexattrat", 466),
];
/// The newest call that the profile was made with: what is newer does not exist, so that programs do what they do on older
/// kernels. Told that it is forbidden, many give up.
const NEWEST: u32 = 466;
/// The call of 32-bit x86 that makes sockets, among others, and what it is told to make one.
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const SOCKETCALL: u32 = 102;
const SOCKETCALL_SOCKET: u32 = 1;
/// Where the private calls of 32-bit ARM begin, and further up those of x32.
const PRIVATE: u32 = 0x0f_0000;

/// The last number before all architectures count alike: above it a profile's newest call tells how old it is.
const COMMON: u32 = 423;

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub(super) program: Vec<u8>,
    /// SECCOMP_FILTER_FLAG_*.
    flags: u32,
}

impl Filter {
    /// The filter of `profile` ([`super::seccomp::profile`] or [`super::profile::resolve`]), from `dir` where it has been compiled before.
    pub fn of(profile: &Value, dir: &Path) -> Result<Filter, String> {
        let text = profile.to_string();
        let mut hasher = DefaultHasher::new();
        (env!("CARGO_PKG_VERSION"), NEW_CALLS, SOCKETCALL, &text).hash(&mut hasher);
        let path = dir.join(format!("{:016x}-{}", hasher.finish(), text.len()));
        let flags = flags(profile);
        let checked = |bytes| Filter::checked(bytes, flags);
        if let Ok(filter) = fs::read(&path).map_err(|_| ()).and_then(checked) {
            return Ok(filter);
        }
        let compiled = compile(profile).map_err(|error| format!("seccomp profile: {error}"))?;
        let filter = checked(compiled).map_err(|()| too_long())?;
        // Without a copy the next one compiles again.
        let _ = filter.keep(&path);
        Ok(filter)
    }

    /// Confines this process and all that it becomes. Needs CAP_SYS_ADMIN or no-new-privileges.
    pub fn load(&self) -> io::Result<()> {
        sys::load_filter(&self.program, self.flags)
    }

    fn checked(program: Vec<u8>, flags: u32) -> Result<Filter, ()> {
        let whole = program.len().is_multiple_of(INSTRUCTION_LENGTH);
        let count = program.len() / INSTRUCTION_LENGTH;
        if whole && (1..=INSTRUCTIONS_MAX).contains(&count) {
            Ok(Filter { program, flags })
        } else {
            Err(())
        }
    }

    fn keep(&self, path: &Path) -> io::Result<()> {
        // Several processes may do this at once; each writes a file of its own, and all write the same.
        let temporary = path.with_extension(std::process::id().to_string());
        if let Some(dir) = path.parent() {
            crate::records::make_dir(dir).map_err(io::Error::other)?;
        }
        fs::write(&temporary, &self.program)?;
        fs::rename(&temporary, path)
    }
}

/// Whether a profile can be compiled at all.
pub fn check(profile: &Value) -> Result<(), String> {
    let compiled = compile(profile).map_err(|error| format!("seccomp profile: {error}"))?;
    Filter::checked(compiled, 0)
        .map(drop)
        .map_err(|()| too_long())
}

fn too_long() -> String {
    format!(
        "seccomp profile: it is longer than the {INSTRUCTIONS_MAX} instructions that the kernel takes"
    )
}

/// Of those that a profile may ask for, what the kernel is told (seccomp(2)).
fn flags(profile: &Value) -> u32 {
    let bit = |flag: &Value| match flag.as_str() {
        Some("SECCOMP_FILTER_FLAG_LOG") => libc::SECCOMP_FILTER_FLAG_LOG as u32,
        Some("SECCOMP_FILTER_FLAG_SPEC_ALLOW") => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32,
        _ => 0,
    };
    list(&profile["flags"])
        .iter()
        .map(bit)
        .fold(0, |a, b| a | b)
}

/// What runs before libseccomp's own program: `answers` for calls by their number, and ENOSYS for what is newer than `newest`. With
/// `families` also for the one way to make a socket on 32-bit x86 that hides from a filter which family is asked for.
fn prologue(answers: &[(u32, u32)], newest: Option<u32>, families: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut push = |code: u32, jump_true: u8, jump_false: u8, value: u32| {
        bytes.extend((code as u16).to_ne_bytes());
        bytes.extend([jump_true, jump_false]);
        bytes.extend(value.to_ne_bytes());
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let compare = |how: u32| libc::BPF_JMP | how | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    // seccomp_data begins with the call's number and the architecture; the lower half of the first argument is at 16.
    if families {
        push(load, 0, 0, 4);
        push(compare(libc::BPF_JEQ), 0, 5, AUDIT_ARCH_I386);
        push(load, 0, 0, 0);
        push(compare(libc::BPF_JEQ), 0, 3, SOCKETCALL);
        push(load, 0, 0, 16);
        push(compare(libc::BPF_JEQ), 0, 1, SOCKETCALL_SOCKET);
        push(answer, 0, 0, unknown);
    }
    push(load, 0, 0, 0);
    for (number, result) in answers {
        push(compare(libc::BPF_JEQ), 0, 1, *number);
        push(answer, 0, 0, *result);
    }
    if let Some(newest) = newest {
        push(compare(libc::BPF_JGE), 2, 0, PRIVATE);
        push(compare(libc::BPF_JGT), 0, 1, newest);
        push(answer, 0, 0, unknown);
    }
    bytes
}

pub(super) fn compile(profile: &Value) -> Result<Vec<u8>, String> {
    let text = |error: libseccomp::error::SeccompError| error.to_string();
    // A profile of one's own says all that there is to say about sockets, and was made for the calls that it names.
    let own = profile["own"] == true;
    let default = action(&profile["defaultAction"], &profile["defaultErrnoRet"])?;
    let mut filter = ScmpFilterContext::new(default).map_err(text)?;
    let mut new = Vec::new();
    let mut newest = if own { COMMON } else { NEWEST };
    let architectures = list(&profile["architectures"])
        .iter()
        .map(architecture)
        .collect::<Result<Vec<_>, _>>()?;
    for arch in &architectures {
        filter.add_arch(*arch).map_err(text)?;
    }
    if !architectures.is_empty() && !architectures.contains(&ScmpArch::native()) {
        filter.remove_arch(ScmpArch::Native).map_err(text)?;
    }
    // A tree instead of a list: every call of every container goes through it. Older libraries cannot.
    let _ = filter.set_ctl_optimize(2);
    for rule in list(&profile["syscalls"]) {
        let action = action(&rule["action"], &rule["errnoRet"])?;
        if action == default {
            // The library refuses to say the same twice.
            continue;
        }
        let arguments = list(&rule["args"]);
        let alternatives = alternatives(arguments)?;
        for name in list(&rule["names"]).iter().filter_map(Value::as_str) {
            let number = NEW_CALLS.iter().find(|(known, _)| *known == name);
            let Ok(call) = ScmpSyscall::from_name(name) else {
                // What neither knows has the default's answer.
                if let (Some((_, number)), true) = (number, arguments.is_empty()) {
                    newest = newest.max(*number);
                    new.push((*number, answer(action)));
                }
                continue;
            };
            newest = newest.max(u32::try_from(i32::from(call)).unwrap_or(0));
            for conditions in &alternatives {
                filter
                    .add_rule_conditional(action, call, conditions)
                    .map_err(|error| format!("{name}: {error}"))?;
            }
        }
    }
    let memory = rustix::fs::memfd_create("plimsoll-filter", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|error| error.to_string())?;
    filter.export_bpf(&memory).map_err(text)?;
    let open = matches!(default, ScmpAction::Allow | ScmpAction::Log);
    let mut bytes = prologue(&new, (!open).then_some(newest), !own);
    let mut file = File::from(memory);
    io::Seek::rewind(&mut file)
        .and_then(|()| io::Read::read_to_end(&mut file, &mut bytes))
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// All together; but where two look at one argument, which the library cannot, each is a rule of its own, as in runc.
fn alternatives(arguments: &[Value]) -> Result<Vec<Vec<ScmpArgCompare>>, String> {
    let conditions: Vec<ScmpArgCompare> =
        arguments.iter().map(condition).collect::<Result<_, _>>()?;
    let mut seen: Vec<&Value> = arguments
        .iter()
        .map(|argument| &argument["index"])
        .collect();
    seen.sort_by_key(|index| index.as_u64());
    seen.dedup();
    Ok(if seen.len() < conditions.len() {
        conditions.into_iter().map(|one| vec![one]).collect()
    } else {
        vec![conditions]
    })
}

fn architecture(name: &Value) -> Result<ScmpArch, String> {
    name.as_str()
        .and_then(|name| name.parse::<ScmpArch>().ok())
        .ok_or_else(|| format!("unknown architecture {name}"))
}

fn action(name: &Value, errno: &Value) -> Result<ScmpAction, String> {
    let errno = errno.as_u64().and_then(|errno| u16::try_from(errno).ok());
    match (name.as_str(), errno) {
        (Some("SCMP_ACT_ALLOW"), _) => Ok(ScmpAction::Allow),
        (Some("SCMP_ACT_LOG"), _) => Ok(ScmpAction::Log),
        (Some("SCMP_ACT_TRAP"), _) => Ok(ScmpAction::Trap),
        (Some("SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD"), _) => Ok(ScmpAction::KillThread),
        (Some("SCMP_ACT_KILL_PROCESS"), _) => Ok(ScmpAction::KillProcess),
        (Some("SCMP_ACT_ERRNO"), Some(errno)) => Ok(ScmpAction::Errno(errno.into())),
        (Some("SCMP_ACT_TRACE"), Some(errno)) => Ok(ScmpAction::Trace(errno)),
        _ => Err(format!("unknown action {name}")),
    }
}

/// What the kernel calls it.
fn answer(action: ScmpAction) -> u32 {
    match action {
        ScmpAction::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
        ScmpAction::Trace(value) => libc::SECCOMP_RET_TRACE | u32::from(value),
        ScmpAction::Log => libc::SECCOMP_RET_LOG,
        ScmpAction::Trap => libc::SECCOMP_RET_TRAP,
        ScmpAction::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        ScmpAction::Allow => libc::SECCOMP_RET_ALLOW,
        _ => libc::SECCOMP_RET_KILL_PROCESS,
    }
}

fn condition(condition: &Value) -> Result<ScmpArgCompare, String> {
    let number = |name: &str| {
        condition[name]
            .as_u64()
            .ok_or_else(|| format!("a condition without {name}"))
    };
    let (index, value) = (number("index")? as u32, number("value")?);
    let (operator, datum) = match condition["op"].as_str() {
        Some("SCMP_CMP_NE") => (ScmpCompareOp::NotEqual, value),
        Some("SCMP_CMP_LT") => (ScmpCompareOp::Less, value),
        Some("SCMP_CMP_LE") => (ScmpCompareOp::LessOrEqual, value),
        Some("SCMP_CMP_EQ") => (ScmpCompareOp::Equal, value),
        Some("SCMP_CMP_GE") => (ScmpCompareOp::GreaterEqual, value),
        Some("SCMP_CMP_GT") => (ScmpCompareOp::Greater, value),
        Some("SCMP_CMP_MASKED_EQ") => (ScmpCompareOp::MaskedEqual(value), number("valueTwo")?),
        other => return Err(format!("unknown comparison {other:?}")),
    };
    Ok(ScmpArgCompare::new(index, operator, datum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::seccomp;

    #[test]
    fn a_filter_is_compiled_once_and_damage_is_noticed() {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-filter-")
            .tempdir()
            .expect("temp dir");
        let profile = seccomp::profile(&[]);
        let first = Filter::of(&profile, dir.path()).expect("compile");
        let kept = || {
            fs::read_dir(dir.path())
                .expect("list")
                .flatten()
                .map(|entry| entry.path())
                .collect::<Vec<_>>()
        };
        assert_eq!(kept().len(), 1);
        // What is there is taken: seen by the difference.
        let mut other = first.program.clone();
        other.truncate(INSTRUCTION_LENGTH);
        fs::write(&kept()[0], &other).expect("write");
        let again = Filter::of(&profile, dir.path()).expect("read");
        assert_eq!(again.program, other);
        for damaged in [&b""[..], &b"1234567"[..]] {
            fs::write(&kept()[0], damaged).expect("write");
            assert_eq!(
                Filter::of(&profile, dir.path()).expect("compile again"),
                first
            );
        }
        let admin = Filter::of(&seccomp::profile(&["CAP_SYS_ADMIN".into()]), dir.path());
        assert_ne!(admin.expect("compile"), first);
        assert_eq!(kept().len(), 2);
    }
}
