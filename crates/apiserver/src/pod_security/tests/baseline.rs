//! What `baseline` forbids.

use serde_json::{Value, json};

use super::{plain, table, with};

/// A plain pod of containers with these fields, called `a`, `b`, ...
fn of(containers: &[Value]) -> Value {
    let named = containers
        .iter()
        .zip(["a", "b", "c"])
        .map(|(fields, name)| {
            let mut container = fields.clone();
            container["name"] = name.into();
            container
        });
    with(plain(), &json!({"containers": named.collect::<Vec<_>>()}))
}

/// A plain pod with these security contexts, of its own and of its containers.
fn secured(pod: &Value, containers: &[Value]) -> Value {
    let all: Vec<_> = containers
        .iter()
        .map(|context| json!({"securityContext": context}))
        .collect();
    with(of(&all), &json!({"securityContext": pod}))
}

fn annotated(annotations: &Value) -> Value {
    let mut pod = plain();
    pod["metadata"]["annotations"] = annotations.clone();
    pod
}

#[test]
fn app_armor() {
    let profile = |kind: &str| json!({"appArmorProfile": {"type": kind}});
    let key = "container.apparmor.security.beta.kubernetes.io";
    table(&[
        (
            "baseline:latest",
            secured(&profile("RuntimeDefault"), &[profile("Localhost")]),
            "",
        ),
        (
            "baseline:latest",
            annotated(
                &json!({format!("{key}/a"): "runtime/default", format!("{key}/b"): "localhost/x", format!("{key}/c"): "",
                "other": "unconfined"}),
            ),
            "",
        ),
        (
            "baseline:latest",
            secured(
                &profile("Unconfined"),
                &[profile("Unconfined"), json!({}), profile("Odd")],
            ),
            "forbidden AppArmor profiles (pod and containers \"a\", \"c\" must not set AppArmor profile type to \"Odd\", \"Unconfined\")",
        ),
        (
            "baseline:latest",
            secured(&json!({}), &[profile("Unconfined")]),
            "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            "baseline:v1.0",
            annotated(&json!({format!("{key}/a"): "unconfined"})),
            "forbidden AppArmor profile (annotation must not set AppArmor profile type to \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\")",
        ),
        (
            "baseline:latest",
            annotated(&json!({format!("{key}/b"): "unconfined", format!("{key}/a"): "bogus"})),
            "forbidden AppArmor profiles (annotations must not set AppArmor profile type to \"container.apparmor.security.beta.kubernetes.io/a=\"bogus\"\", \"container.apparmor.security.beta.kubernetes.io/b=\"unconfined\"\")",
        ),
    ]);
}

#[test]
fn capabilities() {
    let add = |names: &[&str]| json!({"capabilities": {"add": names}});
    let default = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    table(&[
        (
            "baseline:latest",
            secured(&json!({}), &[add(&default), json!({"capabilities": {}})]),
            "",
        ),
        (
            "baseline:latest",
            secured(
                &json!({}),
                &[
                    add(&["NET_RAW", "CHOWN"]),
                    add(&[]),
                    add(&["ALL", "NET_RAW"]),
                ],
            ),
            "non-default capabilities (containers \"a\", \"c\" must not include \"ALL\", \"NET_RAW\" in securityContext.capabilities.add)",
        ),
        (
            "baseline:v1.0",
            secured(&json!({}), &[add(&["chown"])]),
            "non-default capabilities (container \"a\" must not include \"chown\" in securityContext.capabilities.add)",
        ),
    ]);
}

#[test]
fn namespaces_of_the_host() {
    let all = json!({"hostIPC": true, "hostNetwork": true, "hostPID": true});
    table(&[
        (
            "baseline:latest",
            with(plain(), &json!({"hostPID": false, "hostUsers": true})),
            "",
        ),
        (
            "baseline:latest",
            with(plain(), &all),
            "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)",
        ),
        (
            "baseline:v1.0",
            with(plain(), &json!({"hostIPC": true})),
            "host namespaces (hostIPC=true)",
        ),
    ]);
}

