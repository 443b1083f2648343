"""Kinds that the client does not know beforehand."""

import os
import threading

from common import NAMESPACE, GROUP, SECONDS, customs, extensions, point, same, refused, eventually

from kubernetes import client, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError


@point
def custom_objects():
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1},
                    "color": {"type": "string", "default": "red"},
                },
            },
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"rafts.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": "rafts", "singular": "raft", "kind": "Raft", "shortNames": ["ra"]},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
    extensions.create_custom_resource_definition(definition)

    def established():
        read = extensions.read_custom_resource_definition(f"rafts.{GROUP}")
        return any(c.type == "Established" and c.status == "True" for c in read.status.conditions or [])

    eventually(established, "the definition is established")
    place = (GROUP, "v1", NAMESPACE, "rafts")
    raft = lambda name, spec: {
        "apiVersion": f"{GROUP}/v1", "kind": "Raft", "metadata": {"name": name}, "spec": spec,
    }
    made = customs.create_namespaced_custom_object(*place, raft("one", {"size": 3}))
    same(made["spec"], {"size": 3, "color": "red"}, "the object with its defaults")
    refused(422, "Invalid", customs.create_namespaced_custom_object, *place, raft("two", {"size": 0}))
    patched = customs.patch_namespaced_custom_object(*place, "one", {"spec": {"size": 4}})
    same((patched["spec"]["size"], patched["metadata"]["generation"]), (4, 2), "size and generation")
    status = customs.patch_namespaced_custom_object_status(*place, "one", {"status": {"afloat": True}})
    same((status["status"], status["metadata"]["generation"]), ({"afloat": True}, 2), "status and generation")
    listed = customs.list_namespaced_custom_object(*place)
    same([item["metadata"]["name"] for item in listed["items"]], ["one"], "the names")
    everywhere = customs.list_cluster_custom_object(GROUP, "v1", "rafts")
    same(len(everywhere["items"]), 1, "their number")
    seen = []
    watching = watch.Watch()
    customs.delete_namespaced_custom_object(*place, "one")
    for event in watching.stream(
        customs.list_namespaced_custom_object, *place,
        resource_version=listed["metadata"]["resourceVersion"], timeout_seconds=SECONDS,
    ):
        seen.append((event["type"], event["object"]["metadata"]["name"]))
        watching.stop()
    same(seen, [("DELETED", "one")], "what was seen")


@point
def finds_kinds_by_discovery():
    finder = dynamic.DynamicClient(client.ApiClient(), cache_file=os.path.join(os.getcwd(), "discovery.json"))
    same(finder.resources.get(api_version="v1", kind="Pod").name, "pods", "the resource")
    same(finder.resources.get(api_version="apps/v1", kind="Deployment").namespaced, True, "namespaced")
    maps = finder.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "found"}, "data": {"a": "1"}}
    same(maps.create(body=body, namespace=NAMESPACE).data.a, "1", "a")
    try:
        maps.create(body=body, namespace=NAMESPACE)
        raise AssertionError("made twice")
    except ConflictError as error:
        same(error.status, 409, "the status")
    kind = "application/merge-patch+json"
    patched = maps.patch(name="found", namespace=NAMESPACE, body={"data": {"b": "2"}}, content_type=kind)
    same(patched.data.to_dict(), {"a": "1", "b": "2"}, "the data")
    applied = maps.server_side_apply(
        namespace=NAMESPACE,
        body={"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "found"}, "data": {"c": "3"}},
        field_manager="roundtrip",
    )
    same(applied.data.c, "3", "c")
    seen = []
    threading.Timer(0.5, lambda: maps.delete(name="found", namespace=NAMESPACE)).start()
    watcher = watch.Watch()
    for event in maps.watch(namespace=NAMESPACE, name="found", timeout=20, watcher=watcher):
        seen.append(event["type"])
        if event["type"] == "DELETED":
            watcher.stop()
    same(seen[-1], "DELETED", "the last event")
    rafts = finder.resources.get(api_version=f"{GROUP}/v1", kind="Raft")
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Raft", "metadata": {"name": "two"}, "spec": {"size": 1}}
    same(rafts.create(body=body, namespace=NAMESPACE).spec.color, "red", "the default")
    same([raft.metadata.name for raft in rafts.get(namespace=NAMESPACE).items], ["two"], "the names")
    rafts.delete(name="two", namespace=NAMESPACE)
    try:
        rafts.get(name="two", namespace=NAMESPACE)
        raise AssertionError("it is still there")
    except NotFoundError as error:
        same(error.status, 404, "the status")
    extensions.delete_custom_resource_definition(f"rafts.{GROUP}")

    def gone():
        try:
            extensions.read_custom_resource_definition(f"rafts.{GROUP}")
        except ApiException as error:
            return error.status == 404
        return False

    eventually(gone, "the end of the definition")
