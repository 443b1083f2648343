"""Rows about scaling: the pure decision, a thousand autoscalers at once, and how long a load step takes to become capacity."""
import http.client, json, threading, time

from cluster import ROOT, cpu_seconds, memory_kib, run

DECIDE_RATE = ROOT / "target/release/examples/decide_rate"
HPAS = "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers"
DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"


def decisions(pods, seconds):
    """Decisions a second on one core, for an autoscaler with so many pods."""
    return json.loads(run(DECIDE_RATE, seconds, pods))["per_second"]


def deployment(name, replicas, **pod):
    # without words about thousands of services, which each program that a pod starts would carry along
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
                     "template": {"metadata": {"labels": {"app": name}, "annotations": pod.pop("annotations", {})},
                                  "spec": {"terminationGracePeriodSeconds": 0, "enableServiceLinks": False, **pod}}}}


def autoscaler(name, most, metric, **spec):
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
            "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": most, "metrics": [metric], **spec}}


def web(requests):
    return {"name": "web", "image": "my-web-app:latest", "ports": [{"containerPort": 8080}], "resources": {"requests": requests},
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}}


def many_autoscalers(cluster, connection, count):
    """Share of a core and MiB that the daemon takes more while `count` autoscalers are evaluated each second, each on an external metric."""
    namespace = "many"
    cluster.request(connection, "POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    source = deployment("source", 1, containers=[web({"cpu": "10m"})],
                        annotations={"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/metrics"})
    cluster.request(connection, "POST", DEPLOYMENTS.format(namespace), source)
    metric = {"type": "External", "external": {"metric": {"name": "http_requests"}, "target": {"type": "Value", "value": "100"}}}
    # their pods have no node to run on: what is measured is the evaluation alone
    for n in range(count):
        cluster.request(connection, "POST", DEPLOYMENTS.format(namespace),
                        deployment(f"idle-{n}", 1, containers=[web({"cpu": "10m"})], nodeSelector={"node": "none"}))
    time.sleep(30)
    before = usage(cluster, 20)
    for n in range(count):
        cluster.request(connection, "POST", HPAS.format(namespace), autoscaler(f"idle-{n}", 3, metric))
    deadline = time.monotonic() + 120
    while True:
        found = cluster.request(connection, "GET", HPAS.format(namespace))["items"]
        active = sum(any(c["type"] == "ScalingActive" and c["status"] == "True" for c in hpa.get("status", {}).get("conditions", [])) for hpa in found)
        if active == count:
            break
        if time.monotonic() > deadline:
            raise SystemExit(f"only {active} of {count} autoscalers are evaluated: {found[0].get('status')}")
        time.sleep(1)
    after = usage(cluster, 20)
    cluster.request(connection, "DELETE", f"/api/v1/namespaces/{namespace}")
    while any(item["metadata"]["name"] == namespace for item in cluster.request(connection, "GET", "/api/v1/namespaces")["items"]):
        time.sleep(0.5)
    return after[0] - before[0], after[1] - before[1]


def usage(cluster, seconds):
    daemon, _ = cluster.pids()
    cpu = cpu_seconds(daemon)
    time.sleep(seconds)
    return (cpu_seconds(daemon) - cpu) / seconds * 100, memory_kib(daemon)[1] / 1024


class Load:
    """So many clients that ask for work, one request after the other."""

    def __init__(self, address, clients):
        self.address, self.stopped = address, threading.Event()
        for _ in range(clients):
            threading.Thread(target=self.ask, daemon=True).start()

    def ask(self):
        while not self.stopped.is_set():
            try:
                connection = http.client.HTTPConnection(self.address, 80, timeout=5)
                connection.request("GET", "/cgi-bin/work?rounds=6000")
                connection.getresponse().read()
                connection.close()
            except OSError:
                time.sleep(0.05)


def load_steps(cluster, connection, times):
    """Seconds from the first request of a load step until the autoscaler has asked for more, and until the first new pod is ready."""
    name, path = "step", DEPLOYMENTS.format("default") + "/step"
    cluster.request(connection, "POST", DEPLOYMENTS.format("default"), deployment(name, 1, containers=[web({"cpu": "100m", "memory": "16Mi"})]))
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}}
    address = cluster.request(connection, "POST", "/api/v1/namespaces/default/services", service)["spec"]["clusterIP"]
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
    down = {"scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}]}}
    cluster.request(connection, "POST", HPAS.format("default"), autoscaler(name, 4, metric, behavior=down))
    state = lambda: cluster.request(connection, "GET", path)
    decided, ready = [], []
    for _ in range(times):
        quiet(state, lambda found: found["spec"]["replicas"] == 1 and found["status"].get("readyReplicas") == 1 and found["status"].get("replicas") == 1)
        time.sleep(3)
        load, began = Load(address, 4), time.perf_counter()
        quiet(state, lambda found: found["spec"]["replicas"] > 1)
        decided.append(time.perf_counter() - began)
        quiet(state, lambda found: found["status"].get("readyReplicas", 0) > 1)
        ready.append(time.perf_counter() - began)
        load.stopped.set()
    for gone in (path, HPAS.format("default") + "/" + name, "/api/v1/namespaces/default/services/" + name):
        cluster.request(connection, "DELETE", gone)
    return decided, ready


def quiet(state, holds):
    deadline = time.monotonic() + 120
    while not holds(found := state()):
        if time.monotonic() > deadline:
            raise SystemExit(f"it never came to be: {found.get('status')}")
        time.sleep(0.02)