#[test]
fn directories_of_the_host() {
    let path = |name: &str| json!({"name": name, "hostPath": {"path": "/"}});
    let other = json!({"name": "c", "nfs": {"server": "s", "path": "/"}});
    let volumes = |all: &[Value]| with(plain(), &json!({"volumes": all}));
    table(&[
        ("baseline:latest", volumes(std::slice::from_ref(&other)), ""),
        (
            "baseline:latest",
            volumes(&[path("a")]),
            "hostPath volumes (volume \"a\")",
        ),
        (
            "baseline:v1.0",
            volumes(&[path("b"), other, path("a")]),
            "hostPath volumes (volumes \"b\", \"a\")",
        ),
    ]);
}

#[test]
fn ports_of_the_host() {
    let ports = |ports: &[i64]| {
        let all: Vec<_> = ports
            .iter()
            .map(|p| json!({"containerPort": 1, "hostPort": p}))
            .collect();
        json!({"ports": all})
    };
    table(&[
        (
            "baseline:latest",
            of(&[ports(&[0]), json!({"ports": [{"containerPort": 80}]})]),
            "",
        ),
        (
            "baseline:latest",
            of(&[ports(&[80])]),
            "hostPort (container \"a\" uses hostPort 80)",
        ),
        (
            "baseline:v1.0",
            of(&[ports(&[9090, 80]), ports(&[]), ports(&[443, 80])]),
            "hostPort (containers \"a\", \"c\" use hostPorts 443, 80, 9090)",
        ),
    ]);
}

#[test]
fn hosts_of_probes_and_handlers() {
    let get = |host: &str| json!({"httpGet": {"port": 80, "host": host}});
    let open = |host: &str| json!({"tcpSocket": {"port": 80, "host": host}});
    let probed =
        json!({"livenessProbe": get("l"), "readinessProbe": open("r"), "startupProbe": get("s")});
    let handled = json!({"lifecycle": {"postStart": get("o"), "preStop": open("e")}});
    let both = of(&[handled, json!({"livenessProbe": get("")}), probed]);
    table(&[
        (
            "baseline:latest",
            of(&[
                json!({"livenessProbe": get(""), "readinessProbe": {"exec": {"command": ["a"]}}}),
            ]),
            "",
        ),
        ("baseline:v1.33", both.clone(), ""),
        (
            "baseline:v1.34",
            both,
            "probe or lifecycle host (containers \"a\", \"c\" use probe or lifecycle hosts \"e\", \"l\", \"o\", \"r\", \"s\")",
        ),
        (
            "baseline:latest",
            of(&[json!({"readinessProbe": get("127.0.0.1")})]),
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"127.0.0.1\")",
        ),
    ]);
}

#[test]
fn privileged() {
    let set = |to: bool| json!({"privileged": to});
    table(&[
        ("baseline:latest", secured(&json!({}), &[set(false)]), ""),
        (
            "baseline:v1.0",
            secured(&json!({}), &[set(true), set(false), set(true)]),
            "privileged (containers \"a\", \"c\" must not set securityContext.privileged=true)",
        ),
    ]);
}

#[test]
fn proc_mount() {
    let mount = |to: &str| json!({"procMount": to});
    let bad = secured(
        &json!({}),
        &[mount("Unmasked"), mount("Default"), mount("other")],
    );
    let said = "procMount (containers \"a\", \"c\" must not set securityContext.procMount to \"Unmasked\", \"other\")";
    let own_users = with(bad.clone(), &json!({"hostUsers": false}));
    table(&[
        (
            "baseline:latest",
            secured(&json!({}), &[mount("Default")]),
            "",
        ),
        ("baseline:latest", bad.clone(), said),
        (
            "baseline:latest",
            with(bad, &json!({"hostUsers": true})),
            said,
        ),
        ("baseline:v1.34", own_users.clone(), said),
        ("baseline:v1.35", own_users, ""),
    ]);
}

