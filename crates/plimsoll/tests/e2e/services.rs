//! Services: addresses and names that lead to pods.

use crate::support::{Space, eventually, holds, pod};

pub fn a_service_answers_by_address_and_by_name() {
    let space = Space::new("services");
    space
        .kubectl("create deployment web --image=my-web-app --replicas=2")
        .ok();
    space
        .kubectl("expose deployment web --port=80 --target-port=8080")
        .ok();
    space
        .kubectl(
            "expose deployment web --name=node-port --type=NodePort --port=80 --target-port=8080",
        )
        .ok();
    space
        .kubectl("expose deployment web --name=headless --cluster-ip=None --port=8080")
        .ok();
    space.apply(&pod("client", "sleep 1000"));
    space.rolled_out("web");
    space.ready("pod/client");

    let address = space.field("service/web", ".spec.clusterIP");
    assert_eq!(
        space.instance.fetch(&format!("http://{address}/healthz")),
        "ok\n"
    );
    let node_port = space.field("service/node-port", ".spec.ports[0].nodePort");
    assert_eq!(
        space.instance.fetch(&format!(
            "http://{}:{node_port}/healthz",
            space.instance.gateway
        )),
        "ok\n"
    );
    let asks = |url: &str| {
        eventually(&format!("a pod gets {url}"), || {
            let ran = space
                .kubectl(&format!(
                    "exec client -- timeout 5 wget -q -O - http://{url}/healthz"
                ))
                .ran();
            if ran.code == 0 && ran.stdout == "ok\n" {
                Ok(())
            } else {
                Err(ran)
            }
        });
    };
    for url in [
        address.as_str(),
        "web",
        "web.services",
        "web.services.svc.cluster.local",
        "headless:8080",
    ] {
        asks(url);
    }
    // a pod of the service reaches itself and its sisters through it
    let own = space.kubectl("exec deploy/web -- sh -c 'for i in 1 2 3 4 5 6 7 8; do timeout 5 wget -q -O - http://web/healthz; done'").ok();
    assert_eq!(own, "ok\n".repeat(8));
    let found = space
        .kubectl("exec client -- nslookup headless.services.svc.cluster.local")
        .ok();
    let pods = space.field("pods -l app=web", ".items[*].status.podIP");
    assert_eq!(pods.split(' ').count(), 2, "{pods}");
    pods.split(' ').for_each(|ip| holds(&found, ip));
    let lost = space
        .kubectl("exec client -- nslookup nothing.services.svc.cluster.local")
        .ran();
    assert!(lost.code != 0 && lost.both().contains("NXDOMAIN"), "{lost}");

    let described = space.kubectl("describe service web").ok();
    pods.split(' ')
        .for_each(|ip| holds(&described, &format!("{ip}:8080")));
    space.kubectl("delete service web").ok();
    eventually("nobody answers any more", || {
        let ran = space
            .kubectl(&format!(
                "exec client -- timeout 2 wget -q -O - http://{address}/healthz"
            ))
            .ran();
        if ran.code == 0 { Err(ran) } else { Ok(()) }
    });
}
