//! Quotas, limits, certificates and Ingresses, as people meet them with kubectl.

use base64::Engine as _;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::support::{NO_SIGNER, Root, Space, eventually, holds, shared, skipped_apart};

const RANGE: &str = r#"
apiVersion: v1
kind: LimitRange
metadata: {name: range}
spec:
  limits:
  - {type: Container, max: {cpu: "2"}, default: {cpu: 200m}, defaultRequest: {cpu: 50m}}
"#;

pub fn a_quota_holds_a_deployment_back_and_is_replenished() {
    let space = Space::new("quotas");
    space.apply(RANGE);
    space
        .kubectl("create quota few --hard=pods=1,requests.cpu=1,count/deployments.apps=2")
        .ok();
    space.until("quota/few", ".status.used.pods", "0");
    space
        .kubectl("create deployment web --image=busybox --replicas=2 -- sleep 1000")
        .ok();
    space.until("quota/few", ".status.used.pods", "1");
    space.until_says(
        "get events --field-selector reason=FailedCreate",
        "exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1",
    );
    let told = space.instance.kubectl("describe namespace quotas").ok();
    for part in [
        "Resource Quotas",
        "few",
        "requests.cpu",
        "Resource Limits",
        "200m",
    ] {
        holds(&told, part);
    }
    holds(&space.kubectl("get quota few").ok(), "requests.cpu: 50m/1");
    holds(
        &space.kubectl("describe quota few").ok(),
        "count/deployments.apps",
    );
    let large = space
        .kubectl(r#"run large --image=busybox --overrides={"spec":{"containers":[{"name":"large","image":"busybox","resources":{"limits":{"cpu":"3"}}}]}}"#)
        .fails(1);
    holds(
        &large,
        "maximum cpu usage per Container is 2, but limit is 3",
    );
    space.kubectl("delete deployment web").ok();
    space.until("quota/few", ".status.used.pods", "0");
    space.until_says("get quota few", "count/deployments.apps: 0/2");
}

pub fn a_certificate_is_asked_for_approved_and_used() {
    if skipped_apart(NO_SIGNER) {
        return;
    }
    let instance = shared();
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "jane");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "people");
    let request = params.serialize_request(&key).expect("a request");
    let engine = base64::engine::general_purpose::STANDARD;
    let request = engine.encode(request.pem().expect("PEM"));
    let manifest = format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: e2e-jane}}\nspec: {{request: {request}, \
         signerName: kubernetes.io/kube-apiserver-client, usages: [client auth], expirationSeconds: 3600}}\n"
    );
    instance.kubectl("apply -f -").stdin(manifest).ok();
    holds(&instance.kubectl("get csr e2e-jane").ok(), "Pending");
    instance.kubectl("certificate approve e2e-jane").ok();
    let certificate = eventually("the certificate", || {
        let path = "get csr e2e-jane -o jsonpath={.status.certificate}";
        let ran = instance.kubectl(path).ran();
        match ran.stdout.trim() {
            "" => Err(ran),
            text => Ok(text.to_owned()),
        }
    });
    holds(
        &instance.kubectl("get csr e2e-jane").ok(),
        "Approved,Issued",
    );
    let scratch = Root::scratch();
    let (certificate_file, key_file) = (scratch.join("jane.crt"), scratch.join("jane.key"));
    let certificate = engine.decode(certificate).expect("base64");
    std::fs::write(&certificate_file, certificate).expect("written");
    std::fs::write(&key_file, key.serialize_pem()).expect("written");
    let who = instance
        .kubectl(&format!(
            "--kubeconfig=/dev/null --server=https://127.0.0.1:{} --insecure-skip-tls-verify --client-certificate={} --client-key={} auth whoami",
            instance.api_port,
            certificate_file.display(),
            key_file.display()
        ))
        .ok();
    holds(&who, "jane");
    holds(&who, "people");
    let denied = instance.kubectl("certificate deny e2e-jane").fails(1);
    holds(&denied, "already Approved");
    instance.kubectl("delete csr e2e-jane").ok();
}

pub fn an_ingress_is_made_and_described() {
    let space = Space::new("ingresses");
    space.instance.kubectl("apply -f -").stdin("apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: e2e-class}\nspec: {controller: example.com/none}\n").ok();
    space
        .kubectl("create ingress web --class=e2e-class --rule=a.example.com/*=web:80,tls=secret")
        .ok();
    let listed = space.kubectl("get ingress web").ok();
    for part in ["e2e-class", "a.example.com", "80, 443"] {
        holds(&listed, part);
    }
    let told = space.kubectl("describe ingress web").ok();
    holds(&told, "secret terminates a.example.com");
    let wrong = space
        .kubectl("create ingress bad --class=e2e-class --rule=10.0.0.1/=web:80")
        .fails(1);
    holds(&wrong, "must be a DNS name, not an IP address");
    space.instance.kubectl("delete ingressclass e2e-class").ok();
}
