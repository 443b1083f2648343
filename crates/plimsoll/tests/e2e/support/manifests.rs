//! Manifests that several tests begin with.

/// One pod whose only container runs a script in busybox; more fields of the container can be appended.
pub fn pod(name: &str, script: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:static
    command: [sh, -c, {script:?}]
"
    )
}
