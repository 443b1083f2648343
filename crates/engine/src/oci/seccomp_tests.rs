//! The profile beside Docker's, as data and as compiled: every call of every architecture is put to the filter itself.

use super::*;
use crate::oci::filter;
use libseccomp::{ScmpArch, ScmpSyscall};
use std::collections::{BTreeMap, BTreeSet};

/// Where ours differs from Docker's, on purpose: stricter each time.
const STRICTER: [(&str, &str); 1] = [(
    "socketcall",
    "making a socket by it is refused, since its arguments are in memory, where a filter cannot see the family; C libraries since \
     2016 do without it",
)];

/// Docker's: calls that are allowed whatever their arguments, by condition (`always`, a capability, an architecture).
fn docker() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    let mut current = String::new();
    let text = include_str!("testdata/docker-seccomp.txt");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let calls = match line.split_once(": ") {
            Some((condition, calls)) => {
                current = condition.to_owned();
                calls
            }
            None => line,
        };
        let calls = calls.split_whitespace().map(str::to_owned);
        all.entry(current.clone()).or_default().extend(calls);
    }
    all
}

/// What a filter answers: a classic BPF program as libseccomp makes them, executed.
pub(in crate::oci) fn answer(program: &[u8], arch: u32, number: i32, arguments: &[u64; 6]) -> u32 {
    let mut data = [0_u8; 64];
    data[..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&arch.to_ne_bytes());
    for (index, argument) in arguments.iter().enumerate() {
        data[16 + 8 * index..][..8].copy_from_slice(&argument.to_ne_bytes());
    }
    let (mut at, mut value) = (0, 0_u32);
    loop {
        let step: [u8; 8] = program[at * 8..][..8].try_into().expect("an instruction");
        let code = u32::from(u16::from_ne_bytes([step[0], step[1]]));
        let k = u32::from_ne_bytes([step[4], step[5], step[6], step[7]]);
        at += 1;
        let operand = if code & libc::BPF_X != 0 {
            panic!("no X register is expected")
        } else {
            k
        };
        match code & 0x07 {
            libc::BPF_LD => {
                let bytes = data[k as usize..][..4].try_into().expect("a word");
                value = u32::from_ne_bytes(bytes);
            }
            libc::BPF_ALU if code & 0xf0 == libc::BPF_AND => value &= operand,
            libc::BPF_RET => return k,
            libc::BPF_JMP => {
                let holds = match code & 0xf0 {
                    libc::BPF_JA => {
                        at += k as usize;
                        continue;
                    }
                    libc::BPF_JEQ => value == operand,
                    libc::BPF_JGT => value > operand,
                    libc::BPF_JGE => value >= operand,
                    libc::BPF_JSET => value & operand != 0,
                    other => panic!("jump {other:x}"),
                };
                at += usize::from(if holds { step[2] } else { step[3] });
            }
            other => panic!("instruction {other:x}"),
        }
    }
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// AUDIT_ARCH_* of every architecture that a filter is made for.
const FAMILIES: [(&str, &[(ScmpArch, u32)]); 2] = [
    (
        "x86_64",
        &[
            (ScmpArch::X8664, 0xc000_003e),
            (ScmpArch::X86, 0x4000_0003),
            (ScmpArch::X32, 0xc000_003e),
        ],
    ),
    (
        "aarch64",
        &[
            (ScmpArch::Aarch64, 0xc000_00b7),
            (ScmpArch::Arm, 0x4000_0028),
        ],
    ),
];

/// All names that the library knows on an architecture.
fn calls(arch: ScmpArch) -> Vec<(String, i32)> {
    let base = if arch == ScmpArch::X32 {
        0x4000_0000
    } else {
        0
    };
    (0..600)
        .chain(0x0f_0000..0x0f_0010)
        .filter_map(|number| {
            let name = ScmpSyscall::from(base + number)
                .get_name_by_arch(arch)
                .ok()?;
            Some((name, base + number))
        })
        .collect()
}

#[test]
fn every_call_of_every_architecture_is_answered_as_docker_would() {
    let docker = docker();
    let by_arguments = ["clone", "clone3", "personality", "socket", "socketcall"];
    let capability_sets: [&[&str]; 3] = [&[], &["CAP_SYS_ADMIN"], &["*"]];
    for (family, architectures) in FAMILIES {
        for wanted in capability_sets {
            let capabilities: Vec<String> = docker
                .keys()
                .filter(|key| key.starts_with("CAP_"))
                .filter(|key| wanted == ["*"] || wanted.contains(&key.as_str()))
                .cloned()
                .collect();
            let program = filter::compile(&profile_for(&capabilities, family)).expect("compile");
            let allowed: BTreeSet<&str> = docker
                .iter()
                .filter(|(key, _)| *key == "always" || *key == family || capabilities.contains(key))
                .flat_map(|(_, calls)| calls.iter().map(String::as_str))
                .collect();
            for (arch, audit) in architectures {
                let known = calls(*arch);
                assert!(known.len() > 300, "{arch:?}: {}", known.len());
                for (name, number) in known {
                    if by_arguments.contains(&name.as_str()) {
                        continue;
                    }
                    let ours = answer(&program, *audit, number, &[0; 6]) == ALLOW;
                    let stricter = STRICTER.iter().any(|(call, _)| *call == name);
                    let expected = allowed.contains(name.as_str()) && !stricter;
                    assert_eq!(ours, expected, "{family} {arch:?} {wanted:?} {name}");
                }
            }
            // An architecture of another family has no business here.
            let foreign = answer(&program, 0x8000_0016, 3, &[0; 6]);
            assert_ne!(foreign, ALLOW, "{family}");
        }
    }
}

#[test]
fn some_calls_depend_on_their_arguments() {
    let plain = filter::compile(&profile_for(&[], "x86_64")).expect("compile");
    let admin = vec!["CAP_SYS_ADMIN".to_owned()];
    let admin = filter::compile(&profile_for(&admin, "x86_64")).expect("compile");
    let (native, i386) = (0xc000_003e, 0x4000_0003);
    let new_user = libc::CLONE_NEWUSER as u64;
    let rows: [(&str, u32, i32, u64, u32, u32); 22] = [
        // What, architecture, number, first argument, answer, answer with CAP_SYS_ADMIN.
        ("socket unix", native, 41, 1, ALLOW, ALLOW),
        ("socket alg", native, 41, 38, REFUSED, REFUSED),
        ("socket nfc", native, 41, 39, ALLOW, ALLOW),
        ("socket vsock", native, 41, 40, REFUSED, REFUSED),
        ("socket smc", native, 41, 43, ALLOW, ALLOW),
        ("socket unix, 32 bits", i386, 359, 1, ALLOW, ALLOW),
        ("socket alg, 32 bits", i386, 359, 38, REFUSED, REFUSED),
        ("socketcall socket", i386, 102, 1, UNKNOWN, UNKNOWN),
        ("socketcall bind", i386, 102, 2, ALLOW, ALLOW),
        ("102 elsewhere is getuid", native, 102, 1, ALLOW, ALLOW),
        ("clone of a thread", native, 56, 0x3d0f00, ALLOW, ALLOW),
        ("clone newuser", native, 56, new_user, REFUSED, ALLOW),
        ("clone newtime", native, 56, 0x80, ALLOW, ALLOW),
        (
            "clone newuser, 32 bits",
            i386,
            120,
            new_user,
            REFUSED,
            ALLOW,
        ),
        ("clone3", native, 435, 0, UNKNOWN, ALLOW),
        ("personality linux", native, 135, 0, ALLOW, ALLOW),
        (
            "personality no randomisation",
            native,
            135,
            0x4_0000,
            REFUSED,
            REFUSED,
        ),
        ("personality ask", native, 135, 0xffff_ffff, ALLOW, ALLOW),
        ("fchmodat2", native, 452, 0, ALLOW, ALLOW),
        ("fchmodat2, 32 bits", i386, 452, 0, ALLOW, ALLOW),
        ("lsm_list_modules", native, 461, 0, REFUSED, ALLOW),
        ("newer than the profile", native, 467, 0, UNKNOWN, UNKNOWN),
    ];
    for (what, arch, number, first, expected, with_admin) in rows {
        let arguments = [first, 0, 0, 0, 0, 0];
        assert_eq!(answer(&plain, arch, number, &arguments), expected, "{what}");
        assert_eq!(
            answer(&admin, arch, number, &arguments),
            with_admin,
            "{what}, admin"
        );
    }
}

#[test]
fn the_list_is_sorted_and_unique() {
    assert!(ALLOWED.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn names_are_docker_s_and_differences_have_reasons() {
    let docker = docker();
    let always: BTreeSet<&str> = docker["always"].iter().map(String::as_str).collect();
    let ours: BTreeSet<&str> = ALLOWED.iter().copied().collect();
    let looser: Vec<_> = ours.difference(&always).collect();
    assert!(looser.is_empty(), "looser than Docker: {looser:?}");
    let stricter: Vec<&str> = always.difference(&ours).copied().collect();
    let reasons: Vec<&str> = STRICTER.iter().map(|(call, _)| *call).collect();
    assert_eq!(stricter, reasons);
    for (capability, calls) in BY_CAPABILITY {
        let theirs: BTreeSet<&str> = docker[capability].iter().map(String::as_str).collect();
        let mut ours: BTreeSet<&str> = calls.iter().copied().collect();
        // Allowed to all anyway.
        ours.extend(theirs.intersection(&always));
        assert_eq!(ours, theirs, "{capability}");
    }
}
