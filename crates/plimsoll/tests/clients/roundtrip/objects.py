"""Objects as programs write and read them: one by one, in lists, by watches, by patches."""

import base64
import json
import threading
import time

from common import NAMESPACE, SECONDS, core, apps, point, same, refused, config_map, pod

from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException


@point
def versions_and_groups():
    version = client.VersionApi().get_code()
    same((version.major, version.minor.rstrip("+")), ("1", "37"), "the version")
    groups = {group.name for group in client.ApisApi().get_api_versions().groups}
    assert {"apps", "batch", "autoscaling", "networking.k8s.io"} <= groups, groups
    resources = {resource.name for resource in core.get_api_resources().resources}
    assert {"pods", "pods/exec", "pods/log", "pods/portforward"} <= resources, resources


@point
def create_and_read():
    made = core.create_namespaced_config_map(NAMESPACE, config_map("one", {"a": "1", "umlaut": "ä\n"}))
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo, made.metadata
    read = core.read_namespaced_config_map("one", NAMESPACE)
    same(read.data, {"a": "1", "umlaut": "ä\n"}, "the data")
    same(read.metadata.resource_version, made.metadata.resource_version, "the version")
    refused(409, "AlreadyExists", core.create_namespaced_config_map, NAMESPACE, config_map("one", {}))
    refused(404, "NotFound", core.read_namespaced_config_map, "nothing", NAMESPACE)
    refused(422, "Invalid", core.create_namespaced_config_map, NAMESPACE, config_map("No_Name", {}))
    secret = client.V1Secret(metadata=client.V1ObjectMeta(generate_name="s-"), string_data={"key": "value"})
    secret = core.create_namespaced_secret(NAMESPACE, secret)
    assert secret.metadata.name.startswith("s-") and len(secret.metadata.name) > 2, secret.metadata.name
    same(base64.b64decode(secret.data["key"]), b"value", "the secret")
    core.create_namespaced_config_map(NAMESPACE, config_map("dry", {}), dry_run="All")
    refused(404, "NotFound", core.read_namespaced_config_map, "dry", NAMESPACE)


@point
def replace_with_and_without_the_newest_version():
    read = core.read_namespaced_config_map("one", NAMESPACE)
    read.data["a"] = "2"
    replaced = core.replace_namespaced_config_map("one", NAMESPACE, read)
    same(replaced.data["a"], "2", "a")
    refused(409, "Conflict", core.replace_namespaced_config_map, "one", NAMESPACE, read)


@point
def lists_in_chunks():
    for number in range(25):
        parity = "even" if number % 2 == 0 else "odd"
        core.create_namespaced_config_map(NAMESPACE, config_map(f"row-{number:02}", {}, {"rows": parity}))
    names, chunks, token, versions = [], [], None, set()
    while True:
        options = {"_continue": token} if token else {}
        chunk = core.list_namespaced_config_map(NAMESPACE, limit=10, label_selector="rows", **options)
        names += [item.metadata.name for item in chunk.items]
        chunks.append((len(chunk.items), chunk.metadata.remaining_item_count))
        versions.add(chunk.metadata.resource_version)
        token = chunk.metadata._continue
        if not token:
            break
        if len(chunks) == 1:
            # what comes meanwhile is in no later chunk: the list is of one moment
            core.create_namespaced_config_map(NAMESPACE, config_map("row-99", {}, {"rows": "odd"}))
    same(names, [f"row-{number:02}" for number in range(25)], "the names")
    same([size for size, _ in chunks], [10, 10, 5], "the chunks")
    same(len(versions), 1, "the number of versions")
    core.delete_namespaced_config_map("row-99", NAMESPACE)
    even = core.list_namespaced_config_map(NAMESPACE, label_selector="rows in (even),rows!=odd")
    same(len(even.items), 13, "the number of even rows")
    one = core.list_namespaced_config_map(NAMESPACE, field_selector="metadata.name=row-03")
    same([item.metadata.name for item in one.items], ["row-03"], "the names")
    refused(400, "BadRequest", core.list_namespaced_config_map, NAMESPACE, label_selector="a in (")


@point
def watches_with_versions_and_bookmarks():
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, config_map("watched", {"n": "0"}))
    core.patch_namespaced_config_map("watched", NAMESPACE, {"data": {"n": "1"}})
    core.delete_namespaced_config_map("watched", NAMESPACE)
    seen = []
    watching = watch.Watch()
    for event in watching.stream(
        core.list_namespaced_config_map,
        NAMESPACE,
        field_selector="metadata.name=watched",
        resource_version=start,
        timeout_seconds=SECONDS,
    ):
        seen.append((event["type"], (event["object"].data or {}).get("n")))
        if len(seen) == 3:
            watching.stop()
    same(seen, [("ADDED", "0"), ("MODIFIED", "1"), ("DELETED", "1")], "what was seen")
    last = int(watching.resource_version)
    assert last > int(start), f"{last} is not after {start}"
    # the end of a watch that asked for bookmarks says how far it came
    for _ in range(3):
        core.patch_namespaced_config_map("one", NAMESPACE, {"metadata": {"labels": {"beat": str(time.time_ns())}}})
    newest = int(core.read_namespaced_config_map("one", NAMESPACE).metadata.resource_version)
    answer = core.list_namespaced_config_map(
        NAMESPACE,
        watch=True,
        field_selector="metadata.name=nothing",
        allow_watch_bookmarks=True,
        resource_version=start,
        timeout_seconds=4,
        _preload_content=False,
    )
    text = answer.read().decode()
    answer.release_conn()
    assert '"type":"BOOKMARK"' in text.replace('": "', '":"'), f"no bookmark in {text!r}"
    same(set(line.split('"type":"')[1].split('"')[0] for line in text.splitlines()), {"BOOKMARK"}, "the events")
    bookmark = int(text.split('"resourceVersion":"')[1].split('"')[0])
    assert bookmark >= newest, f"the bookmark is of {bookmark}, the newest change of {newest}"
    # too old for anybody
    try:
        for event in watch.Watch().stream(
            core.list_namespaced_config_map, NAMESPACE, resource_version="1", timeout_seconds=1
        ):
            assert event["type"] in ("ADDED", "MODIFIED", "DELETED"), event
    except ApiException as error:
        same(error.status, 410, "the status")