#[test]
fn se_linux() {
    let options = |options: &Value| json!({"seLinuxOptions": options});
    let engine = secured(&options(&json!({"type": "container_engine_t"})), &[]);
    let fine = options(&json!({"type": "container_kvm_t", "level": "s0"}));
    table(&[
        (
            "baseline:latest",
            secured(&options(&json!({"type": ""})), &[fine]),
            "",
        ),
        ("baseline:v1.31", engine.clone(), ""),
        (
            "baseline:v1.30",
            engine,
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"container_engine_t\")",
        ),
        (
            "baseline:latest",
            secured(
                &options(&json!({"type": "b", "user": "u"})),
                &[
                    options(&json!({"type": "a", "role": "r"})),
                    options(&json!({"type": "container_t"})),
                    options(&json!({"type": "b"})),
                ],
            ),
            "seLinuxOptions (pod and containers \"a\", \"c\" set forbidden securityContext.seLinuxOptions: types \"a\", \"b\"; user may not be set; role may not be set)",
        ),
        (
            "baseline:latest",
            secured(&json!({}), &[options(&json!({"user": "u"}))]),
            "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: user may not be set)",
        ),
    ]);
}

#[test]
fn seccomp() {
    let profile = |kind: &str| json!({"seccompProfile": {"type": kind}});
    let unconfined = secured(
        &profile("Unconfined"),
        &[profile("Unconfined"), json!({}), profile("Odd")],
    );
    let said = "seccompProfile (pod and containers \"a\", \"c\" must not set securityContext.seccompProfile.type to \"Odd\", \"Unconfined\")";
    let pod = "seccomp.security.alpha.kubernetes.io/pod";
    let container = "container.seccomp.security.alpha.kubernetes.io";
    let bad = annotated(
        &json!({pod: "unconfined", format!("{container}/a"): "", format!("{container}/z"): "unconfined"}),
    );
    let good = annotated(&json!({pod: "docker/default", format!("{container}/a"): "localhost/x"}));
    table(&[
        (
            "baseline:latest",
            secured(&profile("RuntimeDefault"), &[profile("Localhost")]),
            "",
        ),
        ("baseline:latest", unconfined.clone(), said),
        ("baseline:v1.19", unconfined.clone(), said),
        ("baseline:v1.18", unconfined, ""),
        ("baseline:v1.19", bad.clone(), ""),
        ("baseline:v1.18", good, ""),
        (
            "baseline:v1.18",
            bad,
            "seccompProfile (forbidden annotations container.seccomp.security.alpha.kubernetes.io/a=\"\", seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")",
        ),
    ]);
}

#[test]
fn settings_of_the_kernel() {
    let all = [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_notsent_lowat",
        "kernel.msgmax",
    ];
    let sysctls: Vec<_> = all
        .iter()
        .map(|name| json!({"name": name, "value": "1"}))
        .collect();
    let pod = secured(&json!({"sysctls": sysctls}), &[json!({})]);
    let rows = [
        ("baseline:v1.0", 1),
        ("baseline:v1.26", 1),
        ("baseline:v1.27", 2),
        ("baseline:v1.29", 3),
        ("baseline:v1.32", 4),
        ("baseline:v1.36", 4),
        ("baseline:v1.37", 5),
        ("baseline:latest", 5),
    ];
    for (standard, safe) in rows {
        let said = format!("forbidden sysctls ({})", all[safe..].join(", "));
        table(&[(standard, pod.clone(), &said)]);
    }
    let safe = secured(&json!({"sysctls": [sysctls[0]]}), &[]);
    table(&[("baseline:v1.0", safe, "")]);
}

#[test]
fn processes_of_the_host_on_windows() {
    let set = |to: bool| json!({"windowsOptions": {"hostProcess": to}});
    table(&[
        ("baseline:latest", secured(&set(false), &[set(false)]), ""),
        (
            "baseline:latest",
            secured(&set(true), &[set(true), set(false)]),
            "hostProcess (pod and container \"a\" must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            "baseline:v1.0",
            secured(&set(true), &[]),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ]);
}
