//! Who may do what, as people set it up with kubectl.

use std::path::{Path, PathBuf};

use crate::support::{Root, Run, Space, eventually, holds, lacks, pod};

/// The cluster's certificate, as a file. It comes a moment after its namespace.
fn certificate(space: &Space) -> PathBuf {
    let pem = eventually("the cluster's certificate", || {
        let path = "-o jsonpath={.data.ca\\.crt}";
        let ran = space
            .kubectl(&format!("get configmap kube-root-ca.crt {path}"))
            .ran();
        if ran.stdout.contains("BEGIN CERTIFICATE") {
            Ok(ran.stdout)
        } else {
            Err(ran)
        }
    });
    let file = Root::scratch().join("ca.crt");
    std::fs::write(&file, pem).expect("written");
    file
}

/// kubectl with a token and without the administrator's certificate.
fn as_account(space: &Space, ca: &Path, token: &str, arguments: &str) -> Run {
    space.instance.kubectl(&format!(
        "--kubeconfig=/dev/null --server=https://127.0.0.1:{} --certificate-authority={} --token={} -n {} {arguments}",
        space.instance.api_port,
        ca.display(),
        token.trim(),
        space.name
    ))
}

pub fn an_account_may_what_its_role_says() {
    let space = Space::new("rights");
    space.kubectl("create serviceaccount robot").ok();
    let token = space.kubectl("create token robot --duration=20m").ok();
    let ca = certificate(&space);
    let robot = |arguments: &str| as_account(&space, &ca, &token, arguments);
    let user = "system:serviceaccount:rights:robot";
    holds(
        &robot("get pods").fails(1),
        "Error from server (Forbidden): pods is forbidden: User \"system:serviceaccount:rights:robot\" cannot list resource \"pods\" in API group \"\" in the namespace \"rights\"",
    );
    assert_eq!(robot("auth can-i list pods").fails(1).trim(), "no");

    // the generators send protobuf
    space
        .kubectl("create role reader --verb=get,list,watch --resource=pods,configmaps,deployments.apps --resource=pods/log")
        .ok();
    space
        .kubectl("create rolebinding reader --role=reader --serviceaccount=rights:robot")
        .ok();
    space
        .instance
        .kubectl("create clusterrole rights-urls --verb=get --non-resource-url=/metrics")
        .ok();
    space
        .instance
        .kubectl("create clusterrolebinding rights-urls --clusterrole=rights-urls --serviceaccount=rights:robot")
        .ok();
    eventually("the role counts", || {
        let ran = robot("get pods").ran();
        if ran.code == 0 { Ok(()) } else { Err(ran) }
    });
    assert_eq!(robot("auth can-i list deployments.apps").ok().trim(), "yes");
    assert_eq!(robot("auth can-i get /metrics").ok().trim(), "yes");
    assert_eq!(robot("auth can-i delete pods").fails(1).trim(), "no");
    let list = robot("auth can-i --list").ok();
    holds(&list, "deployments.apps");
    holds(&list, "selfsubjectreviews.authentication.k8s.io");
    lacks(&list, "*.*");
    holds(&robot("auth whoami").ok(), user);
    holds(
        &space.kubectl("get rolebinding reader -o wide").ok(),
        "Role/reader",
    );
    holds(&space.kubectl("describe role reader").ok(), "pods/log");

    // nobody hands out more than they have
    space
        .kubectl("create rolebinding admin --clusterrole=admin --user=rights-jane")
        .ok();
    eventually("the administrator of a namespace", || {
        let ran = space
            .kubectl("--as=rights-jane auth can-i create roles")
            .ran();
        if ran.stdout.trim() == "yes" {
            Ok(())
        } else {
            Err(ran)
        }
    });
    let said = space
        .kubectl("--as=rights-jane create role nodes --verb=get --resource=nodes")
        .fails(1);
    holds(
        &said,
        "is attempting to grant RBAC permissions not currently held",
    );
    holds(
        &said,
        "{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\"]}",
    );
    space
        .kubectl("--as=rights-jane create role maps --verb=get --resource=configmaps")
        .ok();
    holds(
        &space
            .kubectl("--as=nobody --as-group=nobodies get pods")
            .fails(1),
        "User \"nobody\" cannot list resource \"pods\"",
    );
    let reconciled = space
        .kubectl("auth reconcile -f -")
        .stdin("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: maps, namespace: rights}\nrules:\n- {apiGroups: [\"\"], resources: [configmaps], verbs: [get, list]}\n")
        .ok();
    holds(
        &reconciled,
        "role.rbac.authorization.k8s.io/maps reconciled",
    );
    assert_eq!(
        space.field("role/maps", ".rules[*].verbs"),
        "[\"get\"] [\"list\"]"
    );
    space
        .instance
        .kubectl("delete clusterrole,clusterrolebinding rights-urls")
        .ok();
}

pub fn a_pods_token_is_held_to_the_roles_of_its_account() {
    let space = Space::new("rights-pod");
    space.apply(&pod("asker", "sleep 1000"));
    space.ready("pod/asker");
    // the image's wget does not speak the server's TLS: that the address is reached is seen from inside, what the token
    // opens from outside
    space
        .kubectl("exec asker -- nc -w 5 kubernetes.default.svc 443 -e true")
        .ok();
    let ca = certificate(&space);
    let at = "/var/run/secrets/kubernetes.io/serviceaccount";
    let token = space.kubectl(&format!("exec asker -- cat {at}/token")).ok();
    holds(
        &as_account(&space, &ca, &token, "get configmaps").fails(1),
        "User \"system:serviceaccount:rights-pod:default\" cannot list resource \"configmaps\"",
    );
    space
        .kubectl("create rolebinding view --clusterrole=view --serviceaccount=rights-pod:default")
        .ok();
    eventually("the role counts", || {
        let ran = as_account(&space, &ca, &token, "get configmaps").ran();
        if ran.code == 0 { Ok(()) } else { Err(ran) }
    });
    as_account(&space, &ca, &token, "get secrets").fails(1);
    holds(
        &as_account(&space, &ca, &token, "auth whoami").ok(),
        "authentication.kubernetes.io/pod-name",
    );

    // a secret of the old kind gets a token that is as good
    space.apply(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\nmetadata: {name: old, annotations: {kubernetes.io/service-account.name: default}}\n",
    );
    let old = eventually("the secret is filled", || {
        let ran = space
            .kubectl("get secret old -o go-template={{.data.token|base64decode}}")
            .ran();
        if ran.code == 0 && ran.stdout.contains('.') {
            Ok(ran.stdout)
        } else {
            Err(ran)
        }
    });
    as_account(&space, &ca, &old, "get configmaps").ok();
    space.kubectl("delete secret old").ok();
    holds(
        &as_account(&space, &ca, &old, "get configmaps").fails(1),
        "You must be logged in to the server",
    );
}
