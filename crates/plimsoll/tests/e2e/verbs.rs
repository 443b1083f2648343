//! The same work by plimsoll's own verbs.

use serde_json::Value;

use crate::support::{Root, Run, eventually, free_port, holds, lacks, repository, shared};

pub fn the_walkthrough_with_our_own_verbs() {
    let instance = shared();
    let example = repository("examples/web-app");
    holds(
        &instance
            .plimsoll(&format!("build -t own-app:1 {}", example.display()))
            .ok(),
        "own-app:1",
    );
    holds(&instance.plimsoll("images").ok(), "own-app");
    let images: Value =
        serde_json::from_str(&instance.plimsoll("images -o json").ok()).expect("JSON");
    assert!(
        images.as_array().is_some_and(|images| images.len() > 1),
        "{images}"
    );

    let port = free_port();
    instance
        .plimsoll(&format!("run -d --name own -p {port}:8080 own-app:1"))
        .ok();
    assert_eq!(
        instance.fetch(&format!("http://127.0.0.1:{port}/healthz")),
        "ok\n"
    );
    let listed = instance.plimsoll("ps").ok();
    holds(&listed, "own");
    holds(&listed, &format!(":{port}->8080/tcp"));
    holds(&instance.plimsoll("logs own").ok(), "web-app listens");
    assert_eq!(
        instance.plimsoll("exec own cat /app/www/healthz").ok(),
        "ok\n"
    );
    assert_eq!(
        instance.plimsoll("exec -i own cat").stdin("hello").ok(),
        "hello"
    );
    instance.plimsoll("exec own sh -c 'exit 5'").fails(5);
    holds(&instance.plimsoll("inspect own").ok(), "\"Running\": true");
    holds(
        &instance
            .plimsoll("run -d --name own busybox:static true")
            .fails(125),
        "already in use",
    );
    holds(&instance.plimsoll("rm own").fails(1), "running");

    instance.plimsoll("stop own").ok();
    lacks(&instance.plimsoll("ps").ok(), "own-app");
    holds(&instance.plimsoll("ps -a").ok(), "Exited (0)");
    instance.plimsoll("start own").ok();
    instance.plimsoll("rm -f own").ok();
    instance.plimsoll("rmi own-app:1").ok();
    lacks(&instance.plimsoll("images").ok(), "own-app");

    for (command, code) in [
        ("true", 0),
        ("sh -c 'exit 3'", 3),
        ("/etc/passwd", 126),
        ("no-such-program", 127),
    ] {
        instance
            .plimsoll(&format!("run --rm busybox:static {command}"))
            .fails(code);
    }
    assert_eq!(
        instance
            .plimsoll("run --rm -i busybox:static cat")
            .stdin("in")
            .ok(),
        "in"
    );
    holds(
        &instance.plimsoll("build /no/such/directory").fails(1),
        "/no/such/directory",
    );
    let scratch = Root::scratch();
    std::fs::write(
        scratch.join("Dockerfile"),
        "FROM busybox:static\nRUN exit 4\n",
    )
    .expect("written");
    holds(
        &instance
            .plimsoll(&format!("build {}", scratch.display()))
            .fails(1),
        "non-zero code: 4",
    );
}

