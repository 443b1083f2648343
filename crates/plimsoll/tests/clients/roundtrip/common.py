"""The client, and what all points use."""

import os
import pathlib
import sys
import time

sys.dont_write_bytecode = True
HERE = str(pathlib.Path(__file__).parent)
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[5] / "target/clients/python"))

from kubernetes import client, config, watch  # noqa: E402
from kubernetes.client.exceptions import ApiException  # noqa: E402

NAMESPACE = os.environ["NAMESPACE"]
GROUP = "roundtrip.example"
SECONDS = 60

config.load_kube_config()
core = client.CoreV1Api()
apps = client.AppsV1Api()
customs = client.CustomObjectsApi()
extensions = client.ApiextensionsV1Api()
POINTS = []


def point(function):
    POINTS.append(function)
    return function


def same(got, wanted, what="it"):
    assert got == wanted, f"{what} is {got!r} instead of {wanted!r}"


def refused(status, reason, call, *arguments, **options):
    """The call must fail with this status and reason."""
    try:
        answer = call(*arguments, **options)
    except ApiException as error:
        same(error.status, status, "the status")
        body = error.body.decode() if isinstance(error.body, bytes) else error.body
        assert f'"reason":"{reason}"' in body.replace('": "', '":"'), f"no reason {reason}: {body}"
        return body
    raise AssertionError(f"it was not refused: {answer}")


def eventually(attempt, what):
    until = time.monotonic() + SECONDS
    while not (answer := attempt()):
        assert time.monotonic() < until, f"not within {SECONDS} s: {what}"
        time.sleep(0.1)
    return answer


def config_map(name, data, labels=None):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=labels), data=data)


def pod(name, image, command=None, **spec):
    container = client.V1Container(name="main", image=image, command=command)
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name, labels={"app": name}),
        spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=1, **spec),
    )


def ready(name):
    """Waits by a watch, as programs do."""
    found = core.list_namespaced_pod(NAMESPACE, field_selector=f"metadata.name={name}")
    is_ready = lambda one: any(c.type == "Ready" and c.status == "True" for c in one.status.conditions or [])
    if any(is_ready(one) for one in found.items):
        return
    for event in watch.Watch().stream(
        core.list_namespaced_pod,
        NAMESPACE,
        field_selector=f"metadata.name={name}",
        resource_version=found.metadata.resource_version,
        timeout_seconds=SECONDS,
    ):
        if is_ready(event["object"]):
            return
    raise AssertionError(f"{name} was not ready within {SECONDS} s")
