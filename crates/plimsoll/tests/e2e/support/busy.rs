//! An instance that has something to lose.

use std::sync::Arc;

use super::{Instance, Space, free_port, holds, with_images};

const WEB: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: 'busybox:static', command: [sh, -c, "trap exit TERM; httpd -f -p 8080 -h /etc & wait"]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

/// An instance with two pods behind a service and a container with a published port.
pub struct Busy {
    pub instance: Arc<Instance>,
    pub space: Space,
    /// An address of the container.
    pub published: String,
    /// An address of the pods.
    pub service: String,
}

impl Busy {
    #[track_caller]
    pub fn new() -> Self {
        let instance = Arc::new(with_images());
        let space = Space::within(instance.clone(), "life");
        space.apply(WEB);
        space.rolled_out("web");
        let port = free_port();
        instance
            .docker(&format!(
                "run -d --name app -p {port}:8080 busybox:static sh -c 'trap exit TERM; httpd -f -p 8080 -h /etc & wait'"
            ))
            .ok();
        let service = format!(
            "http://{}/group",
            space.field("service/web", ".spec.clusterIP")
        );
        Self {
            instance,
            space,
            published: format!("http://127.0.0.1:{port}/group"),
            service,
        }
    }

    /// Everything serves.
    #[track_caller]
    pub fn answers(&self) {
        holds(&self.instance.fetch(&self.published), "root:x:0");
        holds(&self.instance.fetch(&self.service), "root:x:0");
    }

    /// The instance without its namespace.
    pub fn alone(self) -> Instance {
        let Self {
            instance, space, ..
        } = self;
        drop(space);
        Arc::into_inner(instance).expect("nobody else has it")
    }
}
