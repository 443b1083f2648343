//! Profiles as people write them, resolved, and compiled: what the filter answers.

use super::*;
use crate::oci::filter;
use crate::oci::seccomp::tests::answer;
use proptest::prelude::*;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NATIVE: u32 = 0xc000_003e;

fn here<'a>(capabilities: &'a [String], kernel: (u32, u32)) -> Circumstances<'a> {
    Circumstances {
        capabilities,
        architecture: "x86_64",
        kernel,
    }
}

fn resolved(text: &str) -> Result<Option<Value>, String> {
    resolve(text, &here(&[], (6, 1)))
}

#[test]
fn includes_and_excludes_hold_by_capability_architecture_and_kernel() {
    let admin = ["CAP_SYS_ADMIN".to_owned(), "CAP_BPF".to_owned()];
    let none: [String; 0] = [];
    for (condition, capabilities, kernel, expected) in [
        (r#""includes":{}"#, &none[..], (6, 1), true),
        (
            r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#,
            &none,
            (6, 1),
            false,
        ),
        (
            r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#,
            &admin,
            (6, 1),
            true,
        ),
        (
            r#""includes":{"caps":["CAP_SYS_ADMIN","CAP_SYSLOG"]}"#,
            &admin,
            (6, 1),
            false,
        ),
        (
            r#""excludes":{"caps":["CAP_SYSLOG","CAP_BPF"]}"#,
            &admin,
            (6, 1),
            false,
        ),
        (
            r#""excludes":{"caps":["CAP_SYS_ADMIN"]}"#,
            &none,
            (6, 1),
            true,
        ),
        (
            r#""includes":{"arches":["amd64","x32"]}"#,
            &none,
            (6, 1),
            true,
        ),
        (r#""includes":{"arches":["arm64"]}"#, &none, (6, 1), false),
        (r#""excludes":{"arches":["amd64"]}"#, &none, (6, 1), false),
        (r#""includes":{"minKernel":"4.8"}"#, &none, (4, 8), true),
        (r#""includes":{"minKernel":"4.8"}"#, &none, (4, 7), false),
        (r#""includes":{"minKernel":"4.8"}"#, &none, (5, 0), true),
        (r#""excludes":{"minKernel":"4.8"}"#, &none, (5, 0), false),
        (
            r#""includes":null,"excludes":{"minKernel":null,"caps":null}"#,
            &none,
            (5, 0),
            true,
        ),
    ] {
        let text = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW",{condition}}}]}}"#
        );
        let rules = resolve(&text, &here(capabilities, kernel)).expect("valid");
        let count = rules.expect("a profile")["syscalls"]
            .as_array()
            .map(Vec::len);
        assert_eq!(
            count == Some(1),
            expected,
            "{condition} {capabilities:?} {kernel:?}"
        );
    }
}

#[test]
fn architectures_come_from_the_list_or_from_the_map_for_this_machine() {
    let of = |fields: &str| {
        let text = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW",{fields}}}"#);
        resolved(&text).map(|profile| profile.expect("a profile")["architectures"].clone())
    };
    let map = r#""archMap":[{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]},
        {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}]"#;
    assert_eq!(of(map), Ok(json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])));
    let list = r#""architectures":["SCMP_ARCH_X86_64"]"#;
    assert_eq!(of(list), Ok(json!(["SCMP_ARCH_X86_64"])));
    assert_eq!(of(r#""architectures":null"#), Ok(json!([])));
    let both = of(&format!("{map},{list}")).expect_err("both");
    assert!(
        both.contains("use either 'architectures' or 'archMap'"),
        "{both}"
    );
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let rule = |rule: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#);
    let many = vec![r#"{"names":["read"],"action":"SCMP_ACT_ERRNO"}"#; RULES_MAX + 1].join(",");
    for (text, expected) in [
        ("", "no JSON object"),
        ("{", "EOF while parsing"),
        ("[]", "no JSON object"),
        ("{\"defaultAction\":1}", "line 1 column 18"),
        (
            r#"{"defaultAction":"SCMP_ACT_DANCE"}"#,
            "unknown defaultAction \"SCMP_ACT_DANCE\"",
        ),
        (
            r#"{"syscalls":[{"names":["read"]}]}"#,
            "unknown defaultAction \"\"",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096}"#,
            "4096 is no error number",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            "SCMP_ACT_NOTIFY is not supported",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}"#,
            "listenerPath",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["FAST"]}"#,
            "unknown flag \"FAST\"",
        ),
        (
            &rule(r#"{"action":"SCMP_ACT_ERRNO"}"#),
            "syscalls[0]: it names no call",
        ),
        (
            &rule(r#"{"names":["a\u0000"],"action":"SCMP_ACT_ERRNO"}"#),
            "syscalls[0]: \"a\\0\" is no name",
        ),
        (
            &rule(r#"{"name":"read","names":["read"],"action":"SCMP_ACT_ERRNO"}"#),
            "use either 'name' or 'names'",
        ),
        (
            &rule(r#"{"names":["read"]}"#),
            "syscalls[0]: unknown action",
        ),
        (
            &rule(
                r#"{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"op":"SCMP_CMP_EQ"}]}"#,
            ),
            "there is no argument 6",
        ),
        (
            &rule(r#"{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"op":"="}]}"#),
            "unknown op \"=\"",
        ),
        (
            &rule(
                r#"{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":-1,"op":"SCMP_CMP_EQ"}]}"#,
            ),
            "invalid value",
        ),
        (
            &rule(r#"{"names":["read"],"action":"SCMP_ACT_ERRNO","includes":{"minKernel":"new"}}"#),
            "minKernel \"new\" is no version",
        ),
        (&rule(&many), "more than 2048 rules"),
        (&format!("{}{}", "{\"a\":".repeat(100_000), "]"), "line 1"),
        (&" ".repeat(LENGTH_MAX + 1), "longer than"),
    ] {
        let error = resolved(text).expect_err(text);
        assert!(
            error.contains(expected),
            "{}: {error}",
            &text[..text.len().min(200)]
        );
    }
    assert_eq!(resolved("{}"), Ok(None), "switched off");
}

#[test]
fn the_filter_answers_what_the_profile_says() {
    let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64"],"syscalls":[
        {"names":["read","no_such_call","futex_wake"],"action":"SCMP_ACT_ALLOW"},
        {"name":"write","action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
        {"names":["lseek"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":9,"op":"SCMP_CMP_GE"},{"index":2,"value":3,"op":"SCMP_CMP_NE"}]},
        {"names":["open"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
        {"names":["close"],"action":"SCMP_ACT_ERRNO","errnoRet":38},
        {"names":["mount"],"action":"SCMP_ACT_KILL_PROCESS"},
        {"names":["umount2"],"action":"SCMP_ACT_TRAP"},
        {"names":["ptrace"],"action":"SCMP_ACT_LOG"}]}"#;
    let profile = resolved(text).expect("valid").expect("a profile");
    let program = filter::compile(&profile).expect("compile");
    let refused = |errno: u32| libc::SECCOMP_RET_ERRNO | errno;
    for (number, arguments, expected) in [
        (0, [0, 0, 0], ALLOW),
        (454, [0, 0, 0], ALLOW),
        (1, [1, 0, 0], ALLOW),
        (1, [2, 0, 0], ALLOW),
        (1, [3, 0, 0], refused(38)),
        (8, [0, 9, 0], ALLOW),
        (8, [0, 8, 0], refused(38)),
        (8, [0, 9, 3], refused(38)),
        (2, [0, 0, 0], refused(13)),
        (3, [0, 0, 0], refused(38)),
        (165, [0, 0, 0], libc::SECCOMP_RET_KILL_PROCESS),
        (166, [0, 0, 0], libc::SECCOMP_RET_TRAP),
        (101, [0, 0, 0], libc::SECCOMP_RET_LOG),
    ] {
        let [a, b, c] = arguments;
        let said = answer(&program, NATIVE, number, &[a, b, c, 0, 0, 0]);
        assert_eq!(said, expected, "{number} {arguments:?}");
    }
}

#[test]
fn what_is_newer_than_the_profile_does_not_exist() {
    let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","openat2"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let said = |text: &str, number| {
        let profile = resolved(text).expect("valid").expect("a profile");
        let program = filter::compile(&profile).expect("compile");
        answer(&program, NATIVE, number, &[0; 6])
    };
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let forbidden = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    // openat2 is 437: clone3 (435) was known and left out, faccessat2 (439) and what comes later were not known.
    assert_eq!(said(text, 437), ALLOW);
    assert_eq!(said(text, 435), forbidden);
    assert_eq!(said(text, 439), unknown);
    assert_eq!(said(text, 100_000), unknown);
    let open = text.replace("SCMP_ACT_ERRNO", "SCMP_ACT_LOG");
    assert_eq!(
        said(&open, 439),
        libc::SECCOMP_RET_LOG,
        "a default that lets pass lets all pass"
    );
}

/// Words that occur in profiles, so that chance finds the deeper checks too.
fn word() -> impl Strategy<Value = Value> {
    let words = [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_CMP_EQ",
        "SCMP_CMP_MASKED_EQ",
        "read",
        "socketcall",
        "clone",
        "SCMP_ARCH_X86",
        "SCMP_ARCH_ARM",
        "amd64",
        "CAP_SYS_ADMIN",
        "4.8",
        "",
        "\u{1F980}",
    ];
    prop_oneof![
        4 => prop::sample::select(words.to_vec()).prop_map(|word| json!(word)),
        1 => any::<i64>().prop_map(|number| json!(number)),
        1 => (0_u64..7).prop_map(|number| json!(number)),
        1 => Just(Value::Null),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    let names = [
        "defaultAction",
        "defaultErrnoRet",
        "architectures",
        "archMap",
        "architecture",
        "subArchitectures",
        "syscalls",
        "name",
        "names",
        "action",
        "errnoRet",
        "args",
        "index",
        "value",
        "valueTwo",
        "op",
        "includes",
        "excludes",
        "caps",
        "arches",
        "minKernel",
        "flags",
    ];
    word().prop_recursive(4, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((prop::sample::select(names.to_vec()), inner), 0..6).prop_map(
                |fields| Value::Object(
                    fields
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value))
                        .collect()
                )
            ),
        ]
    })
}

proptest! {
    /// Hostile text is refused or compiled; nothing panics.
    #[test]
    fn any_text_is_refused_or_compiled(text in ".{0,200}", tree in tree(), rules in prop::collection::vec(tree(), 0..3)) {
        let _ = resolved(&text);
        let mut profile = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules });
        if let (Value::Object(own), Some(profile)) = (tree, profile.as_object_mut()) {
            profile.extend(own);
        }
        if let Ok(Some(resolved)) = resolved(&profile.to_string()) {
            let _ = filter::check(&resolved);
        }
    }
}