@point
def no_event_is_lost_between_two_watches():
    stop, made = threading.Event(), []

    def write(writer):
        rest, number = client.CoreV1Api(client.ApiClient()), 0
        while not stop.is_set():
            number += 1
            name = f"busy-{writer}-{number}"
            done = rest.create_namespaced_config_map(NAMESPACE, config_map(name, {}, {"busy": "yes"}))
            made.append((int(done.metadata.resource_version), name))

    version = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for writer in writers:
        writer.start()
    seen = set()
    try:
        for _ in range(5):
            answer = core.list_namespaced_config_map(
                NAMESPACE, watch=True, allow_watch_bookmarks=True, resource_version=version,
                timeout_seconds=1, _preload_content=False,
            )
            for line in answer:
                event = json.loads(line)
                version = event["object"]["metadata"]["resourceVersion"]
                seen.add(event["object"]["metadata"].get("name"))
            answer.release_conn()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    lost = [name for at, name in made if at <= int(version) and name not in seen]
    same(lost, [], f"what was lost of {len(made)}")
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="busy")


@point
def patches_of_every_sort():
    made = pod("patched", "busybox:static")
    template = client.V1PodTemplateSpec(metadata=made.metadata, spec=made.spec)
    template.spec.containers[0].env = [client.V1EnvVar(name="A", value="1")]
    spec = client.V1DeploymentSpec(
        replicas=0, selector=client.V1LabelSelector(match_labels={"app": "patched"}), template=template
    )
    apps.create_namespaced_deployment(
        NAMESPACE, client.V1Deployment(metadata=client.V1ObjectMeta(name="patched"), spec=spec)
    )
    env = lambda answer: [(one.name, one.value) for one in answer.spec.template.spec.containers[0].env or []]

    def patch(body, kind):
        return apps.patch_namespaced_deployment("patched", NAMESPACE, body, _content_type=kind)

    containers = lambda env: {"spec": {"template": {"spec": {"containers": [{"name": "main", "env": env}]}}}}
    answer = patch(containers([{"name": "B", "value": "2"}]), "application/strategic-merge-patch+json")
    same(sorted(env(answer)), [("A", "1"), ("B", "2")], "the variables after a strategic merge")
    same(answer.spec.template.spec.containers[0].image, "busybox:static", "the image")
    delete = containers([{"name": "A", "$patch": "delete"}])
    same(env(patch(delete, "application/strategic-merge-patch+json")), [("B", "2")], "the variables")
    whole = containers([{"name": "C", "value": "3"}])
    whole["spec"]["template"]["spec"]["containers"][0]["image"] = "busybox:static"
    same(env(patch(whole, "application/merge-patch+json")), [("C", "3")], "the variables after a merge")
    steps = [
        {"op": "test", "path": "/spec/replicas", "value": 0},
        {"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "D", "value": "4"}},
    ]
    # the client's own choice for a list
    answer = apps.patch_namespaced_deployment("patched", NAMESPACE, steps)
    same(env(answer), [("C", "3"), ("D", "4")], "the variables after a JSON patch")
    steps[0]["value"] = 7
    refused(422, "Invalid", apps.patch_namespaced_deployment, "patched", NAMESPACE, steps)
    scale = apps.patch_namespaced_deployment_scale("patched", NAMESPACE, {"spec": {"replicas": 0}})
    same((scale.kind, scale.spec.replicas or 0), ("Scale", 0), "the scale")


@point
def applies_on_the_servers_side():
    applied = lambda data: {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "applied"},
        "data": data,
    }

    def apply(data, manager, **options):
        return core.patch_namespaced_config_map(
            "applied",
            NAMESPACE,
            applied(data),
            field_manager=manager,
            _content_type="application/apply-patch+yaml",
            **options,
        )

    same(apply({"a": "1", "b": "1"}, "ada").data, {"a": "1", "b": "1"}, "the data")
    same(apply({"c": "1"}, "bob").data, {"a": "1", "b": "1", "c": "1"}, "the data")
    try:
        apply({"a": "2"}, "bob")
        raise AssertionError("no conflict")
    except ApiException as error:
        same(error.status, 409, "the status")
        body = error.body.decode() if isinstance(error.body, bytes) else error.body
        assert "conflict with" in body and ".data.a" in body, body
    same(apply({"a": "2"}, "bob", force=True).data, {"a": "2", "b": "1"}, "the data, c removed")
    answer = apply({}, "ada")
    same(answer.data, {"a": "2"}, "the data, b removed")
    managers = {(one.manager, one.operation) for one in answer.metadata.managed_fields}
    assert ("bob", "Apply") in managers, managers
