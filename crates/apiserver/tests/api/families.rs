//! Address families of Services: what is asked for, what is given, and refusals in upstream's words.

use serde_json::{Value, json};

use crate::server::{SERVICES, Server};

fn service(name: &str, spec: Value) -> Value {
    let mut all = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    for (key, value) in spec.as_object().expect("fields") {
        all[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": all})
}

fn shown(service: &Value) -> String {
    let list = |key: &str| -> Vec<String> {
        let all = service["spec"][key].as_array().into_iter().flatten();
        all.filter_map(Value::as_str)
            .map(|text| match text.split_once([':', '.']) {
                Some((start, _)) => start.to_owned(),
                None => text.to_owned(),
            })
            .collect()
    };
    let policy = service["spec"]["ipFamilyPolicy"].as_str().unwrap_or("-");
    format!(
        "{policy} {} {}",
        list("ipFamilies").join(","),
        list("clusterIPs").join(",")
    )
}

#[tokio::test]
async fn a_service_moves_between_one_family_and_two() {
    let server = Server::dual_stack().await;
    let cases = [
        ("plain", json!({}), "SingleStack IPv4 10"),
        (
            "six",
            json!({"ipFamilies": ["IPv6"]}),
            "SingleStack IPv6 fd00",
        ),
        (
            "prefer",
            json!({"ipFamilyPolicy": "PreferDualStack"}),
            "PreferDualStack IPv4,IPv6 10,fd00",
        ),
        (
            "turned",
            json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}),
            "RequireDualStack IPv6,IPv4 fd00,10",
        ),
        (
            "headless",
            json!({"clusterIP": "None"}),
            "SingleStack IPv4 None",
        ),
        (
            "own",
            json!({"clusterIP": "None", "selector": null}),
            "RequireDualStack IPv4,IPv6 None",
        ),
        (
            "alias",
            json!({"type": "ExternalName", "externalName": "a.example"}),
            "-  ",
        ),
    ];
    for (name, spec, expected) in cases {
        let made = server
            .post(SERVICES, &service(name, spec))
            .await
            .expect(201);
        assert_eq!(shown(&made), expected, "{name}");
    }
    let path = format!("{SERVICES}/plain");
    let patch = |spec: Value| {
        let (server, path) = (&server, path.as_str());
        async move {
            let change = json!({ "spec": spec });
            server.patch(path, "merge", &change).await
        }
    };
    let up = patch(json!({"ipFamilyPolicy": "PreferDualStack"}))
        .await
        .expect(200);
    assert_eq!(shown(&up), "PreferDualStack IPv4,IPv6 10,fd00");
    // A whole object of a client that knows nothing of families keeps them.
    let mut old_client = up.clone();
    for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        old_client["spec"]
            .as_object_mut()
            .expect("a spec")
            .remove(key);
    }
    old_client["spec"]["ports"][0]["port"] = 81.into();
    let kept = server.put(&path, &old_client).await.expect(200);
    assert_eq!(kept["spec"]["clusterIPs"], up["spec"]["clusterIPs"]);
    let refusal = patch(json!({"clusterIPs": [up["spec"]["clusterIP"]]}))
        .await
        .refusal(422);
    assert!(
        refusal.contains("spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary cluster IP"),
        "{refusal}"
    );
    let refusal = patch(json!({"ipFamilies": ["IPv6", "IPv4"]}))
        .await
        .refusal(422);
    assert!(
        refusal.contains("may not change once set") || refusal.contains("expected an IPv"),
        "{refusal}"
    );
    let down = patch(json!({"ipFamilyPolicy": "SingleStack"}))
        .await
        .expect(200);
    assert_eq!(shown(&down), "SingleStack IPv4 10");
    let external = json!({"type": "ExternalName", "externalName": "a.example", "clusterIP": null, "clusterIPs": null});
    let external = patch(external).await.expect(200);
    assert_eq!(shown(&external), "-  ");
}

#[tokio::test]
async fn mistakes_are_told_in_upstreams_words() {
    let server = Server::dual_stack().await;
    let both = json!({"ipFamilyPolicy": "RequireDualStack"});
    let with = |more: Value| {
        let mut spec = both.clone();
        for (key, value) in more.as_object().expect("fields") {
            spec[key] = value.clone();
        }
        spec
    };
    let cases = [
        (
            with(json!({"ipFamilies": ["IPv4", "IPv4"]})),
            "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
        ),
        (
            with(json!({"ipFamilies": ["IPv5"]})),
            "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
        ),
        (
            json!({"ipFamilyPolicy": "Both"}),
            "spec.ipFamilyPolicy: Unsupported value: \"Both\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
        ),
        (
            with(json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "10.96.0.10"]})),
            "spec.clusterIPs: Invalid value: [\"10.96.0.9\",\"10.96.0.10\"]: may specify no more than one IP for each IP family",
        ),
        (
            with(
                json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9", "fd00::a"]}),
            ),
            "spec.clusterIPs: Invalid value: [\"10.96.0.9\",\"fd00::9\",\"fd00::a\"]: may only hold up to 2 values",
        ),
        (
            with(json!({"clusterIP": "10.96.0.9", "clusterIPs": ["fd00::9"]})),
            "spec.clusterIPs: Invalid value: [\"fd00::9\"]: first value must match `clusterIP`",
        ),
        (
            with(json!({"clusterIPs": ["fd00::9"]})),
            "spec.clusterIPs: Invalid value: [\"fd00::9\"]: must be empty when `clusterIP` is not specified",
        ),
        (
            with(json!({"clusterIP": "None", "clusterIPs": ["None", "fd00::9"]})),
            "spec.clusterIPs: Invalid value: [\"None\",\"fd00::9\"]: 'None' must be the first and only value",
        ),
        (
            with(json!({"clusterIP": "fd00::9", "ipFamilies": ["IPv4"]})),
            "spec.clusterIPs[0]: Invalid value: \"fd00::9\": expected an IPv4 value as indicated by `ipFamilies[0]`",
        ),
        (
            json!({"type": "ExternalName", "externalName": "a.example", "ipFamilies": ["IPv6"]}),
            "spec.ipFamilies: Forbidden: may not be set when `type` is 'ExternalName'",
        ),
    ];
    for (spec, expected) in cases {
        let refusal = server
            .post(SERVICES, &service("x", spec.clone()))
            .await
            .refusal(422);
        assert!(refusal.contains(expected), "{spec}: {refusal}");
    }
    let single = Server::new().await;
    for (spec, expected) in [
        (
            both.clone(),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
    ] {
        let refusal = single
            .post(SERVICES, &service("x", spec.clone()))
            .await
            .refusal(422);
        assert!(refusal.contains(expected), "{spec}: {refusal}");
    }
    let prefer = service("x", json!({"ipFamilyPolicy": "PreferDualStack"}));
    let made = single.post(SERVICES, &prefer).await.expect(201);
    assert_eq!(shown(&made), "PreferDualStack IPv4 10");
}
