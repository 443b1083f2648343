//! The API server's ways to pods and about itself: proxying, metrics, runtime classes, signing apart.

use std::path::Path;

use base64::Engine as _;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::support::{
    Beside, Instance, Root, Run, Space, eventually, holds, pod, role_with, shared,
};

/// `get --raw`, kubectl's proxy and Endpoints: all lead to the same pods.
pub fn pods_and_services_are_proxied_to() {
    let space = Space::new("proxied");
    space
        .kubectl("create deployment web --image=my-web-app --port=8080")
        .ok();
    space
        .kubectl("expose deployment web --port=80 --target-port=8080")
        .ok();
    space.rolled_out("web");
    let name = space.field("pods -l app=web", ".items[0].metadata.name");
    let address = space.field("pods -l app=web", ".items[0].status.podIP");
    space.until_says("get endpoints web", &format!("{address}:8080"));
    let base = format!("/api/v1/namespaces/{}", space.name);
    let raw = |path: &str| space.kubectl(&format!("get --raw {base}/{path}"));
    for path in [
        "services/web:80/proxy/healthz".to_owned(),
        "services/http:web:80/proxy/healthz".to_owned(),
        format!("pods/{name}/proxy/healthz"),
        format!("pods/{name}:8080/proxy/healthz"),
    ] {
        assert_eq!(raw(&path).ok(), "ok\n", "{path}");
    }
    let said = raw("services/web:81/proxy/").fails(1);
    holds(&said, "no service port 81 found for service \"web\"");
    let said = raw(&format!("pods/{name}:1/proxy/")).fails(1);
    holds(&said, "connect: connection refused");

    let proxy = space.kubectl("proxy --port=0").background();
    let line = proxy.line_with("Starting to serve on ");
    let at = line.trim().rsplit(' ').next().expect("an address");
    let url = format!("http://{at}{base}/services/web:80/proxy/healthz");
    assert_eq!(space.instance.fetch(&url), "ok\n");
    drop(proxy);

    space.kubectl("scale deployment/web --replicas=0").ok();
    space.until_says("get endpoints web", "<none>");
    let said = raw("services/web:80/proxy/").fails(1);
    holds(&said, "no endpoints available for service \"web");
}

pub fn the_servers_metrics_are_clean() {
    let instance = shared();
    let page = instance.kubectl("get --raw /metrics").ok();
    for name in [
        "apiserver_request_total{",
        "apiserver_request_duration_seconds_bucket{",
        "apiserver_longrunning_requests{",
        "apiserver_storage_objects{resource=\"pods\"}",
        "process_resident_memory_bytes ",
    ] {
        holds(&page, name);
    }
    let checked = Run::new("promtool", "check metrics").stdin(page).ran();
    assert!(
        checked.code == 0 && checked.both().is_empty(),
        "it is not clean: {checked}"
    );
}

pub fn a_runtime_that_is_not_there_is_told() {
    let space = Space::new("runtimes");
    let class = |name: &str, handler: &str| {
        format!(
            "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {{name: {name}}}\nhandler: {handler}\n"
        )
    };
    space.apply(&class("e2e-own", "runc"));
    space.apply(&class("e2e-other", "kata"));
    let of = |name: &str, class: &str| {
        let spec = format!("spec:\n  runtimeClassName: {class}\n");
        pod(name, "sleep 1000").replacen("spec:\n", &spec, 1)
    };
    space.apply(&of("own", "e2e-own"));
    space.apply(&of("other", "e2e-other"));
    space.ready("pod/own");
    let told = space.until_says(
        "get events --field-selector involvedObject.name=other,reason=FailedCreatePodSandBox",
        "no runtime for \"kata\" is configured",
    );
    holds(
        &told,
        "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime",
    );
    // the class is changed, and the pod goes on by itself
    space.kubectl("delete runtimeclass e2e-other").ok();
    space.apply(&class("e2e-other", "runc"));
    space.ready("pod/other");
    space.kubectl("delete runtimeclass e2e-own e2e-other").ok();
}

/// Controllers in a process of their own, which is given the authority's files.
pub fn controllers_apart_sign() {
    let data_dir = Root::data_dir();
    let command = format!(
        "up --data-dir {} --without controllers,scheduler,node",
        data_dir.display()
    );
    Run::new(Root::plimsoll(), &command).ok();
    let instance = Instance::with(&data_dir, Beside::nothing());
    let pki = data_dir.join("pki");
    let (certificate, key) = (pki.join("ca.crt"), pki.join("ca.key"));
    let signing = |key: &Path| {
        role_with(
            "controllers",
            &data_dir,
            &[
                "--cluster-signing-cert-file".as_ref(),
                certificate.as_os_str(),
                "--cluster-signing-key-file".as_ref(),
                key.as_os_str(),
            ],
        )
    };
    let wrong = signing(&pki.join("admin.key"));
    eventually("the end of who has the wrong key", || {
        let log = wrong.log();
        let told = log.contains("the key is not the certificate's");
        if told { Ok(()) } else { Err(log) }
    });
    drop(wrong);
    let controllers = signing(&key);
    let own = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "jane");
    let request = params.serialize_request(&own).expect("a request");
    let request = base64::engine::general_purpose::STANDARD.encode(request.pem().expect("PEM"));
    let manifest = format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: jane}}\nspec: {{request: {request}, \
         signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}\n"
    );
    instance.kubectl("apply -f -").stdin(manifest).ok();
    instance.kubectl("certificate approve jane").ok();
    eventually("the certificate", || {
        let ran = instance
            .kubectl("get csr jane -o jsonpath={.status.certificate}")
            .ran();
        if ran.stdout.is_empty() {
            Err(ran)
        } else {
            Ok(())
        }
    });
    assert_eq!(controllers.end(), 0);
    instance.purge();
}