pub fn cluster_verbs_do_what_kubectl_does() {
    let instance = shared();
    let space = crate::support::Space::new("own-verbs");
    let (name, file) = (
        &space.name,
        repository("examples/walkthrough/deployment.yaml"),
    );
    let apply = || {
        instance
            .plimsoll(&format!("apply -n {name} -f {}", file.display()))
            .ok()
    };
    assert_eq!(apply(), "deployment.apps/web-app-deployment created\n");
    assert_eq!(apply(), "deployment.apps/web-app-deployment unchanged\n");
    space.rolled_out("web-app-deployment");
    let table = instance.plimsoll(&format!("get deploy -n {name}")).ok();
    holds(&table, "NAME");
    holds(&table, "3/3");
    holds(
        &instance
            .plimsoll(&format!("get pods,deploy -n {name} -o yaml"))
            .ok(),
        "image: my-web-app:latest",
    );
    let all: Value =
        serde_json::from_str(&instance.plimsoll("get pods -A -o json").ok()).expect("JSON");
    assert!(
        all["items"].as_array().is_some_and(|pods| pods.len() >= 3),
        "{all}"
    );
    instance
        .plimsoll(&format!(
            "scale deploy/web-app-deployment --replicas 1 -n {name}"
        ))
        .ok();
    space.until("deployment/web-app-deployment", ".status.replicas", "1");
    what_is_no_longer_said_goes(&space);
    let text = std::fs::read_to_string(&file).expect("text");
    assert_eq!(
        instance
            .plimsoll(&format!("apply -n {name} -f -"))
            .stdin(text)
            .ok(),
        "deployment.apps/web-app-deployment configured\n"
    );
    instance
        .plimsoll(&format!("delete -n {name} -f {}", file.display()))
        .ok();
    eventually("nothing left", || {
        let left = space.kubectl("get deploy,rs,pods -o name").ok();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    holds(
        &instance
            .plimsoll(&format!("get pods -n {name}"))
            .ran()
            .stderr,
        "No resources found",
    );
    holds(
        &instance
            .plimsoll(&format!("get pod nobody -n {name}"))
            .fails(1),
        "pods \"nobody\" not found",
    );
    holds(&instance.plimsoll("get unicorns").fails(1), "unicorns");
    holds(
        &instance.plimsoll("apply -f -").stdin("a: [").fails(1),
        "line",
    );
}

/// Also items of lists, also what kubectl applied, also of custom kinds.
fn what_is_no_longer_said_goes(space: &crate::support::Space) {
    let instance = shared();
    let apply = |text: &str| {
        let run = instance.plimsoll(&format!("apply -n {} -f -", space.name));
        run.stdin(text.to_owned()).ok()
    };
    let service = |more: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: lists}}\nspec: {{selector: {{a: b}}, ports: [{{name: one, port: 80}}{more}]}}\n"
        )
    };
    let (one, two) = (service(""), service(", {name: two, port: 81}"));
    let ports = "{.spec.ports[*].name}";
    let read = || {
        space
            .kubectl(&format!("get service lists -o jsonpath={ports}"))
            .ok()
    };
    assert_eq!(apply(&two), "service/lists created\n");
    assert_eq!(apply(&one), "service/lists configured\n");
    assert_eq!(read(), "one");
    // kubectl's own, taken over
    space.apply(&two);
    assert_eq!(read(), "one two");
    assert_eq!(apply(&one), "service/lists configured\n");
    assert_eq!(read(), "one");
    space.apply(&two);
    space.apply(&one);
    assert_eq!(read(), "one");
    let definition = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: applieds.own.example}
spec:
  group: own.example
  scope: Namespaced
  names: {plural: applieds, singular: applied, kind: Applied}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {a: {type: string}, b: {type: string}}}}}}
";
    apply(definition);
    space
        .kubectl("wait --for=condition=Established crd/applieds.own.example --timeout=60s")
        .ok();
    let custom = |spec: &str| {
        format!(
            "apiVersion: own.example/v1\nkind: Applied\nmetadata: {{name: x}}\nspec: {{{spec}}}\n"
        )
    };
    holds(&apply(&custom("a: '1', b: '2'")), "x created");
    holds(&apply(&custom("a: '1'")), "x configured");
    holds(&apply(&custom("a: '1'")), "x unchanged");
    assert_eq!(
        space.kubectl("get applied x -o jsonpath={.spec}").ok(),
        "{\"a\":\"1\"}"
    );
    space.kubectl("delete crd applieds.own.example").ok();
}

pub fn status_and_env_tell_where_everything_is() {
    let instance = shared();
    let status = instance.status();
    assert_eq!(status["running"], true, "{status}");
    assert_eq!(status["instance"], instance.name.as_str());
    assert_eq!(status["nodes"][0]["ready"], true, "{status}");
    holds(&instance.plimsoll("status").ran().stdout, &instance.name);

    let env = instance.plimsoll("env").ok();
    let script = format!(
        "{env}\n[ \"$PLIMSOLL_DATA_DIR\" = {} ] && docker version --format {{{{.Server.Version}}}} && {} version",
        instance.data_dir.display(),
        repository("target/clients/kubectl").display()
    );
    let said = Run::new("sh", "")
        .env("HOME", Root::home())
        .stdin(script)
        .ok();
    holds(&said, "Server Version");

    let nowhere = Run::new(Root::plimsoll(), "status --data-dir /nonexistent/plimsoll").fails(1);
    holds(&nowhere, "there is no instance in /nonexistent/plimsoll");
    holds(&nowhere, "plimsoll up");
}
