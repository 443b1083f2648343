use serde_json::{Value, json};

use super::*;

fn pod(spec: Value) -> Vec<String> {
    of_object(
        "",
        "Pod",
        &json!({"metadata": {"name": "a"}, "spec": spec}),
        None,
    )
}

/// One container with these fields.
fn container(fields: Value) -> Vec<String> {
    let mut container = json!({"name": "c"});
    for (key, value) in fields.as_object().expect("fields") {
        container[key] = value.clone();
    }
    pod(json!({"containers": [container]}))
}

#[test]
fn ordinary_objects_are_not_warned_of() {
    let nothing: Vec<String> = Vec::new();
    let port = |port: i64, protocol: &str| json!({"containerPort": port, "protocol": protocol});
    let ports = json!([port(53, "UDP"), port(53, "TCP"), port(80, "TCP")]);
    assert_eq!(container(json!({"ports": ports})), nothing);
    let env = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "$(A):2"}]);
    assert_eq!(container(json!({"env": env})), nothing);
    let resources = json!({"limits": {"memory": "1.5Gi", "cpu": "1m"}});
    assert_eq!(container(json!({"resources": resources})), nothing);
    let service = json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "sessionAffinity": "None"}});
    assert_eq!(of_object("", "Service", &service, None), nothing);
    let ingress = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}}, "spec": {"ingressClassName": "a"}});
    let made = of_object("networking.k8s.io", "Ingress", &ingress, None);
    assert_eq!(made, nothing);
    assert_eq!(of_kind("discovery.k8s.io", "EndpointSlice"), None);
}

#[test]
fn pods_are_warned_of_in_upstreams_words() {
    for (spec, expected) in [
        (
            json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}}),
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
        ),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "beta.kubernetes.io/arch", "operator": "Exists"}]}]}}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        ),
        (
            json!({"topologySpreadConstraints": [{"topologyKey": "zone"}]}),
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
        ),
        (
            json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}]}}}),
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod",
        ),
        (
            json!({"volumes": [{"name": "v", "gitRepo": {}}]}),
            "spec.volumes[0].gitRepo: deprecated in v1.11",
        ),
        (
            json!({"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "100m"}}}}}}]}),
            "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: fractional byte value \"100m\" is invalid, must be an integer",
        ),
        (
            json!({"hostAliases": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1"}]}),
            "spec.hostAliases[1].ip: duplicate ip \"10.0.0.1\"",
        ),
        (
            json!({"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}),
            "spec.imagePullSecrets[1].name: duplicate name \"a\"",
        ),
        (
            json!({"imagePullSecrets": [{}]}),
            "spec.imagePullSecrets[0].name: invalid empty name \"\"",
        ),
        (
            json!({"overhead": {"memory": "100m"}}),
            "spec.overhead[memory]: fractional byte value \"100m\" is invalid, must be an integer",
        ),
        (
            json!({"terminationGracePeriodSeconds": -1}),
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
        ),
    ] {
        assert_eq!(pod(spec.clone()), [expected], "{spec}");
    }
}

#[test]
fn containers_are_warned_of_in_upstreams_words() {
    let port = |ip: &str, host: i64| json!({"containerPort": 80, "protocol": "TCP", "hostIP": ip, "hostPort": host});
    for (fields, expected) in [
        (
            json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
        ),
        (
            json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)"}]}),
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
        ),
        (
            json!({"resources": {"requests": {"memory": "128974848m"}}}),
            "spec.containers[0].resources.requests[memory]: fractional byte value \"128974848m\" is invalid, must be an integer",
        ),
        (
            json!({"ports": [port("", 0), port("", 0)]}),
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ),
        (
            json!({"ports": [port("", 0), port("", 80)]}),
            "spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
        ),
        (
            json!({"ports": [port("", 80), port("127.0.0.1", 80)]}),
            "spec.containers[0].ports[1]: dangerously ambiguous port definition with spec.containers[0].ports[0]",
        ),
        (
            json!({"ports": [port("127.0.0.1", 0)]}),
            "spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:127.0.0.1}",
        ),
    ] {
        assert_eq!(container(fields.clone()), [expected], "{fields}");
    }
}

#[test]
fn annotations_of_old_are_told() {
    let told = |annotations: Value, spec: Value| {
        let template = json!({"metadata": {"annotations": annotations}, "spec": spec});
        let deployment = json!({"metadata": {"name": "a"}, "spec": {"template": template}});
        of_object("apps", "Deployment", &deployment, None)
    };
    let containers = json!({"containers": [{"name": "c"}]});
    let apparmor = json!({"container.apparmor.security.beta.kubernetes.io/c": "unconfined"});
    assert_eq!(
        told(apparmor.clone(), containers.clone()),
        [
            "spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
        ]
    );
    let both = json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}, "containers": [{"name": "c"}]});
    assert!(told(apparmor, both).is_empty());
    assert_eq!(
        told(
            json!({"seccomp.security.alpha.kubernetes.io/pod": "x"}),
            containers
        ),
        [
            "spec.template.metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \"seccompProfile\" field instead"
        ]
    );
}

#[test]
fn other_kinds_are_warned_of_in_upstreams_words() {
    let service = |spec: Value| of_object("", "Service", &json!({"spec": spec}), None);
    let external =
        json!({"type": "ClusterIP", "externalIPs": ["2001:DB8::1"], "externalName": "a"});
    assert_eq!(
        service(external),
        [
            "spec.externalIPs[0]: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
        ]
    );
    let headless = json!({"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP", "loadBalancerIP": "::ffff:10.0.0.1"});
    assert_eq!(
        service(headless),
        [
            "spec.loadBalancerIP is ignored for headless services",
            "spec.SessionAffinity is ignored for headless services",
            "spec.loadBalancerIP: non-standard IP address \"::ffff:10.0.0.1\" will be considered invalid in a future Kubernetes release: use \"10.0.0.1\"",
        ]
    );
    let spread = json!({"type": "ClusterIP", "trafficDistribution": "PreferClose"});
    assert_eq!(
        service(spread),
        ["spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\""]
    );
    let ingress =
        json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}}, "spec": {}});
    assert_eq!(
        of_object("networking.k8s.io", "Ingress", &ingress, None),
        [
            "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
        ]
    );
    let class = json!({"volume.beta.kubernetes.io/storage-class": "a"});
    let volume = json!({"metadata": {"annotations": class}, "spec": {"persistentVolumeReclaimPolicy": "Recycle"}});
    assert_eq!(of_object("", "PersistentVolume", &volume, None).len(), 2);
    assert_eq!(
        of_object("", "PersistentVolumeClaim", &volume, None).len(),
        1
    );
}

#[test]
fn a_name_with_dots_is_warned_of_once() {
    let job = json!({"metadata": {"name": "a.b"}, "spec": {}});
    assert_eq!(
        of_object("batch", "Job", &job, None),
        [
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"
        ]
    );
    assert!(of_object("batch", "Job", &job, Some(&job)).is_empty());
    assert!(of_object("apps", "DaemonSet", &job, None).is_empty());
}

#[test]
fn what_has_not_changed_is_not_warned_of_again() {
    let with = |limit: i64, status: i64| json!({"metadata": {"name": "a"}, "spec": {"revisionHistoryLimit": limit}, "status": {"replicas": status}});
    let warned = |after: &Value, before: &Value| {
        !of_object("apps", "StatefulSet", after, Some(before)).is_empty()
    };
    assert!(warned(&with(-1, 0), &with(1, 0)));
    assert!(!warned(&with(-1, 1), &with(-1, 0)));
    assert!(!warned(&with(1, 0), &with(-1, 0)));
}
