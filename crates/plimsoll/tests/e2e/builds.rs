//! Images built by the unmodified docker command with its classic builder.

use std::fs;
use std::path::PathBuf;

use crate::support::{Root, Space, holds, lacks, repository, shared};

fn context(dockerfile: &str) -> PathBuf {
    let directory = Root::scratch();
    fs::write(directory.join("Dockerfile"), dockerfile).expect("written");
    directory
}

pub fn an_image_is_built_once_and_then_from_cache() {
    let instance = shared();
    let example = repository("examples/web-app");
    let build = || {
        instance
            .docker(&format!(
                "build -t cached:1 --build-arg VERSION=cached {}",
                example.display()
            ))
            .ok()
    };
    let first = build();
    holds(&first, "Successfully tagged cached:1");
    holds(&first, "Step 1/");
    let id = || instance.docker("images -q --no-trunc cached:1").ok();
    let made = id();
    let second = build();
    holds(&second, "Using cache");
    lacks(&second, "Running in");
    assert_eq!(id(), made, "the same steps give the same image");
    let page = instance
        .docker("run --rm cached:1 cat /app/www/index.html")
        .ok();
    holds(&page, "web-app cached");
    let inspected = instance.docker("inspect -f '{{.Config.Cmd}} {{.Config.WorkingDir}} {{.Config.ExposedPorts}} {{.Config.Env}}' cached:1").ok();
    for part in ["[/app/start.sh]", " /app ", "8080/tcp", "PORT=8080"] {
        holds(&inspected, part);
    }

    // a changed file is seen
    let changed = context("FROM busybox:static\nCOPY note /note\nRUN cat /note\n");
    for text in ["first", "second"] {
        fs::write(changed.join("note"), text).expect("written");
        holds(
            &instance
                .docker(&format!("build -t changed:1 {}", changed.display()))
                .ok(),
            text,
        );
    }
    instance.docker("rmi changed:1 cached:1").ok();
    lacks(&instance.docker("images").ok(), "cached");
}

pub fn a_failing_step_keeps_its_output_and_makes_no_image() {
    let instance = shared();
    let directory = context(
        "FROM busybox:static\nRUN echo before\nRUN echo wrong >&2; exit 7\nRUN echo after\n",
    );
    let said = instance
        .docker(&format!("build -t half:1 {}", directory.display()))
        .fails(7);
    for part in [
        "before",
        "wrong",
        "echo wrong >&2; exit 7",
        "returned a non-zero code: 7",
    ] {
        holds(&said, part);
    }
    lacks(&said, "Running after");
    assert_eq!(instance.docker("images -q half").ok(), "", "no half image");
    let lost = instance
        .docker(&format!(
            "build {}",
            context("FROM busybox:static\nCOPY nothing /\n").display()
        ))
        .fails(1);
    holds(&lost, "nothing");
    let base = instance
        .docker(&format!(
            "build {}",
            context("FROM 127.0.0.1:1/none:1\n").display()
        ))
        .fails(1);
    holds(&base, "127.0.0.1:1/none:1");
}

pub fn a_mistake_in_the_dockerfile_is_shown_by_line_and_column() {
    let instance = shared();
    for (dockerfile, line) in [
        ("FROM busybox:static\nRUNN echo\n", "line 2, column 1"),
        (
            "FROM busybox:static\n\n# comment\nCOPY onlyone\n",
            "line 4, column ",
        ),
        ("RUN echo\n", "line 1, column 1"),
    ] {
        let said = instance
            .docker(&format!(
                "build -t mistake:1 {}",
                context(dockerfile).display()
            ))
            .fails(1);
        holds(&said.to_lowercase(), line);
    }
    holds(
        &instance
            .docker(&format!("build {}", context("\n").display()))
            .fails(1)
            .to_lowercase(),
        "empty",
    );
    assert_eq!(instance.docker("images -q mistake").ok(), "");
}

pub fn a_step_can_ask_a_service_of_the_cluster() {
    let space = Space::new("asked");
    space
        .kubectl("create deployment web --image=my-web-app --port=8080")
        .ok();
    space
        .kubectl("expose deployment web --port=80 --target-port=8080")
        .ok();
    space.rolled_out("web");
    let dockerfile = "FROM busybox:static\nRUN for i in 1 2 3 4 5 6 7 8 9; do timeout 5 wget -q -O /answer http://web.asked.svc.cluster.local/healthz && exit; sleep 1; done; exit 1\n";
    let directory = context(dockerfile);
    space
        .instance
        .docker(&format!(
            "build --no-cache -t asked:1 {}",
            directory.display()
        ))
        .ok();
    assert_eq!(
        space.instance.docker("run --rm asked:1 cat /answer").ok(),
        "ok\n"
    );
    space.instance.docker("rmi asked:1").ok();
}
