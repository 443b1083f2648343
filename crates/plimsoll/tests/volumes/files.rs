//! Files that follow their objects, and what pods know about themselves.

use super::support::{Root, Run, Space, eventually, holds};
use super::{SLEEP, Shell, pod};

pub fn files_follow_their_objects(space: &Space) {
    space
        .kubectl("create configmap settings --from-literal=colour=green --from-literal=size=1")
        .ok();
    space
        .kubectl("create secret generic key --from-literal=pw=old")
        .ok();
    let volumes = "{name: map, configMap: {name: settings, defaultMode: 0640}}, {name: key, secret: {secretName: key, items: [{key: pw, path: deep/pw, mode: 0400}]}}, \
        {name: none, configMap: {name: none, optional: true}}, \
        {name: all, projected: {sources: [{configMap: {name: settings}}, {secret: {name: key}}, {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}}";
    let mounts = "{name: map, mountPath: /map}, {name: key, mountPath: /key}, {name: all, mountPath: /all}, {name: none, mountPath: /none}, {name: map, mountPath: /part, subPath: colour}";
    space.apply(&pod("reader", SLEEP, mounts, volumes, ""));
    space.ready("pod/reader");
    let sh = |script: &str| space.sh("reader", script).ok();
    assert_eq!(
        sh("cat /map/colour /key/deep/pw /all/pw /part; ls /none"),
        "greenoldoldgreen"
    );
    assert_eq!(sh("stat -Lc %a /map/colour /key/deep/pw"), "640\n400\n");
    holds(&sh("ls -l /map"), "colour -> ..data/colour");
    holds(&sh("grep /key /proc/mounts"), "tmpfs");
    let started = space.field("pod/reader", ".status.containerStatuses[0].containerID");

    // one patch changes a key, takes one away and adds one: a reader sees all of it or nothing
    space
        .kubectl("patch configmap settings --type=merge -p '{\"data\":{\"colour\":\"blue\",\"size\":null,\"shape\":\"round\"}}'")
        .ok();
    space
        .kubectl("patch secret key -p '{\"stringData\":{\"pw\":\"new\"}}'")
        .ok();
    space.kubectl("label pod reader tier=gold").ok();
    eventually("the new content", || {
        let seen =
            sh("cat /map/colour /all/colour /all/shape /key/deep/pw /all/pw /all/labels; ls /map");
        if seen == "blueblueroundnewnewtier=\"gold\"colour\nshape\n" {
            Ok(())
        } else {
            Err(seen)
        }
    });
    assert_eq!(
        sh("cat /part"),
        "green",
        "a part of a volume does not follow"
    );
    // an optional object that comes later is seen, and one that goes leaves what there was
    space
        .kubectl("create configmap none --from-literal=late=yes")
        .ok();
    eventually("the optional object", || {
        let seen = sh("cat /none/late || true");
        if seen == "yes" { Ok(()) } else { Err(seen) }
    });
    space.kubectl("delete secret key").ok();
    space.until_says(
        "get events",
        "MountVolume.SetUp failed for volume \"key\" : secret \"key\" not found",
    );
    assert_eq!(sh("cat /key/deep/pw"), "new");
    assert_eq!(
        space.field("pod/reader", ".status.containerStatuses[0].containerID"),
        started,
        "nothing was started anew"
    );
    // what may not change does not
    space
        .kubectl("create configmap fixed --from-literal=a=1")
        .ok();
    space
        .kubectl("patch configmap fixed -p '{\"immutable\":true}'")
        .ok();
    holds(
        &space
            .kubectl("patch configmap fixed -p '{\"data\":{\"a\":\"2\"}}'")
            .fails(1),
        "field is immutable when `immutable` is set",
    );
}

pub fn pods_have_an_identity_and_no_rights(space: &Space) {
    let own = "{name: own, projected: {sources: [{serviceAccountToken: {path: vault, audience: vault, expirationSeconds: 600}}]}}";
    space.apply(
        &(pod("who", SLEEP, "{name: own, mountPath: /own}", own, "")
            + &pod(
                "nobody",
                SLEEP,
                "",
                "",
                ", automountServiceAccountToken: false",
            )
            + &pod(
                "user",
                SLEEP,
                "",
                "",
                ", securityContext: {runAsUser: 1234}",
            )),
    );
    for name in ["who", "nobody", "user"] {
        space.ready(&format!("pod/{name}"));
    }
    let at = "/var/run/secrets/kubernetes.io/serviceaccount";
    assert_eq!(
        space
            .sh("who", &format!("cat {at}/namespace; ls {at}"))
            .ok(),
        "tokensca.crt\nnamespace\ntoken\n"
    );
    space.sh("nobody", &format!("ls {at}")).fails(1);
    assert_eq!(
        space.sh("user", &format!("stat -Lc %u:%a {at}/token")).ok(),
        "1234:600\n"
    );
    let token = space.sh("who", &format!("cat {at}/token")).ok();
    let ca = space.sh("who", &format!("cat {at}/ca.crt")).ok();
    let ca_file = Root::scratch().join("ca.crt");
    std::fs::write(&ca_file, ca).expect("written");
    let api = format!("https://127.0.0.1:{}", space.instance.api_port);
    let ask = |token: &str, path: &str| {
        let url = format!(
            "-sS -m 20 --cacert {} -H 'Authorization: Bearer {token}' {api}{path}",
            ca_file.display()
        );
        Run::new("curl", &url).ok()
    };
    let pods = format!("/api/v1/namespaces/{}/pods", space.name);
    let said = ask(&token, &pods);
    holds(&said, "\"code\": 403");
    holds(
        &said,
        &format!(
            "User \\\"system:serviceaccount:{}:default\\\" cannot list resource",
            space.name
        ),
    );
    holds(&ask(&token, "/version"), "gitVersion");
    holds(&ask("nonsense", &pods), "\"code\": 401");
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    holds(&ask(&forged, &pods), "\"code\": 401");
    let vault = space.sh("who", "cat /own/vault").ok();
    holds(&ask(&vault, &pods), "\"code\": 401");

    // by the commands that people use
    space.kubectl("create serviceaccount robot").ok();
    let created = space.kubectl("create token robot --duration=20m").ok();
    let who = space.instance.kubectl(&format!(
        "--kubeconfig=/dev/null --server={api} --certificate-authority={} --token={} auth whoami -o jsonpath={{.status.userInfo.username}}",
        ca_file.display(),
        created.trim()
    ));
    assert_eq!(
        who.ok(),
        format!("system:serviceaccount:{}:robot", space.name)
    );
    holds(
        &space.kubectl("create token robot --duration=1m").fails(1),
        "may not specify a duration less than 10 minutes",
    );
    holds(
        &space.kubectl("create token nobody").fails(1),
        "serviceaccounts \"nobody\" not found",
    );
    holds(
        &space
            .kubectl("create -f -")
            .stdin(pod("stray", "true", "", "", ", serviceAccountName: stray"))
            .fails(1),
        &format!(
            "error looking up service account {}/stray: serviceaccount \"stray\" not found",
            space.name
        ),
    );
    // a token ends with what it was made for
    space.kubectl("delete serviceaccount robot").ok();
    holds(&ask(created.trim(), "/version"), "\"code\": 401");
    space.kubectl("delete pod who --wait=true").ok();
    holds(&ask(&token, "/version"), "\"code\": 401");
}
